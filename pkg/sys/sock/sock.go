// Package sock makes network connections of sockets without package net's
// ceremony. net.FileConn duplicates the descriptor, registers both with the
// poller, and asks the kernel for what accept has told already, fifteen system
// calls a client; net.Dialer starts a goroutine and a timer for a connect(2)
// that never waits. Errors are *net.OpError, as package net's are.
package sock

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a stream socket.
type conn struct {
	f             *os.File
	network       string
	local, remote net.Addr
}

// Accepted makes a connection of a socket that accept4 returned, non-blocking
// and with the peer's address. It takes the descriptor over. TCP gets
// TCP_NODELAY, and SO_KEEPALIVE with the system's times.
func Accepted(fd int, peer unix.Sockaddr) net.Conn {
	remote := tcpAddr(peer)
	if remote == nil {
		return unixConn(fd, "")
	}
	c := &conn{f: os.NewFile(uintptr(fd), "socket"), network: "tcp", local: &net.TCPAddr{}, remote: remote}
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
	return &conn{f: os.NewFile(uintptr(fd), "socket"), network: "unix",
		local: &net.UnixAddr{Net: "unix"}, remote: &net.UnixAddr{Name: path, Net: "unix"}}
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

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.f.Read(b)
	return n, c.error("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.f.Write(b)
	return n, c.error("write", err)
}

func (c *conn) Close() error                          { return c.error("close", c.f.Close()) }
func (c *conn) LocalAddr() net.Addr                   { return c.local }
func (c *conn) RemoteAddr() net.Addr                  { return c.remote }
func (c *conn) SetDeadline(t time.Time) error         { return c.error("set", c.f.SetDeadline(t)) }
func (c *conn) SetReadDeadline(t time.Time) error     { return c.error("set", c.f.SetReadDeadline(t)) }
func (c *conn) SetWriteDeadline(t time.Time) error    { return c.error("set", c.f.SetWriteDeadline(t)) }
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.f.SyscallConn() }

// error makes an error of package net out of one of a file.
func (c *conn) error(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.remote, Err: err}
}
