// Package smtpsource is the command smtp-source: it sends messages to an SMTP
// or LMTP server, as fast as it can or slowly, over as many connections as it
// is told. Its options are the original's, and so is what it says.
package smtpsource

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/load"
	"posthaste/pkg/sys/maillog"
)

const (
	ownOptions = "AdF:LNoS:"
	usageText  = "usage: %s -cdLNov -s sess -l msglen -m msgs -C count -M myhostname -f from -t to -r rcptcount -R delay -w delay host[:port]"
	port       = "smtp"
)

// tool is one run of the command.
type tool struct {
	*load.Source
	log      *maillog.Logger
	tolerant bool // -A
	keep     bool // -d: more messages over one connection
	lmtp     bool
	numbered bool // -N
	old      bool // -o
	subject  string
	file     string
	body     []byte       // of -F, as it is sent
	serial   atomic.Int64 // of -N
}

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. The exit status
// is 0 when all messages were sent.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

func run(args []string, env command.Env) int {
	log := load.Logger(args, env, 0)
	t := &tool{Source: load.NewSource(log, env), log: log}
	address, err := t.parse(args[1:])
	var unknown *getopt.Error
	switch {
	case errors.As(err, &unknown):
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], unknown)
		log.Fatal(usageText, args[0])
	case err != nil:
		log.Fatal("%v", err)
	case address == "":
		log.Fatal(usageText, args[0])
	}
	if t.file != "" {
		if t.body, err = readMessage(t.file); err != nil {
			log.Fatal("%v", err)
		}
	}
	if err := t.Ready(address, port); err != nil {
		log.Fatal("%v", err)
	}
	t.log = load.Logger(args[:1:1], env, t.Verbose)
	if t.Verbose > 0 {
		t.log.Info("sending to %s", address)
	}
	return t.Run(t.session)
}

// parse reads the command line; an empty address asks for the usage.
func (t *tool) parse(args []string) (address string, err error) {
	given, rest, err := getopt.Parse(args, load.SourceOptions+ownOptions)
	if err != nil {
		return "", err
	}
	for _, g := range given {
		switch g.Letter {
		case 'A':
			t.tolerant = true
		case 'd':
			t.keep = true
		case 'F':
			t.file = g.Value
		case 'L':
			t.lmtp = true
		case 'N':
			t.numbered = true
		case 'o':
			t.old = true
		case 'S':
			t.subject = g.Value
		default:
			if err := t.Option(g); err != nil {
				return "", err
			}
		}
		if t.file != "" && t.Length > 0 {
			return "", errors.New("-l option cannot be used with -F")
		}
	}
	if len(rest) != 1 {
		return "", nil
	}
	return rest[0], nil
}

// readMessage reads a message and makes of it what is sent after DATA: lines
// end with CR LF, those with a dot in front get another.
func readMessage(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, load.Reason(err))
	}
	out := make([]byte, 0, len(text)+len(text)/16+4)
	start := true
	for _, c := range text {
		if start && c == '.' {
			out = append(out, '.')
		}
		if start = c == '\n'; start {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return append(out, "\r\n"...), nil
}
