// Package spawn runs a command for each connection, with the connection as its
// standard input, output and error: inetd for master.cf (spec delivery.md §6,
// ipc.md §2.18).
//
// The command runs as the user that master.cf names, never as root or as
// mail_owner, in a session of its own, with a bare environment and a time limit
// (NAME_time_limit) after which its process group is killed. What the command
// does wrong is a warning.
package spawn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/service"
	"posthaste/pkg/service/mailcommand"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// sign is how often the watchdog hears that a command is being waited for.
const sign = 10 * time.Second

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{}
	return service.Run(service.Service{
		Name: "spawn", Kind: service.Single, Privileged: true, Arguments: true,
		Setup: d.setup,
		Serve: d.serve,
	}, args, os.Environ())
}

// daemon is what master.cf and main.cf say.
type daemon struct {
	log   *maillog.Logger
	argv  []string
	id    *cred.Identity // whom to run as; nil: as we are (rootless)
	env   []string
	limit time.Duration // 0 is none
}

// setup reads the arguments in master.cf.
func (d *daemon) setup(rt *service.Runtime) error {
	d.log = rt.Log
	a, err := parse(rt.Args)
	if err != nil {
		return err
	}
	d.argv = a.argv
	if rt.Root {
		if err := permitted(a.id, rt.Owner); err != nil {
			return err
		}
		d.id = &a.id
	}
	d.env = mailcommand.Environment(os.Environ(), rt.Config.List("export_environment"))
	d.limit = rt.Config.ServiceDuration(rt.ServiceName, "_time_limit", "command_time_limit")
	return nil
}

// attributes are the arguments in master.cf.
type attributes struct {
	id   cred.Identity
	argv []string
}

// parse reads user= and, as the last one, argv=.
func parse(args []string) (a attributes, err error) {
	user := false
	for i, arg := range args {
		if name, ok := strings.CutPrefix(arg, "user="); ok {
			if a.id, err = account(name); err != nil {
				return a, err
			}
			user = true
			continue
		}
		first, ok := strings.CutPrefix(arg, "argv=")
		if !ok {
			return a, fmt.Errorf("unknown attribute name: %s", arg)
		}
		a.argv = append([]string{first}, args[i+1:]...)
		break
	}
	switch {
	case !user:
		return a, errors.New("missing user= attribute")
	case len(a.argv) == 0:
		return a, errors.New("missing argv= attribute")
	}
	return a, nil
}

// account finds NAME or NAME:GROUP.
func account(text string) (cred.Identity, error) {
	name, group, hasGroup := strings.Cut(text, ":")
	id, err := cred.Lookup(name)
	if errors.Is(err, cred.ErrUnknownUser) {
		return id, fmt.Errorf("unknown user name: %s", name)
	}
	if err != nil {
		return id, err
	}
	if hasGroup {
		if id.GID, err = cred.LookupGroup(group); err != nil {
			return id, fmt.Errorf("unknown group name: %s", group)
		}
	}
	id.Groups = []int{id.GID}
	return id, nil
}

// permitted refuses the identities with which a command could do harm to the
// mail system.
func permitted(id, owner cred.Identity) error {
	const none = 1<<32 - 1 // what the system calls take for "leave it"
	switch {
	case id.UID == 0:
		return errors.New("request to deliver as root")
	case id.UID == owner.UID:
		return errors.New("request to deliver as mail system owner")
	case id.GID == 0:
		return fmt.Errorf("request to use privileged group id %d", id.GID)
	case id.GID == owner.GID:
		return fmt.Errorf("request to use mail system owner group id %d", id.GID)
	case id.UID == -1 || id.UID == none:
		return errors.New("user must not have user ID -1")
	case id.GID == -1 || id.GID == none:
		return errors.New("user must not have group ID -1")
	}
	return nil
}

// serve runs the command on one connection.
func (d *daemon) serve(_ context.Context, conn *service.Conn) error {
	f, err := file(conn.Raw())
	if err != nil {
		return err
	}
	cmd, err := d.start(f)
	f.Close()
	if err != nil {
		d.log.Warn("spawn_comand: execvp %s: %v", d.argv[0], maillog.Errno(err))
		return nil
	}
	d.report(d.wait(cmd, conn.Alive))
	return nil
}

// file is the connection for a command, which expects reads to wait.
func file(conn net.Conn) (*os.File, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("the connection is no socket")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, failed := -1, error(nil)
	err = rc.Control(func(s uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, failed = syscall.Dup(int(s)); failed == nil {
			syscall.CloseOnExec(fd)
			failed = syscall.SetNonblock(fd, false)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "connection"), nil
}

// start starts the command; root's rights are taken up for that time.
func (d *daemon) start(f *os.File) (*exec.Cmd, error) {
	path, err := find(d.argv[0])
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: d.argv, Env: d.env, Stdin: f, Stdout: f, Stderr: f,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if d.id == nil {
		return cmd, cmd.Start()
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(d.id.UID), Gid: uint32(d.id.GID), Groups: []uint32{uint32(d.id.GID)}}
	return cmd, cred.As(cred.Identity{}, cmd.Start)
}

// find looks a command up in the path that it will have.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range []string{"/usr/bin", "/bin"} {
		if st, err := os.Stat(filepath.Join(dir, name)); name != "" && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return filepath.Join(dir, name), nil
		}
	}
	return "", syscall.ENOENT
}

// wait waits for the end of the command, and brings it about at the time limit.
func (d *daemon) wait(cmd *exec.Cmd, alive func()) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var limit <-chan time.Time
	if d.limit > 0 {
		timer := time.NewTimer(d.limit)
		defer timer.Stop()
		limit = timer.C
	}
	tick := time.NewTicker(sign)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			alive()
		case <-limit:
			d.log.Warn("%s: process id %d: command time limit exceeded", d.argv[0], cmd.Process.Pid)
			d.kill(cmd.Process.Pid)
		}
	}
}

// kill ends the command's process group, with the rights of its user: a number
// that is used again by another user's process does no harm.
func (d *daemon) kill(pid int) {
	send := func() error { return syscall.Kill(-pid, syscall.SIGKILL) }
	var err error
	if d.id == nil {
		err = send()
	} else {
		err = cred.As(*d.id, send)
	}
	if err != nil {
		d.log.Warn("%s: process id %d: cannot be killed: %v", d.argv[0], pid, maillog.Errno(err))
	}
}

// report logs an end that was no success.
func (d *daemon) report(err error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return
	case !errors.As(err, &exit):
		d.log.Warn("command %s: %v", d.argv[0], err)
		return
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		d.log.Warn("command %s killed by signal %d", d.argv[0], status.Signal())
	} else {
		d.log.Warn("command %s exit status %d", d.argv[0], status.ExitStatus())
	}
}
