// Package fdpass hands an open file to another process over a UNIX socket, in
// the form of master's service type "pass": one zero byte with one descriptor
// (spec master.md §1.10).
package fdpass

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoDescriptor is returned when the peer's message carried no descriptor.
var ErrNoDescriptor = errors.New("no file descriptor in message")

// Send passes fd. The caller keeps its own copy, and should keep conn open
// until the receiver has closed it.
func Send(conn *net.UnixConn, fd int) error {
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil)
	return err
}

// Recv takes a descriptor, close-on-exec. The deadline of conn applies.
// Descriptors beyond the first are closed.
func Recv(conn *net.UnixConn) (*os.File, error) {
	data := make([]byte, 1)
	control := make([]byte, unix.CmsgSpace(4*4))
	n, nc, _, _, err := conn.ReadMsgUnix(data, control)
	if err != nil {
		return nil, err
	}
	fds, err := descriptors(control[:nc])
	if err != nil {
		return nil, err
	}
	if len(fds) == 0 {
		if n == 0 {
			return nil, fmt.Errorf("%w: end of input", ErrNoDescriptor)
		}
		return nil, ErrNoDescriptor
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "passed"), nil
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
