package scache

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"posthaste/pkg/ipc/attr"
)

// The sender of a descriptor waits until its receiver says, by an empty list
// "dummy", that it is ready (spec ipc.md §1.5).
const ready = "dummy"

var (
	errNoDescriptor = errors.New("no file descriptor in message")
	errAhead        = errors.New("client did not wait for our answer")
)

func (c *client) waitReady() error {
	var empty string
	return c.in.Scan(attr.Str(ready, &empty))
}

// receive takes a descriptor from the client.
func (c *client) receive() (fd int, err error) {
	if c.in.Buffered().Buffered() > 0 {
		return -1, errAhead // the descriptor may be lost already
	}
	if err := c.out.Str(ready, "").Send(); err != nil {
		return -1, err
	}
	rc, err := c.raw.SyscallConn()
	if err != nil {
		return -1, err
	}
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4*4))
	var n, nc int
	var failed error
	err = rc.Read(func(s uintptr) bool {
		n, nc, _, _, failed = unix.Recvmsg(int(s), data, control, unix.MSG_CMSG_CLOEXEC)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return -1, err
	}
	fds, err := descriptors(control[:nc])
	switch {
	case err != nil:
		return -1, err
	case len(fds) == 0 && n == 0:
		return -1, fmt.Errorf("%w: end of input", errNoDescriptor)
	case len(fds) == 0:
		return -1, errNoDescriptor
	}
	for _, extra := range fds[1:] {
		unix.Close(extra)
	}
	return fds[0], nil
}

func descriptors(control []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// send passes a descriptor to the client and waits until it has it.
func (c *client) send(fd int) error {
	if err := c.waitReady(); err != nil {
		return err
	}
	rc, err := c.raw.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = rc.Write(func(s uintptr) bool {
		failed = unix.Sendmsg(int(s), []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return c.waitReady()
}
