// Package getopt reads command lines as POSIX getopt(3) does with a leading
// '+': options end at the first argument that is none, or at "--". Flags of
// one letter can be joined, and an option's value can be joined to it or be
// the next argument.
package getopt

import (
	"fmt"
	"strings"
)

// Option is one option as it was given.
type Option struct {
	Letter byte
	Value  string
}

// Error is a bad option; its text is the C library's, without the name of the
// program.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Parse reads args (without the name of the program) by a specification such
// as "bc:v": letters, with a colon behind those that take a value. It returns
// the options in order and the other arguments. With an *Error come the
// options before the bad one.
func Parse(args []string, spec string) (options []Option, rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		if len(arg) < 2 || arg[0] != '-' {
			break
		}
		args = args[1:]
		if arg == "--" {
			break
		}
		for i := 1; i < len(arg); i++ {
			letter := arg[i]
			at := strings.IndexByte(spec, letter)
			if letter == ':' || at < 0 {
				return options, args, &Error{fmt.Sprintf("invalid option -- '%c'", letter)}
			}
			if at+1 >= len(spec) || spec[at+1] != ':' {
				options = append(options, Option{Letter: letter})
				continue
			}
			value := arg[i+1:]
			if value == "" {
				if len(args) == 0 {
					return options, args, &Error{fmt.Sprintf("option requires an argument -- '%c'", letter)}
				}
				value, args = args[0], args[1:]
			}
			options = append(options, Option{letter, value})
			break
		}
	}
	return options, args, nil
}
