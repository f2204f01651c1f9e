package fdpass

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SendOver is Send on any connection with a UNIX socket below; its write
// deadline applies.
func SendOver(conn syscall.Conn, fd int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(s uintptr) bool {
		sent = unix.Sendmsg(int(s), []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN && sent != unix.EINTR
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("sendmsg", sent)
}

// RecvFrom is Recv on any connection with a UNIX socket below; its read
// deadline applies.
func RecvFrom(conn syscall.Conn) (*os.File, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	data := make([]byte, 1)
	control := make([]byte, unix.CmsgSpace(4*4))
	var n, nc int
	var got error
	err = raw.Read(func(s uintptr) bool {
		n, nc, _, _, got = unix.Recvmsg(int(s), data, control, unix.MSG_CMSG_CLOEXEC)
		return got != unix.EAGAIN && got != unix.EINTR
	})
	if err != nil {
		return nil, err
	}
	if got != nil {
		return nil, os.NewSyscallError("recvmsg", got)
	}
	fds, err := descriptors(control[:nc])
	if err != nil {
		return nil, err
	}
	if len(fds) == 0 {
		if n == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, ErrNoDescriptor
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), "passed"), nil
}
