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
	c := newConn(fd, "tcp")
	c.local, c.remote = &net.TCPAddr{}, remote
	if sa, err := unix.Getsockname(fd); err == nil {
		c.local = tcpAddr(sa)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	return c
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
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	for err == unix.EINTR {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
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
