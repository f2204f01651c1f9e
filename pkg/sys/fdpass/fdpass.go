// Package fdpass hands an open file to another process over a UNIX socket, in
// the form of master's service type "pass": one zero byte with one descriptor
// (spec master.md §1.10).
package fdpass

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoDescriptor is returned when the peer's message carried no descriptor.
var ErrNoDescriptor = errors.New("no file descriptor in message")

// Send passes fd over a connection with a UNIX socket below, whose write
// deadline applies. The caller keeps its own copy, and should keep conn open
// until the receiver has closed it.
func Send(conn syscall.Conn, fd int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(s uintptr) bool {
		failed = unix.Sendmsg(int(s), []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err != nil {
		return err
	}
	return failed
}

// SendConn is Send for the descriptor of a connection.
func SendConn(conn, which syscall.Conn) error {
	raw, err := which.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = Send(conn, int(fd)) }); err != nil {
		return err
	}
	return failed
}

// Recv takes a descriptor, close-on-exec. The read deadline of conn applies.
// Descriptors beyond the first are closed.
func Recv(conn syscall.Conn) (*os.File, error) {
	fd, err := RecvFD(conn)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "passed"), nil
}

// RecvFD is Recv without a file around the descriptor, which the caller owns.
func RecvFD(conn syscall.Conn) (int, error) {
	rc, err := conn.SyscallConn()
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
		return -1, fmt.Errorf("%w: end of input", ErrNoDescriptor)
	case len(fds) == 0:
		return -1, ErrNoDescriptor
	}
	for _, extra := range fds[1:] {
		unix.Close(extra)
	}
	return fds[0], nil
}

func descriptors(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var fds []int
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
