package service

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/sock"
)

// poller is what the accept loop waits in: an epoll set of its own that is
// itself registered with the runtime's poller. A loop that waits in poll(2)
// would hold a thread, and each connection would cost a hand-over of the
// processor from that thread and back.
type poller struct {
	fd       int
	f        *os.File
	raw      syscall.RawConn
	listen   []int
	watching bool
	events   [16]unix.EpollEvent
}

// newPoller makes a set that watches some descriptors always, and the listen
// descriptors after watch(true).
func newPoller(listen []int, always ...int) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	p := &poller{fd: fd, f: os.NewFile(uintptr(fd), "epoll"), listen: listen}
	if p.raw, err = p.f.SyscallConn(); err != nil {
		p.close()
		return nil, err
	}
	for _, fd := range always {
		if err := p.control(unix.EPOLL_CTL_ADD, fd); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *poller) close() { _ = p.f.Close() }

func (p *poller) control(op, fd int) error {
	return unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// watch says whether wait is to report the listen descriptors.
func (p *poller) watch(on bool) error {
	if on == p.watching {
		return nil
	}
	op := unix.EPOLL_CTL_ADD
	if !on {
		op = unix.EPOLL_CTL_DEL
	}
	for _, fd := range p.listen {
		if err := p.control(op, fd); err != nil {
			return err
		}
	}
	p.watching = on
	return nil
}

// wait returns what is ready, nothing after a time.
func (p *poller) wait(d time.Duration) ([]unix.EpollEvent, error) {
	if err := p.f.SetReadDeadline(time.Now().Add(max(d, time.Millisecond))); err != nil {
		return nil, err
	}
	var n int
	err := p.raw.Read(func(fd uintptr) bool {
		n = sock.Ready(int(fd), p.events[:])
		return n > 0
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return p.events[:n], err
}
