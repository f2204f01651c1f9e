// Package postlock is the command that locks a mailbox as the delivery agents
// do and runs another command meanwhile.
package postlock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/sys/maillog"
)

const usage = "usage: postlock [-c config_dir] [-l lock_style] [-v] folder command..."

// tempFail is the exit status when the mailbox could not be locked.
const tempFail = 75

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. The exit status
// is that of the command it ran, or 75.
func Run(args []string, env command.Env) int {
	syscall.Umask(0o077)
	code, err := run(args[1:], env)
	if err != nil {
		fmt.Fprintf(env.Stderr, "postlock: fatal: %v\n", err)
	}
	return code
}

func run(args []string, env command.Env) (int, error) {
	dir, _ := env.Lookup("MAIL_CONFIG")
	style, words, ok := parse(args, &dir)
	if !ok || len(words) < 2 {
		return tempFail, errors.New(usage)
	}
	warn := func(format string, a ...any) { fmt.Fprintf(env.Stderr, "postlock: warning: "+format+"\n", a...) }
	fatal := func(format string, a ...any) {
		fmt.Fprintf(env.Stderr, "postlock: fatal: "+format+"\n", a...)
		os.Exit(tempFail)
	}
	c, err := conf.Load(conf.Options{Dir: dir, ProcessName: "postlock", Warn: warn, Fatal: fatal})
	if err != nil {
		return tempFail, err
	}
	if style == "" {
		style = c.String("mailbox_delivery_lock")
	}
	l, err := locks(style)
	if err != nil {
		return tempFail, err
	}
	l.attempts, l.delay, l.stale = c.Int("deliver_lock_attempts"), c.Duration("deliver_lock_delay"), c.Duration("stale_lock_time")
	release, err := l.lock(words[0])
	if err != nil {
		return tempFail, fmt.Errorf("open file %s: %w", words[0], err)
	}
	defer release()
	return execute(words[1:], env)
}

func parse(args []string, dir *string) (style string, words []string, ok bool) {
	given, words, err := getopt.Parse(args, "c:l:v")
	for _, g := range given {
		switch g.Letter {
		case 'c':
			*dir = g.Value
		case 'l':
			style = g.Value
		}
	}
	return style, words, err == nil
}

// locker takes the locks that mailbox_delivery_lock names.
type locker struct {
	dot, flock, fcntl bool
	attempts          int
	delay, stale      time.Duration
}

func locks(text string) (*locker, error) {
	l := &locker{}
	styles := map[string]*bool{"dotlock": &l.dot, "flock": &l.flock, "fcntl": &l.fcntl}
	for _, word := range conf.Fields(text) {
		p, ok := styles[word]
		if !ok {
			return nil, fmt.Errorf("unknown mailbox_delivery_lock value \"%s\" in \"%s\"", word, text)
		}
		*p = true
	}
	return l, nil
}

func (l *locker) lock(path string) (release func(), err error) {
	unlock := func() error { return nil }
	st, err := os.Stat(path)
	if l.dot && (err != nil || st.Mode().IsRegular()) {
		unlock, err = filelock.DotLock(path, filelock.DotOptions{Attempts: l.attempts, Delay: l.delay, Stale: l.stale})
		if err != nil {
			return nil, words(err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		_ = unlock()
		return nil, fmt.Errorf("cannot open file: %w", words(err))
	}
	for _, s := range []struct {
		want  bool
		style filelock.Style
	}{{l.flock, filelock.Flock}, {l.fcntl, filelock.Fcntl}} {
		if !s.want {
			continue
		}
		if err := l.kernel(f, s.style); err != nil {
			f.Close()
			_ = unlock()
			return nil, fmt.Errorf("unable to lock for exclusive access: %w", words(err))
		}
	}
	return func() { f.Close(); _ = unlock() }, nil
}

func (l *locker) kernel(f *os.File, style filelock.Style) (err error) {
	for range max(l.attempts, 1) {
		err = filelock.Lock(f, filelock.Exclusive, style, false)
		if err == nil || !filelock.IsBusy(err) {
			return err
		}
		time.Sleep(l.delay)
	}
	return syscall.EAGAIN
}

// words gives system errors the C library's words.
func words(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return maillog.Errno(pe.Err)
	}
	var errno syscall.Errno
	if e, ok := err.(syscall.Errno); ok {
		return maillog.Errno(e)
	}
	if errors.As(err, &errno) {
		return wrapped{err, errno}
	}
	return err
}

// wrapped is an error whose last part is a system error.
type wrapped struct {
	error
	errno syscall.Errno
}

func (w wrapped) Error() string {
	text, last := w.error.Error(), w.errno.Error()
	if len(text) >= len(last) && text[len(text)-len(last):] == last {
		return text[:len(text)-len(last)] + maillog.Errno(w.errno).Error()
	}
	return text
}

func execute(argv []string, env command.Env) (int, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = env.Stdin, env.Stdout, env.Stderr, env.Environ
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &ended):
		if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return int(status.Signal()), nil
		}
		return ended.ExitCode(), nil
	case errors.Is(err, exec.ErrNotFound):
		err = maillog.Errno(syscall.ENOENT)
	default:
		err = words(err)
	}
	return 1, fmt.Errorf("execvp %s: %w", argv[0], err)
}
