// Package rmail is the command that takes a message from UUCP, reads from its
// leading "From" lines which way it came, and hands it to sendmail with that as
// the sender. It reads no configuration.
package rmail

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
)

// sendmail is where every Unix mail system has it.
const sendmail = "/usr/lib/sendmail"

// Exit statuses, from sysexits.h.
const (
	exUsage    = 64
	exData     = 65
	exSoftware = 70
)

// maxFrom bounds a "From" line in bytes.
const maxFrom = 2048

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. The exit status
// is sendmail's, so that UUCP keeps a message that was not taken.
func Run(args []string, env command.Env) int { return run(args, env, sendmail) }

func run(args []string, env command.Env, sendmail string) int {
	name := filepath.Base(args[0])
	say := func(code int, format string, a ...any) int {
		fmt.Fprintf(env.Stderr, name+": "+format+"\n", a...)
		return code
	}
	given, recipients, err := getopt.Parse(args[1:], "D:T")
	if err != nil {
		say(0, "%v", err)
	}
	if err != nil || len(recipients) == 0 {
		fmt.Fprintln(env.Stderr, "usage: rmail [-T] [-D domain] user ...")
		return exUsage
	}
	domain, trace := "UUCP", false
	for _, g := range given {
		if g.Letter == 'D' {
			domain = g.Value
		} else {
			trace = true
		}
	}
	in := bufio.NewReaderSize(env.Stdin, maxFrom)
	o, err := readOrigin(in)
	switch {
	case errors.Is(err, errEmpty):
		return exData // as the original, without a word
	case err != nil:
		return say(exData, "%v", err)
	}
	argv := o.arguments(domain, recipients)
	if trace {
		fmt.Fprintf(env.Stderr, "remote from: %s\nfrom_sys: %s\nfrom_path: %s\nfrom_user: %s\nSendmail arguments:\n\t%s\n\t%s\n",
			o.system, o.system, o.path, o.user, sendmail, strings.Join(argv, "\n\t"))
	}
	cmd := &exec.Cmd{
		Path: sendmail, Args: append([]string{sendmail}, argv...), Env: env.Environ,
		Stdin: in, Stdout: env.Stdout, Stderr: env.Stderr,
	}
	var ended *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		return 0
	case errors.As(err, &ended) && ended.ExitCode() > 0:
		return say(ended.ExitCode(), "%s: terminated with %d (non-zero) status", sendmail, ended.ExitCode())
	case errors.As(err, &ended):
		return say(exSoftware, "%s: did not terminate normally", sendmail)
	default:
		return say(exSoftware, "%v", err)
	}
}

// origin is which way a message came.
type origin struct {
	system string // the nearest one; "" if none is known
	path   string // systems, each with a "!" behind it
	user   string
}

var (
	errLong  = errors.New("line too long")
	errEmpty = errors.New("no message")
)

// readOrigin reads the leading "From " and ">From " lines. What is behind them
// is still in in.
func readOrigin(in *bufio.Reader) (o origin, err error) {
	for lines := 0; ; lines++ {
		rest, is := fromLine(in)
		if !is && lines > 0 {
			if _, err := in.Peek(1); err != nil {
				return o, errEmpty
			}
			return o, nil
		}
		if !is {
			line, _ := in.ReadString('\n')
			if line == "" {
				return o, errEmpty
			}
			return o, fmt.Errorf("missing or empty From line: %s", strings.TrimSuffix(line, "\n"))
		}
		if rest == "" {
			return o, errLong
		}
		if err := o.add(rest); err != nil {
			return o, err
		}
	}
}

// fromLine takes such a line off the input; an empty one was too long.
func fromLine(in *bufio.Reader) (line string, is bool) {
	head, _ := in.Peek(6)
	if !strings.HasPrefix(string(head), "From ") && string(head) != ">From " {
		return "", false
	}
	raw, err := in.ReadSlice('\n')
	if err != nil && err != io.EOF {
		return "", true
	}
	return strings.TrimSuffix(string(raw), "\n"), true
}

// add takes a line into account: "From user date [remote from system]".
func (o *origin) add(line string) error {
	text := strings.TrimLeft(line[strings.IndexByte(line, ' '):], " \t")
	if text == "" {
		return fmt.Errorf("corrupted From line: %s", line)
	}
	user, rest := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		user, rest = text[:i], text[i:]
	}
	system := ""
	if _, after, ok := strings.Cut(rest, " remote from "); ok {
		system, _, _ = strings.Cut(strings.TrimLeft(after, " "), " ")
	}
	if system == "" {
		if i := strings.LastIndexByte(user, '!'); i >= 0 {
			system, user = user[:i], user[i+1:]
		}
	}
	if system != "" {
		if o.system == "" {
			o.system = system
		}
		o.path += system + "!"
	}
	if i := strings.LastIndexByte(user, '!'); i >= 0 {
		o.path += user[:i+1]
		user = user[i+1:]
	}
	o.user = user
	return nil
}

// arguments are sendmail's. Queueing only, so that UUCP does not wait.
func (o origin) arguments(domain string, recipients []string) []string {
	argv := []string{"-G", "-oee", "-odq", "-oi"}
	if o.system == "" {
		argv = append(argv, "-p"+domain)
	} else {
		argv = append(argv, "-p"+domain+":"+o.system+"."+domain)
	}
	argv = append(argv, "-f"+o.path+o.user)
	for _, r := range recipients {
		// sendmail would make two of one with a comma in it.
		if strings.Contains(r, ",") && !strings.Contains(r, "<") {
			r = "<" + r + ">"
		}
		argv = append(argv, r)
	}
	return argv
}
