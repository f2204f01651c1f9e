package master

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// monitorWait is how long the foreground half of "master -w" waits.
const monitorWait = 100 * time.Second

// readyFD takes the monitor's descriptor out of the environment.
func (m *master) readyFD() {
	fd, err := strconv.Atoi(os.Getenv(envReady))
	os.Unsetenv(envReady)
	if err == nil && fd > 2 {
		m.ready = fd
		unix.CloseOnExec(fd)
	}
}

// monitor starts master in the background and waits until it is up (spec
// §3.3). A Go program cannot fork, so it executes itself.
func (m *master) monitor() int {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		m.log.Fatal("pipe: %v", errno(err))
	}
	self, err := os.Executable()
	if err != nil {
		m.log.Fatal("%v", err)
	}
	pid, err := syscall.ForkExec(self, m.argv, &syscall.ProcAttr{
		Env:   append(os.Environ(), envReady+"=3"),
		Files: []uintptr{0, 1, 2, uintptr(p[1])},
	})
	if err != nil {
		m.log.Fatal("fork: %v", errno(err))
	}
	unix.Close(p[1])
	switch err := awaitReady(p[0], monitorWait); {
	case err == nil:
		return 0
	case !errors.Is(err, errEnded):
		m.log.Warn("%v while waiting for daemon initialization", errno(err))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	m.log.Fatal("daemon initialization failure -- see logs for details")
	return 1
}

var errEnded = errors.New("end of file")

// awaitReady waits for one byte.
func awaitReady(fd int, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		left := time.Until(end)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		if n <= 0 {
			continue
		}
		var b [1]byte
		switch n, err := unix.Read(fd, b[:]); {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return errEnded
		default:
			return nil
		}
	}
}

// report tells the monitor that we are up.
func (m *master) report() {
	if m.ready >= 0 {
		_, _ = unix.Write(m.ready, []byte{0})
		unix.Close(m.ready)
		m.ready = -1
	}
}
