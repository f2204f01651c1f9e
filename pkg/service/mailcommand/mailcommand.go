// Package mailcommand delivers a message to an external command, and makes a
// delivery status of what becomes of that (spec delivery.md §1.7). Agents local
// and pipe share it.
//
// A command that fails, or cannot be started, is a status. Errors are
// mailbox.ErrCorrupt for a damaged queue file, and the context's when we are
// being stopped: then nothing can be said about the message.
package mailcommand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/proc"
)

// Command is a command that takes a message.
type Command struct {
	proc.Command        // Stdin is not used
	Name         string // what texts call it: the command line, or the program
	Process      string // our name in the output of a child that cannot become the command
	Caller       string // before "execvp" in that output
	NoScripts    bool   // a file without #! is an error rather than the shell's
}

// Result is how the delivery to a command ended.
type Result struct {
	Taken  bool       // the command took the message
	Output string     // what it wrote then, as one line
	Status dsn.Status // of the failure else; its code is the command's choice and may have any class
}

// Deliver runs the command with the message as its input.
func Deliver(ctx context.Context, j *agent.Job, c Command, f mailbox.Format) (Result, error) {
	if c.Chroot != "" {
		if err := cred.As(cred.Identity{}, func() error { return canEnter(c.Chroot) }); err != nil {
			fatalInChild(j, fmt.Sprintf("chroot(%s): %s", c.Chroot, maillog.Errno(err)))
			return Result{Status: exits[tempFail].status()}, nil
		}
		c.Argv = insideChroot(c.Argv, c.Chroot)
		// A relative directory, or none, would be our own: outside.
		c.Dir = filepath.Join("/", c.Dir)
		if err := cred.As(cred.Identity{}, func() error { return canEnter(c.Chroot + c.Dir) }); err != nil {
			return Result{Status: c.noDirectory(j, err)}, nil
		}
	}
	if c.Dir != "" && c.Chroot == "" && c.Identity != nil {
		if err := cred.As(*c.Identity, func() error { return canEnter(c.Dir) }); err != nil {
			return Result{Status: c.noDirectory(j, err)}, nil
		}
	}
	run := c.Command
	r, copied, err := feed(ctx, j, run, f)
	if errors.Is(err, syscall.ENOEXEC) && !c.NoScripts {
		// A script without #! is the shell's, as with execvp.
		words := run.Argv
		if len(words) == 0 {
			words = strings.Fields(run.ShellCommand)
		}
		run.ShellCommand, run.Argv = "", append([]string{"/bin/sh"}, words...)
		r, copied, err = feed(ctx, j, run, f)
	}
	switch {
	case err != nil:
		return Result{Status: c.notStarted(j, err)}, nil
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case errors.Is(copied, mailbox.ErrCorrupt) && r.ExitCode == 0:
		return Result{}, mailbox.ErrCorrupt
	case r.TimedOut && copied != nil:
		j.Log.Warn("pipe_command_write: write time limit exceeded")
	case r.TimedOut:
		j.Log.Warn("pipe_command_read: read time limit exceeded")
	}
	if r.ExitCode != 0 || r.TimedOut {
		return Result{Status: judge(r, c.Name)}, nil
	}
	if st, unread := judgeInput(copied, c.Name); unread {
		return Result{Status: st}, nil
	}
	return Result{Taken: true, Output: printable(r.Output)}, nil
}

// feed runs the command and gives it the message; copied tells how that went.
func feed(ctx context.Context, j *agent.Job, c proc.Command, f mailbox.Format) (r proc.Result, copied, err error) {
	message, feeder := io.Pipe()
	fed := make(chan error, 1)
	go func() {
		err := mailbox.Copy(feeder, j, f)
		feeder.CloseWithError(err)
		fed <- err
	}()
	c.Stdin = message
	r, err = c.Run(ctx)
	message.Close()
	return r, <-fed, err
}

// insideChroot gives a program without a slash in its name the path that it has
// below the new root, if it is there.
func insideChroot(argv []string, root string) []string {
	if len(argv) == 0 || strings.Contains(argv[0], "/") {
		return argv
	}
	for _, dir := range []string{"/usr/bin/", "/bin/"} {
		file := dir + argv[0]
		// What a symbolic link points at can be told by the kernel only.
		if info, err := os.Lstat(root + file); err == nil && !info.IsDir() {
			return append([]string{file}, argv[1:]...)
		}
	}
	return append([]string{"/bin/" + argv[0]}, argv[1:]...)
}

func canEnter(dir string) error {
	info, err := os.Stat(dir + "/.")
	if err == nil && !info.IsDir() {
		return syscall.ENOTDIR
	}
	return err
}

func (c *Command) noDirectory(j *agent.Job, err error) dsn.Status {
	fatalInChild(j, fmt.Sprintf("cannot change directory to \"%s\" for uid=%d gid=%d: %s",
		c.Dir, c.Identity.UID, c.Identity.GID, maillog.Errno(err)))
	return exits[tempFail].status()
}

// notStarted is the status of a command that cannot be run: a mistake of its
// owner's that may be mended, or ours.
func (c *Command) notStarted(j *agent.Job, err error) dsn.Status {
	why := maillog.Errno(err).Error()
	var path *os.PathError
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) || !errors.As(err, &path) && !errors.Is(err, syscall.ENOENT) {
		j.Log.Warn("fork: %s", why)
		return dsn.Status{Code: "4.3.0", Reason: "Delivery failed: " + why, DiagType: "x-unix", DiagText: "system resource problem"}
	}
	program := c.Name
	if words := strings.Fields(program); len(words) > 0 && len(c.Argv) == 0 {
		program = words[0]
	}
	problem := c.Caller + "execvp " + program + ": " + why
	fatalInChild(j, problem)
	return exits[tempFail].with(c.Process + ": fatal: " + problem + " ")
}

// fatalInChild logs what Postfix's child process logs before it ends with
// status 75. Nothing of ours ends.
func fatalInChild(j *agent.Job, problem string) { j.Log.Log(maillog.LevelFatal, "%s", problem) }

// judge makes a status of how a command failed; the table is in delivery.md §1.7.
func judge(r proc.Result, name string) dsn.Status {
	out, quoted := printable(r.Output), ": \""+name+"\""
	switch {
	case r.TimedOut:
		return exit{"5.3.0", "Command time limit exceeded" + quoted, "internal software error"}.with(out)
	case r.Signal != 0:
		return exit{"4.3.0", "Command died with signal " + strconv.Itoa(int(r.Signal)) + quoted, "internal software error"}.with(out)
	}
	if code, text := dsn.Split(out, ""); code != "" {
		return dsn.Status{Code: code, Reason: text, DiagType: "x-unix", DiagText: text}
	}
	if e, known := exits[r.ExitCode]; known {
		return e.with(out)
	}
	n := strconv.Itoa(r.ExitCode)
	return exit{"5.3.0", "Command died with status " + n + quoted, "unknown mail system error " + n}.with(out)
}

// judgeInput is for a command that says it has the message. That it did not read
// all of it is its own business; that we could not read all of it is ours.
func judgeInput(copied error, name string) (st dsn.Status, unread bool) {
	var known *mailbox.StatusError
	if !errors.As(copied, &known) || errors.Is(copied, syscall.EPIPE) || errors.Is(copied, io.ErrClosedPipe) {
		return st, false
	}
	st = known.Status
	st.Reason = "Command failed: " + st.Reason + ": \"" + name + "\""
	return st, true
}

// Environment is what export_environment lets through of ours, and the path.
func Environment(ours, exports []string) []string {
	var env []string
	for _, name := range exports {
		if name, value, ok := strings.Cut(strings.Trim(name, "{}"), "="); ok {
			env = append(env, strings.TrimSpace(name)+"="+strings.TrimSpace(value))
			continue
		}
		for _, e := range ours {
			if strings.HasPrefix(e, name+"=") {
				env = append(env, e)
			}
		}
	}
	return append(env, "PATH=/usr/bin:/bin")
}
