package service

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/flow"
	"posthaste/pkg/sys/maillog"
)

// supervise splits an Event daemon in two, since such a daemon must serve its
// clients on after master has seen it end (spec §1.8), and a Go program cannot
// fork: master's child waits, and the daemon proper is its child. The parent
// ends when the daemon does, with the same status, or at once when master
// closes the status channel or the daemon says so, and so lets a successor start
// while the daemon drains. It reports false in the daemon proper.
func (p *process) supervise(argv, env []string) (code int, parent bool) {
	if p.env(envStatusPid) != "" {
		p.alive = ListenFD + p.o.sockets
		unix.CloseOnExec(p.alive)
		return 0, false
	}
	self, err := os.Executable()
	p.must(err)
	var alive [2]int // its end tells the daemon that we are gone
	if err := unix.Pipe2(alive[:], unix.O_CLOEXEC); err != nil {
		p.log.Fatal("pipe: %v", maillog.Errno(err))
	}
	files := []uintptr{0, 1, 2, flow.ReadFD, flow.WriteFD, StatusFD}
	for i := range p.o.sockets {
		files = append(files, uintptr(ListenFD+i))
	}
	files = append(files, uintptr(alive[0]))
	release := make(chan os.Signal, 1)
	signal.Notify(release, releaseSignal)
	childEnv := append(append([]string{}, env...), envStatusPid+"="+strconv.Itoa(os.Getpid()))
	pid, err := syscall.ForkExec(self, argv, &syscall.ProcAttr{Env: childEnv, Files: files})
	if err != nil {
		p.log.Fatal("fork: %v", maillog.Errno(err))
	}
	for _, fd := range files[ListenFD:] {
		unix.Close(int(fd))
	}
	p.dropPrivileges(".")
	ended := make(chan int, 1)
	go func() { ended <- wait(pid) }()
	gone := make(chan struct{})
	go func() {
		fds := []unix.PollFd{{Fd: StatusFD, Events: unix.POLLIN}}
		for {
			if n, err := unix.Poll(fds, -1); n > 0 || err != nil && err != unix.EINTR {
				close(gone)
				return
			}
		}
	}()
	select {
	case code = <-ended:
		return code, true
	case <-gone:
		return 0, true
	case <-release:
		return 0, true
	}
}

// releaseSignal tells the supervisor that the daemon drains.
const releaseSignal = syscall.SIGUSR1

// release lets the supervisor end, so that master, who counts it, can start a
// successor while our last clients are being served. A supervisor that was
// killed has left its place to a process that is none.
func (v *server) release() {
	if parent := os.Getppid(); parent == v.status.pid {
		_ = syscall.Kill(parent, releaseSignal)
	}
}

func wait(pid int) int {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 1
		case status.Signaled():
			_ = syscall.Kill(os.Getpid(), status.Signal())
			return 1
		case status.Exited():
			return status.ExitStatus()
		}
	}
}

// statusPid is the pid under which master knows us.
func statusPid(getenv func(string) string) int {
	if n, err := strconv.Atoi(strings.TrimSpace(getenv(envStatusPid))); err == nil {
		return n
	}
	return os.Getpid()
}

// follow makes the daemon proper leave with its supervisor.
func (v *server) follow(alive int) {
	var b [1]byte
	for {
		if _, err := unix.Read(alive, b[:]); err != unix.EINTR {
			v.quit("supervisor ended")
			return
		}
	}
}
