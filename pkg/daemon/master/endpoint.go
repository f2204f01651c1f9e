package master

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/conf/mastercf"
)

// resolveLimit bounds the look-up of a host name in master.cf.
const resolveLimit = 30 * time.Second

// inetName is a parsed "host:port" service name.
type inetName struct {
	host    string // "" is none
	service string // port as written
	port    uint16
	known   bool // the port is known
}

// parseInet takes the name of an inet service apart (spec §2.3).
func (p *params) parseInet(name string) (inetName, error) {
	host, service, err := mastercf.SplitEndpoint(name)
	if err != nil {
		return inetName{}, err
	}
	n := inetName{host: host, service: service}
	if number, ok := p.ports[service]; ok {
		service = number
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil && strings.Trim(service, "0123456789") != "" {
		var found int
		found, err = net.LookupPort("tcp", service)
		port = uint64(found)
	}
	if err == nil && port > 0 {
		n.port, n.known = uint16(port), true
	}
	return n, nil
}

// internal is the name under which entries are matched and logged.
func (n inetName) internal() string {
	port := n.service
	if n.known {
		port = strconv.Itoa(int(n.port))
	}
	if n.host == "" {
		return port
	}
	return "[" + n.host + "]:" + port
}

// addresses are the places where an inet service listens. An unspecified
// address is the wildcard.
func (p *params) addresses(n inetName) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	seen := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		a = a.Unmap()
		if (a.Is4() && p.ipv4 || a.Is6() && p.ipv6) && !seen[a] {
			seen[a] = true
			out = append(out, netip.AddrPortFrom(a, n.port))
		}
	}
	switch {
	case n.host != "":
		found, err := resolve(n.host)
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			add(a)
		}
	case strings.EqualFold(p.inetInterfaces, "all"):
		add(netip.IPv4Unspecified())
		add(netip.IPv6Unspecified())
	default:
		for _, prefix := range p.own {
			add(prefix.Addr())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no valid IP address found: %s", n.host)
	}
	return out, nil
}

// resolve finds the addresses of a host in master.cf.
func resolve(host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("bad hostname or network address: %s", host)
	}
	return found, nil
}
