package sock

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DialTCP connects to an address and port, within the time given; a timeout
// of 0 is none. The connection has TCP_NODELAY.
func DialTCP(ctx context.Context, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	remote := net.TCPAddrFromAddrPort(to)
	failed := func(call string, err error) error {
		if errno, ok := err.(unix.Errno); ok {
			err = os.NewSyscallError(call, errno)
		}
		return &net.OpError{Op: "dial", Net: "tcp", Addr: remote, Err: err}
	}
	var peer address
	size := peer.inet(to)
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(peer.raw.Addr.Family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return nil, failed("socket", errno)
	}
	c := newConn(int(fd), "tcp")
	c.local, c.remote = &net.TCPAddr{}, remote
	if timeout > 0 {
		c.out.deadline = time.Now().Add(timeout)
	}
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	err := c.try(&c.out, func(fd int) error {
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&peer.raw)), size)
		switch errno {
		case 0, unix.EISCONN:
			return nil
		case unix.EINPROGRESS, unix.EALREADY:
			return unix.EAGAIN
		}
		return errno
	})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, failed("connect", err)
	}
	c.SetWriteDeadline(time.Time{})
	c.setUp(c.fd)
	return c, nil
}

// inet makes it an internet address and returns its size.
func (a *address) inet(to netip.AddrPort) uintptr {
	if to.Addr().Is4() || to.Addr().Is4In6() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		sa.Family, sa.Addr = unix.AF_INET, to.Addr().Unmap().As4()
		setPort(&sa.Port, to.Port())
		return unsafe.Sizeof(*sa)
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
	sa.Family, sa.Addr = unix.AF_INET6, to.Addr().As16()
	setPort(&sa.Port, to.Port())
	return unsafe.Sizeof(*sa)
}

func setPort(p *uint16, port uint16) {
	b := (*[2]byte)(unsafe.Pointer(p))
	b[0], b[1] = byte(port>>8), byte(port)
}
