// Package postcat is the command postcat: it shows queue files in readable
// form (spec queue.md §6).
//
// What is wrong with a file is a warning on standard error and does not change
// the exit status; what keeps the command from reading on is fatal, exit
// status 1. It logs nowhere but to standard error.
package postcat

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// options say what is shown, and how.
type options struct {
	envelope, header, body bool
	offsets, types         bool // in front of each record
	raw                    bool // file order; works only with verbose
	verbose                bool // pointers, padding, and names for text
	search                 bool // arguments are queue ids
	start                  int64
	configDir              string
}

// Main runs the command in the environment of the process.
func Main(args []string) int {
	code := Run(args, command.OS())
	if code != 0 {
		time.Sleep(time.Second) // as every fatal error of the original
	}
	return code
}

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	log := maillog.New(maillog.Config{StderrOnly: true, StderrTag: args[0], ErrorOutput: env.Stderr, UTF8: true})
	if err := run(args, env, log); err != nil {
		log.Log(maillog.LevelFatal, "%v", err)
		return 1
	}
	return 0
}

func run(args []string, env command.Env, log *maillog.Logger) error {
	o, files, err := parse(args, env)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(env.Stdout)
	defer out.Flush()
	p := &printer{options: o, out: out, log: log}
	if len(files) == 0 {
		return p.stdin(env.Stdin)
	}
	open := openFile
	if o.search {
		if open, err = searcher(o, log); err != nil {
			return err
		}
	}
	for _, name := range files {
		f, path, err := open(name)
		if err != nil {
			return err
		}
		if o.start > 0 {
			_, err = f.Seek(o.start, io.SeekStart)
		}
		if err == nil {
			err = p.file(f, path)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

const usage = "usage: %s [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] [file(s)...]"

func parse(args []string, env command.Env) (o options, files []string, err error) {
	given, files, err := getopt.Parse(args[1:], "bc:dehoqrs:v")
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], err)
		return o, nil, fmt.Errorf(usage, args[0])
	}
	flags := map[byte]*bool{'b': &o.body, 'd': &o.types, 'e': &o.envelope, 'h': &o.header, 'o': &o.offsets, 'q': &o.search, 'r': &o.raw, 'v': &o.verbose}
	for _, option := range given {
		switch option.Letter {
		case 'c':
			o.configDir = option.Value
		case 's':
			if o.start, err = offset(option.Value); err != nil {
				return o, nil, err
			}
		default:
			*flags[option.Letter] = true
		}
	}
	if !o.body && !o.envelope && !o.header {
		o.body, o.envelope, o.header = true, true, true
	}
	return o, files, nil
}

func offset(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strings.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' }) >= 0 {
		return 0, fmt.Errorf("bad offset: %s", text)
	}
	return n, nil
}

func openFile(name string) (*os.File, string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, "", fmt.Errorf("open %s: %w", name, maillog.Errno(err))
	}
	return f, name, nil
}

// searcher returns a function that opens a message of the queue by its id.
// The queues are tried twice, because the message may be on its way from one
// to another.
func searcher(o options, log *maillog.Logger) (func(id string) (*os.File, string, error), error) {
	cfg, err := conf.Load(conf.Options{Dir: o.configDir, ProcessName: "postcat", Fatal: log.Fatal, Warn: log.Warn})
	if err != nil {
		return nil, err
	}
	if err := command.Chdir(cfg); err != nil {
		return nil, err
	}
	spool := queue.Open("", cfg).WithLog(log)
	return func(id string) (*os.File, string, error) {
		if !queue.ValidID(id) {
			return nil, "", fmt.Errorf("bad mail queue ID: %s", id)
		}
		var err error
		for range 2 {
			for _, name := range [...]string{queue.Maildrop, queue.Incoming, queue.Active, queue.Deferred, queue.Hold, queue.Saved} {
				var f *os.File
				if f, err = spool.Open(name, id, os.O_RDONLY); err == nil {
					return f, spool.Path(name, id), nil
				}
				if !errors.Is(err, fs.ErrNotExist) {
					break
				}
			}
		}
		return nil, "", fmt.Errorf("open queue file %s: %w", id, maillog.Errno(err))
	}, nil
}
