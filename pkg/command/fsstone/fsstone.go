// Package fsstone is the program of that name: it does to files in the working
// directory what a mail queue does, and says how long that took.
//
// Unlike the original's, each write is on stable storage before the file is
// closed: the original asks for that before it hands the data to the kernel.
package fsstone

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/load"
	"posthaste/pkg/sys/maillog"
)

const (
	usageText   = "usage: %s [-cr] [-s size] messages directory_entries"
	defaultSize = 2 // of a file, in kilobytes
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

// stone is one measurement.
type stone struct {
	messages, entries int
	create, rename    bool // -c, -r
	text              []byte
}

func run(args []string, env command.Env) int {
	log := load.Logger(args, env, 0)
	s, err := parse(args[1:])
	var unknown *getopt.Error
	if errors.As(err, &unknown) {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], unknown)
	}
	if err != nil {
		log.Fatal(usageText, args[0])
	}
	took, err := s.measure()
	if err != nil {
		log.Fatal("%v", err)
	}
	fmt.Fprintf(env.Stdout, "elapsed time: %.6f\n", took.Seconds())
	return 0
}

var errUsage = errors.New("usage")

func parse(args []string) (*stone, error) {
	s, size, ok := &stone{}, defaultSize, true
	given, rest, err := getopt.Parse(args, "crs:")
	if err != nil {
		return nil, err
	}
	for _, g := range given {
		switch g.Letter {
		case 'c':
			s.create = true
		case 'r':
			s.rename = true
		case 's':
			size, ok = load.Number(g.Value, 1)
		}
		if !ok {
			return nil, errUsage
		}
	}
	if len(rest) != 2 || s.rename && !s.create {
		return nil, errUsage
	}
	var ok2 bool
	s.messages, ok = load.Number(rest[0], 1)
	s.entries, ok2 = load.Number(rest[1], 1)
	if !ok || !ok2 {
		return nil, errUsage
	}
	s.text = bytes.Repeat([]byte{'x'}, size<<10)
	return s, nil
}

func name(n int) string { return fmt.Sprintf("%06d", n) }

// measure fills the directory, takes the time that the messages need, and
// empties the directory.
func (s *stone) measure() (took time.Duration, err error) {
	made := 0
	defer func() {
		for n := range made {
			err = errors.Join(err, trouble("remove", name(n), os.Remove(name(n))))
		}
	}()
	for made < s.entries {
		if err := s.write(name(made)); err != nil {
			return 0, err
		}
		made++
	}
	start := time.Now()
	for n := range s.messages {
		file := name(n % s.entries)
		if s.create {
			err = s.recreate(file, name(n%s.entries+s.entries))
		} else {
			err = s.rewrite(file)
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// write makes a file and reads it back.
func (s *stone) write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return trouble("open", file, err)
	}
	_, err = f.Write(s.text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return trouble("write", file, err)
	}
	if f, err = os.Open(file); err != nil {
		return trouble("open", file, err)
	}
	_, err = io.Copy(io.Discard, f)
	return trouble("read", file, errors.Join(err, f.Close()))
}

// rewrite is a message in a file that exists, which is emptied again.
func (s *stone) rewrite(file string) error {
	if err := s.write(file); err != nil {
		return err
	}
	return trouble("truncate", file, os.Truncate(file, 0))
}

// recreate is a message in a new file, with -r one that moves there and back.
func (s *stone) recreate(file, other string) error {
	if err := os.Remove(file); err != nil {
		return trouble("remove", file, err)
	}
	if err := s.write(file); err != nil || !s.rename {
		return err
	}
	if err := os.Rename(file, other); err != nil {
		return trouble("rename", file, err)
	}
	return trouble("rename", other, os.Rename(other, file))
}

func trouble(what, file string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, file, maillog.Errno(load.Reason(err)))
}
