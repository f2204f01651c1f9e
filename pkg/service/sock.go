package service

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

// sock is an accepted stream socket. net.FileConn would make a connection of
// it, too, but duplicates the descriptor first, registers both, and asks the
// kernel for what accept has told already: fifteen system calls a client.
type sock struct {
	f             *os.File
	network       string
	local, remote net.Addr
}

// newSock takes the descriptor over, which must be non-blocking.
func newSock(fd int, peer unix.Sockaddr) net.Conn {
	s := &sock{f: os.NewFile(uintptr(fd), "client"), network: "unix", local: &net.UnixAddr{Net: "unix"}, remote: &net.UnixAddr{Net: "unix"}}
	if remote := tcpAddr(peer); remote != nil {
		s.network, s.local, s.remote = "tcp", &net.TCPAddr{}, remote
		if own, err := unix.Getsockname(fd); err == nil {
			s.local = tcpAddr(own)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	}
	return s
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

func (s *sock) Read(b []byte) (int, error) {
	n, err := s.f.Read(b)
	return n, s.error("read", err)
}

func (s *sock) Write(b []byte) (int, error) {
	n, err := s.f.Write(b)
	return n, s.error("write", err)
}

func (s *sock) Close() error                          { return s.error("close", s.f.Close()) }
func (s *sock) LocalAddr() net.Addr                   { return s.local }
func (s *sock) RemoteAddr() net.Addr                  { return s.remote }
func (s *sock) SetDeadline(t time.Time) error         { return s.error("set", s.f.SetDeadline(t)) }
func (s *sock) SetReadDeadline(t time.Time) error     { return s.error("set", s.f.SetReadDeadline(t)) }
func (s *sock) SetWriteDeadline(t time.Time) error    { return s.error("set", s.f.SetWriteDeadline(t)) }
func (s *sock) SyscallConn() (syscall.RawConn, error) { return s.f.SyscallConn() }

// error makes an error of package net out of one of a file.
func (s *sock) error(op string, err error) error {
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
	return &net.OpError{Op: op, Net: s.network, Source: s.local, Addr: s.remote, Err: err}
}
