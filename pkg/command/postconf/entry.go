package postconf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
	"posthaste/pkg/conf/mastercf"
)

// Field numbers of a master.cf entry.
const (
	fieldName = iota
	fieldType
	fieldPrivate
	fieldUnprivileged
	fieldChroot
	fieldWakeup
	fieldLimit
	fieldCommand
	fieldCount
)

var fieldNames = [fieldCount]string{"service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command"}

// entry is one service of master.cf with its command's arguments brought into
// normal form: -o stands alone before its "name=value".
type entry struct {
	fields     [fieldCount]string
	args       []string
	options    int               // how many of args are the leading options and -o values
	parameters map[string]string // what -o sets, the last value of each
	readOnly   []string          // settings of parameters that cannot be set
	used       map[string]bool
}

var errFieldCount = errors.New("bad field count")

func parseEntry(text string, warn func(format string, a ...any)) (*entry, error) {
	words := mastercf.Split(text)
	if len(words) < fieldCount {
		return nil, errFieldCount
	}
	e := &entry{used: map[string]bool{}}
	copy(e.fields[:], words)
	for i, value := range e.fields {
		if err := checkField(i, value, text); err != nil {
			return nil, err
		}
	}
	e.setArgs(words[fieldCount:], warn)
	return e, nil
}

// setArgs normalizes and stores the arguments of the command.
func (e *entry) setArgs(words []string, warn func(format string, a ...any)) {
	e.args, e.options = normalize(words, func(err error) { warn("master.cf: %s", err) })
	e.findParameters()
}

// findParameters collects what -o sets.
func (e *entry) findParameters() {
	e.parameters, e.readOnly = map[string]string{}, nil
	for i := 0; i+1 < e.options; i++ {
		if e.args[i] != "-o" {
			continue
		}
		i++
		name, value, ok := strings.Cut(e.args[i], "=")
		switch {
		case !ok || name == "":
		case isReadOnly(name):
			e.readOnly = append(e.readOnly, e.args[i])
		default:
			e.parameters[name] = value
		}
	}
}

// checkField checks one field the way postconf does, which is stricter than
// master in some and looser in other things.
func checkField(i int, value, text string) error {
	ok := true
	switch i {
	case fieldType:
		ok = slices.Contains([]string{"unix", "fifo", "inet", "pass", "unix-dgram"}, value)
	case fieldPrivate, fieldUnprivileged, fieldChroot:
		ok = value == "y" || value == "n" || value == "-"
	case fieldWakeup:
		number := strings.TrimSuffix(value, "?")
		ok = value != "" && (number == "-" || strings.Trim(number, "0123456789") == "")
	case fieldLimit:
		ok = value == "-" || value != "" && strings.Trim(value, "0123456789") == ""
	}
	if ok {
		return nil
	}
	return fmt.Errorf(`invalid %s field "%s" in "%s"`, fieldNames[i], value, strings.ReplaceAll(text, "\n", " "))
}

// normalize brings arguments into normal form and returns how many belong to
// the leading options.
func normalize(words []string, bad func(error)) (args []string, options int) {
	i := 0
	for i < len(words) {
		word := words[i]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			break
		}
		i++
		at := strings.IndexByte(word, 'o')
		if at < 0 {
			args = append(args, word)
			continue
		}
		if at > 1 {
			args = append(args, word[:at])
		}
		args = append(args, "-o")
		value := word[at+1:]
		if value == "" {
			if i == len(words) {
				break
			}
			value = words[i]
			i++
		}
		args = append(args, normalSetting(value, bad))
	}
	options = len(args)
	for _, word := range words[i:] {
		if strings.HasPrefix(word, "{") {
			word = unbrace(word, bad)
		}
		args = append(args, word)
	}
	return args, options
}

// unbrace takes off the braces; with bad syntax it takes what there is.
func unbrace(word string, bad func(error)) string {
	inner, err := conf.Unbrace(word)
	if err == nil {
		return inner
	}
	bad(err)
	end := macro.Closing("{" + strings.TrimPrefix(word, "{"))
	if word = strings.TrimPrefix(word, "{"); end > 0 {
		word = word[:end-1]
	}
	return conf.Trim(word)
}

// normalSetting writes a braced "{ name = value }" as "name=value".
func normalSetting(word string, bad func(error)) string {
	if !strings.HasPrefix(word, "{") {
		return word
	}
	inner := unbrace(word, bad)
	name, value, err := conf.SplitNameValue(inner)
	if err != nil {
		bad(err)
		return inner
	}
	return name + "=" + value
}

// columns are where fields 2 to 8 start when what is before them is shorter.
var columns = [fieldCount]int{0, 11, 17, 25, 33, 41, 49, 57}

// quoted returns an argument as master.cf wants it written.
func quoted(arg string) string {
	if arg == "" || strings.ContainsAny(arg, " \t\r\n") {
		return "{" + arg + "}"
	}
	return arg
}

// text returns the entry in postconf's layout; folded as -Mf prints it.
func (e *entry) text(folded bool) string {
	var line strings.Builder
	for i, f := range e.fields {
		if i > 0 {
			line.WriteString(strings.Repeat(" ", max(1, columns[i]-line.Len())))
		}
		line.WriteString(f)
	}
	return appendArgs(line.String(), e, folded)
}

// appendArgs adds the arguments to a line that ends with the command.
func appendArgs(line string, e *entry, folded bool) string {
	var out strings.Builder
	out.WriteString(line)
	length := len(line)
	put := func(text string, newLine bool) {
		if newLine {
			out.WriteString("\n" + strings.Repeat(" ", indent))
			length = indent
		} else {
			out.WriteByte(' ')
			length++
		}
		out.WriteString(text)
		length += len(text)
	}
	fresh := false  // an option and its value end a line
	options := true // not yet behind the leading options
	for i := 0; i < len(e.args); i++ {
		arg := e.args[i]
		options = options && strings.HasPrefix(arg, "-") && arg != "--"
		// A lone "-" is no option, but the original lays it out as if it were -o.
		if folded && options && (arg == "-o" || arg == "-") && i+1 < len(e.args) {
			put(arg, true)
			i++
			put(quoted(e.args[i]), false)
			fresh = true
			continue
		}
		// The braces do not count when it is decided where a word goes.
		put(quoted(arg), folded && (fresh || length+1+len(arg) >= lineLimit))
		fresh = false
	}
	return out.String()
}
