package master

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// listen opens the endpoint of a service (spec §2.6). Local ones are made as
// mail_owner.
func (m *master) listen(s *serv, endpoint inetName) {
	backlog := max(s.maxproc, m.params.processLimit)
	var err error
	switch s.kind {
	case "inet":
		s.addrs = m.params.inetInterfaces
		err = m.listenInet(s, endpoint, backlog)
	case "fifo":
		err = m.asOwner(func() error { return listenFIFO(s) })
	case "unix-dgram":
		err = m.asOwner(func() error { return listenUnix(s, unix.SOCK_DGRAM, backlog, "unix_dgram_listen: ") })
	default:
		err = m.asOwner(func() error { return listenUnix(s, unix.SOCK_STREAM, backlog, "") })
	}
	if err != nil {
		m.log.Fatal("%v", err)
	}
}

func listenUnix(s *serv, kind, backlog int, prefix string) error {
	if len(s.name) >= len(unix.RawSockaddrUnix{}.Path) {
		return fmt.Errorf("%sunix-domain name too long: %s", prefix, s.name)
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", errno(err))
	}
	if err := unix.Unlink(s.name); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", s.name, errno(err))
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: s.name}); err != nil {
		return fmt.Errorf("bind: %s: %w", s.name, errno(err))
	}
	if err := unix.Chmod(s.name, 0o666); err != nil {
		return fmt.Errorf("chmod socket %s: %w", s.name, errno(err))
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, backlog); err != nil {
			return fmt.Errorf("listen: %w", errno(err))
		}
	}
	s.listen = []int{fd}
	return nil
}

func listenFIFO(s *serv) error {
	if err := unix.Unlink(s.name); err != nil && err != unix.ENOENT {
		return fmt.Errorf("fifo_listen: remove %s: %w", s.name, errno(err))
	}
	if err := unix.Mkfifo(s.name, 0o622); err != nil {
		return fmt.Errorf("fifo_listen: create fifo %s: %w", s.name, errno(err))
	}
	fd, err := unix.Open(s.name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("fifo_listen: open %s: %w", s.name, errno(err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fifo_listen: fstat %s: %w", s.name, errno(err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fmt.Errorf("fifo_listen: not a fifo: %s", s.name)
	}
	if err := unix.Fchmod(fd, 0o622); err != nil {
		return fmt.Errorf("fifo_listen: fchmod %s: %w", s.name, errno(err))
	}
	s.listen = []int{fd}
	return nil
}

func (m *master) listenInet(s *serv, endpoint inetName, backlog int) error {
	if !endpoint.known {
		return fmt.Errorf("%s: Servname not supported for ai_socktype", s.ext)
	}
	addrs, err := m.params.addresses(endpoint)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		fd, err := m.listenAddress(a, backlog)
		if err != nil {
			return err
		}
		s.listen = append(s.listen, fd)
	}
	return nil
}

func (m *master) listenAddress(a netip.AddrPort, backlog int) (int, error) {
	ip := a.Addr()
	family := unix.AF_INET6
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	if ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", errno(err))
	}
	if ip.Is6() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err != nil {
		return -1, fmt.Errorf("setsockopt(%s): %w", a, errno(err))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err := unix.Bind(fd, sa); err != nil {
		return -1, fmt.Errorf("bind %s port %d: %w", ip, a.Port(), errno(err))
	}
	if m.params.window > 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, m.params.window)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, m.params.window)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return -1, fmt.Errorf("listen: %w", errno(err))
	}
	return fd, nil
}
