// Package sock makes network connections of sockets without package net's
// ceremony. net.FileConn duplicates the descriptor, registers both with the
// poller, and asks the kernel for what accept has told already, fifteen system
// calls a client; net.Dialer starts a goroutine and a timer for a connect(2)
// that never waits. Errors are *net.OpError, as package net's are.
package sock

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Accepted makes a connection of a socket that accept4 returned, non-blocking
// and with the peer's address. It takes the descriptor over. TCP gets
// TCP_NODELAY, and SO_KEEPALIVE with the system's times.
func Accepted(fd int, peer unix.Sockaddr) net.Conn {
	remote := tcpAddr(peer)
	if remote == nil {
		return unixConn(fd, "")
	}
	return tcpConn(fd, remote)
}

func tcpConn(fd int, remote *net.TCPAddr) net.Conn {
	c := newConn(fd, "tcp")
	c.local, c.remote = &net.TCPAddr{}, remote
	c.setUp(fd)
	setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	return c
}

// setUp finds out the own address of a TCP connection, and has it send at
// once.
func (c *conn) setUp(fd int) {
	var local address
	if local.of(unix.SYS_GETSOCKNAME, fd) == 0 {
		if a := local.tcp(); a != nil {
			c.local = a
		}
	}
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
}

// Client is a descriptor that Accept returned.
type Client struct {
	FD     int
	remote *net.TCPAddr // nil: UNIX-domain
}

// Accept takes a client off a listening socket that does not block.
func Accept(fd int) (Client, error) {
	var peer address
	nfd, errno := peer.accept(fd)
	if errno != 0 {
		return Client{}, errno
	}
	return Client{nfd, peer.tcp()}, nil
}

// Conn makes a connection of it, as Accepted does.
func (c Client) Conn() net.Conn {
	if c.remote == nil {
		return unixConn(c.FD, "")
	}
	return tcpConn(c.FD, c.remote)
}

// DialUnix connects to a UNIX-domain stream socket. It never waits: when the
// listener's queue is full the error is EAGAIN.
func DialUnix(path string) (net.Conn, error) {
	fd, err := connectUnix(path)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: err}
	}
	return unixConn(fd, path), nil
}

func connectUnix(path string) (int, error) {
	var to address
	size := to.unix(path)
	if size == 0 {
		return -1, os.NewSyscallError("connect", unix.EINVAL)
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	errno = unix.EINTR
	for errno == unix.EINTR {
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&to)), size)
	}
	if errno != 0 {
		unix.Close(int(fd))
		return -1, os.NewSyscallError("connect", errno)
	}
	return int(fd), nil
}

func unixConn(fd int, path string) net.Conn {
	c := newConn(fd, "unix")
	c.local, c.remote = &net.UnixAddr{Net: "unix"}, &net.UnixAddr{Name: path, Net: "unix"}
	return c
}

// tcpAddr is nil for what is no internet address.
func tcpAddr(sa unix.Sockaddr) *net.TCPAddr {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				addr = addr.WithZone(i.Name)
			}
		}
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(a.Port)))
	}
	return nil
}

// error makes an error of package net.
func (c *conn) error(op string, err error) error {
	if err == nil {
		return nil
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.remote, Err: err}
}
