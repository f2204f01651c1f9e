package qmqpd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/wire/dns"
)

const unknown = "unknown"

// peer is the client.
type peer struct {
	name, addr, port string
	family           int    // AF_INET, AF_INET6; 0 for a local client
	namaddr          string // name[addr] or name[addr]:port, for logs
}

// rfcAddr is the address with the IPv6: prefix of RFC 5321.
func (p *peer) rfcAddr() string {
	if strings.Contains(p.addr, ":") {
		return "IPv6:" + p.addr
	}
	return p.addr
}

// findPeer finds out who the client is. Attributes that came with a passed
// descriptor win.
func (s *server) findPeer(ctx context.Context, conn net.Conn, attrs map[string]string) (peer, error) {
	p := peer{name: "localhost", addr: "127.0.0.1", port: "0"}
	addr := netip.Addr{}
	if len(attrs) > 0 {
		a, ok := dns.ParseAddr(attrs["client_address"])
		if !ok || attrs["client_port"] == "" {
			return p, fmt.Errorf("bad client address or port from proxy: %q %q", attrs["client_address"], attrs["client_port"])
		}
		addr, p.port = a, attrs["client_port"]
	} else if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		addr, p.port = remote.AddrPort().Addr(), strconv.Itoa(remote.Port)
	}
	if addr.IsValid() {
		addr = addr.Unmap().WithZone("")
		p.name, p.addr, p.family = unknown, addr.String(), syscall.AF_INET
		if addr.Is6() {
			p.family = syscall.AF_INET6
		}
		p.name = s.clientName(ctx, addr)
	}
	p.namaddr = p.name + "[" + p.addr + "]"
	if s.portLogging {
		p.namaddr += ":" + p.port
	}
	return p, nil
}

// clientName is the name of an address that leads back to the address.
func (s *server) clientName(ctx context.Context, addr netip.Addr) string {
	name, err := s.native.Name(ctx, addr)
	if err != nil {
		return unknown
	}
	if _, numeric := dns.ParseAddr(name); numeric {
		s.log.Warn("numeric hostname: %s", name)
		return unknown
	}
	if err := dns.CheckHostname(name); err != nil {
		s.log.Warn("%v", err)
		return unknown
	}
	addrs, err := s.native.Addrs(ctx, name, addr.Is4(), addr.Is6())
	if err != nil {
		s.log.Warn("hostname %s does not resolve to address %s: %v", name, addr, err)
		return unknown
	}
	for _, a := range addrs {
		if a == addr {
			return name
		}
	}
	s.log.Warn("hostname %s does not resolve to address %s", name, addr)
	return unknown
}
