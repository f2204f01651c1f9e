// Package proc runs a command for somebody: as another user, in its own
// session and process group, with a bare environment, a time limit and a bound on its
// output (spec delivery.md §1.7).
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/sys/cred"
)

// Defaults of Command.
const (
	DefaultMaxOutput = 4096 // bytes of output kept
	killWait         = time.Second
)

// Command is what to run. Either Argv or ShellCommand is set.
type Command struct {
	Argv         []string       // program and arguments; searched in PATH of Env when it has no slash
	ShellCommand string         // a command line: run directly when it is plain words, else by /bin/sh -c
	Shell        string         // program and options that get ShellCommand as last argument instead (local_command_shell)
	Env          []string       // the whole environment, "NAME=value"
	Dir          string         // working directory; "" is ours
	Identity     *cred.Identity // whom to run as; nil, or when we are not root: as we are
	Stdin        io.Reader      // nil is /dev/null
	TimeLimit    time.Duration  // 0 is none
	MaxOutput    int            // bytes of standard output and error to keep; 0 is DefaultMaxOutput
	Chroot       string         // directory to chroot to first; "" is none
}

// Result is how the command ended.
type Result struct {
	ExitCode int            // -1 when a signal ended it
	Signal   syscall.Signal // 0 when none did
	TimedOut bool           // it ran into TimeLimit (or the context) and its group was killed
	Output   []byte         // the first MaxOutput bytes of standard output and error
	StdinErr error          // why Stdin was not copied to its end: a read error, or EPIPE when the command did not read it all
}

// StartError is returned when no process could be started.
type StartError struct{ Err error }

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Run runs the command to its end. The error is a *StartError when it did not
// start; everything after that is in the Result. When the process has ended
// but a descendant holds its output open, Run waits for that too, within the
// time limit.
func (c *Command) Run(ctx context.Context) (Result, error) {
	path, argv, err := c.program()
	if err != nil {
		return Result{}, &StartError{err}
	}
	if c.TimeLimit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.TimeLimit)
		defer cancel()
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return Result{}, &StartError{err}
	}
	defer outRead.Close()
	cmd := exec.Cmd{
		Path: path, Args: argv, Env: c.Env, Dir: c.Dir,
		Stdout: outWrite, Stderr: outWrite,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Chroot: c.Chroot, Credential: c.credential()},
	}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	var stdin io.WriteCloser
	if c.Stdin != nil {
		if stdin, err = cmd.StdinPipe(); err != nil {
			outWrite.Close()
			return Result{}, &StartError{err}
		}
	}
	err = start(&cmd)
	outWrite.Close()
	if err != nil {
		return Result{}, &StartError{err}
	}
	return c.attend(ctx, &cmd, stdin, outRead), nil
}

// start starts the process. A daemon that is root only in reserve takes that
// up for the time of the fork, to give the child its identity.
func start(cmd *exec.Cmd) error {
	if os.Getuid() == 0 && os.Geteuid() != 0 {
		return cred.As(cred.Identity{}, cmd.Start)
	}
	return cmd.Start()
}

// attend feeds the running command, keeps its output, and waits for its end.
func (c *Command) attend(ctx context.Context, cmd *exec.Cmd, stdin io.WriteCloser, out *os.File) Result {
	fed := make(chan error, 1)
	if stdin == nil {
		fed <- nil
	} else {
		go func() {
			_, err := io.Copy(stdin, c.Stdin)
			if e := stdin.Close(); err == nil {
				err = e
			}
			fed <- err
		}()
	}
	kept := make(chan []byte, 1)
	go func() { kept <- keep(out, c.MaxOutput) }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	var r Result
	var waitErr error
	var waited, read bool
	for !waited || !read {
		select {
		case waitErr = <-ended:
			waited = true
		case r.Output = <-kept:
			read = true
		case <-ctx.Done():
			r.TimedOut = true
			c.kill(cmd.Process.Pid)
			if !waited {
				waitErr = <-ended
				waited = true
			}
			if !read {
				_ = out.SetReadDeadline(time.Now().Add(killWait))
				r.Output = <-kept
				read = true
			}
		}
	}
	if stdin != nil {
		stdin.Close() // ends a copy nobody reads
	}
	select {
	case r.StdinErr = <-fed:
	case <-time.After(killWait):
		r.StdinErr = errors.New("input was not read to its end")
	}
	if errors.Is(r.StdinErr, os.ErrClosed) { // Wait closed it under the copy
		r.StdinErr = syscall.EPIPE
	}
	c.judge(&r, cmd, waitErr)
	return r
}

func (c *Command) judge(r *Result, cmd *exec.Cmd, waitErr error) {
	if cmd.ProcessState == nil {
		r.ExitCode = -1
		r.StdinErr = errors.Join(r.StdinErr, waitErr)
		return
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		r.ExitCode, r.Signal = -1, status.Signal()
		return
	}
	r.ExitCode = cmd.ProcessState.ExitCode()
}

// kill ends the whole process group, with the rights of its user so that a
// reused number can do no harm.
func (c *Command) kill(pid int) {
	send := func() error {
		if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
			return syscall.Kill(pid, syscall.SIGKILL)
		}
		return nil
	}
	if c.Identity == nil || cred.As(*c.Identity, send) != nil {
		_ = send()
	}
}

func (c *Command) credential() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	if c.Identity == nil {
		if os.Geteuid() == 0 {
			return nil
		}
		// "As we are" is not the root that we keep in reserve.
		return &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), Groups: []uint32{uint32(os.Getegid())}}
	}
	cr := &syscall.Credential{Uid: uint32(c.Identity.UID), Gid: uint32(c.Identity.GID)}
	for _, g := range c.Identity.Groups {
		cr.Groups = append(cr.Groups, uint32(g))
	}
	if cr.Groups == nil {
		cr.Groups = []uint32{cr.Gid}
	}
	return cr
}

// plain are the characters of a command line that needs no shell.
const plain = "1234567890!@%-_=+:,./" + "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + " \t"

// program finds the file to run and its arguments. A command line of plain
// words whose program does not exist goes to the shell, which may know it.
func (c *Command) program() (path string, argv []string, err error) {
	if len(c.Argv) > 0 {
		path, err = find(c.Argv[0], c.Env)
		return path, c.Argv, err
	}
	line := strings.Trim(c.ShellCommand, " \t")
	if line == "" {
		return "", nil, errors.New("empty command")
	}
	if c.Shell != "" {
		argv = append(strings.Fields(c.Shell), line)
		path, err = find(argv[0], c.Env)
		return path, argv, err
	}
	if onlyPlain(line) {
		argv = strings.Fields(line)
		path, err = find(argv[0], c.Env)
		if !errors.Is(err, syscall.ENOENT) {
			return path, argv, err
		}
	}
	return "/bin/sh", []string{"sh", "-c", line}, nil
}

func onlyPlain(line string) bool {
	for i := 0; i < len(line); i++ {
		if strings.IndexByte(plain, line[i]) < 0 {
			return false
		}
	}
	return true
}

// find looks a program up in the PATH of env.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/bin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			continue
		}
		file := dir + "/" + name
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, syscall.ENOENT)
}

// keep reads r to its end and returns the first limit bytes.
func keep(r io.Reader, limit int) []byte {
	if limit <= 0 {
		limit = DefaultMaxOutput
	}
	head, _ := io.ReadAll(io.LimitReader(r, int64(limit)))
	_, _ = io.Copy(io.Discard, r)
	return head
}
