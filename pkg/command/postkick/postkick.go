// Package postkick is the command that wakes up a service: it delivers bytes,
// each of which is a request, to its socket or FIFO (spec ipc.md §1.6).
package postkick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/trigger"
	"posthaste/pkg/sys/maillog"
)

const usage = "usage: postkick [-c config_dir] [-v] class service request"

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. Trouble is told
// on standard error only; the exit status is then 1.
func Run(args []string, env command.Env) int {
	dir, _ := env.Lookup("MAIL_CONFIG")
	words, err := parse(args[1:], &dir)
	if err == nil {
		err = kick(dir, words, env)
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "postkick: %v\n", err)
		return 1
	}
	return 0
}

func kick(dir string, words []string, env command.Env) error {
	warn := func(format string, a ...any) { fmt.Fprintf(env.Stderr, "postkick: warning: "+format+"\n", a...) }
	fatal := func(format string, a ...any) {
		fmt.Fprintf(env.Stderr, "postkick: fatal: "+format+"\n", a...)
		os.Exit(1)
	}
	c, err := conf.Load(conf.Options{Dir: dir, ProcessName: "postkick", Warn: warn, Fatal: fatal})
	if err != nil {
		return fmt.Errorf("fatal: %w", err)
	}
	queue := c.String("queue_directory")
	path := filepath.Join(queue, words[0], words[1])
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := trigger.SendPath(ctx, path, words[2]); err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			err = maillog.Errno(errno)
		}
		warn("unable to look up %s/%s: %v", words[0], words[1], err)
		return fmt.Errorf("warning: Cannot contact class %s service %s - perhaps the mail system is down", words[0], words[1])
	}
	return nil
}

func parse(args []string, dir *string) ([]string, error) {
	given, words, err := getopt.Parse(args, "c:v")
	if err != nil || len(words) != 3 {
		return nil, errors.New("fatal: " + usage)
	}
	for _, g := range given {
		if g.Letter == 'c' {
			*dir = g.Value
		}
	}
	return words, nil
}
