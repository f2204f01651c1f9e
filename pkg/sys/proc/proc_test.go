package proc

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/sys/cred"
)

func TestRun(t *testing.T) {
	for _, x := range []struct {
		name   string
		c      Command
		code   int
		signal syscall.Signal
		output string
	}{
		{"argv", Command{Argv: []string{"/bin/echo", "a b"}}, 0, 0, "a b\n"},
		{"path", Command{Argv: []string{"echo", "x"}, Env: []string{"PATH=/usr/bin:/bin"}}, 0, 0, "x\n"},
		{"plain words", Command{ShellCommand: " echo  a   b "}, 0, 0, "a b\n"},
		{"shell", Command{ShellCommand: "echo $((1+2)); exit 7"}, 7, 0, "3\n"},
		{"built-in", Command{ShellCommand: "exit 75"}, 75, 0, ""},
		{"own shell", Command{ShellCommand: "a; b", Shell: "/bin/echo -n"}, 0, 0, "a; b"},
		{"environment", Command{Argv: []string{"/usr/bin/env"}, Env: []string{"A=1"}}, 0, 0, "A=1\n"},
		{"empty environment", Command{Argv: []string{"/usr/bin/env"}}, 0, 0, ""},
		{"signal", Command{ShellCommand: "kill -9 $$"}, -1, syscall.SIGKILL, ""},
		{"input", Command{Argv: []string{"/bin/cat"}, Stdin: strings.NewReader("hello")}, 0, 0, "hello"},
		{"directory", Command{Argv: []string{"/bin/pwd"}, Dir: "/usr"}, 0, 0, "/usr\n"},
		{"output is cut", Command{ShellCommand: "yes | head -c 100000", MaxOutput: 3}, 0, 0, "y\ny"},
	} {
		r, err := x.c.Run(context.Background())
		if err != nil || r.ExitCode != x.code || r.Signal != x.signal || string(r.Output) != x.output || r.TimedOut {
			t.Errorf("%s: %+v, %v", x.name, r, err)
		}
	}
}

func TestTimeLimitKillsGroup(t *testing.T) {
	c := Command{ShellCommand: "sleep 60 & sleep 60; true", TimeLimit: 200 * time.Millisecond}
	begin := time.Now()
	r, err := c.Run(context.Background())
	if err != nil || !r.TimedOut || r.Signal != syscall.SIGKILL || time.Since(begin) > 5*time.Second {
		t.Errorf("%+v, %v after %v", r, err, time.Since(begin))
	}
}

// A command that does not read its input ends as it likes.
func TestUnreadInput(t *testing.T) {
	c := Command{Argv: []string{"/bin/true"}, Stdin: strings.NewReader(strings.Repeat("x", 1<<20))}
	r, err := c.Run(context.Background())
	if err != nil || r.ExitCode != 0 || !errors.Is(r.StdinErr, syscall.EPIPE) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNotFound(t *testing.T) {
	c := Command{Argv: []string{"/nonexistent"}}
	_, err := c.Run(context.Background())
	var start *StartError
	if !errors.As(err, &start) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v", err)
	}
}

func TestIdentity(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to run as somebody else")
	}
	c := Command{Argv: []string{"/usr/bin/id", "-u"}, Identity: &cred.Identity{UID: 1234, GID: 1234}}
	if r, err := c.Run(context.Background()); err != nil || string(r.Output) != "1234\n" {
		t.Errorf("%s, %v", r.Output, err)
	}
	// Also from a process that works as an ordinary user.
	err := cred.As(cred.Identity{UID: 55, GID: 55}, func() error {
		r, err := c.Run(context.Background())
		if string(r.Output) != "1234\n" {
			t.Errorf("from another user: %q", r.Output)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
