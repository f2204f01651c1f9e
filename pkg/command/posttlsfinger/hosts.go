package posttlsfinger

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"posthaste/pkg/wire/dns"
)

// destination is what to connect to.
type destination struct {
	text    string // as it was given
	path    string // of a socket; the rest is empty then
	domain  string // without brackets and port
	port    uint16
	literal bool // no MX lookup
}

const (
	smtpPort = "25"
	lmtpPort = "24"
)

func (f *finger) parseDestination(text string) (destination, error) {
	d := destination{text: text}
	rest := text
	if f.lmtp {
		if path, ok := strings.CutPrefix(text, "unix:"); ok {
			d.path = path
			return d, nil
		}
	}
	rest = strings.TrimPrefix(rest, "inet:")
	bad := func(what string) (destination, error) {
		return d, fmt.Errorf("%s in server description: %s", what, text)
	}
	service := ""
	if inside, ok := strings.CutPrefix(rest, "["); ok {
		var after string
		if d.domain, after, ok = strings.Cut(inside, "]"); !ok {
			return bad(`missing "]"`)
		}
		if after != "" && after[0] != ':' {
			return bad(`garbage after "]"`)
		}
		d.literal, service = true, strings.TrimPrefix(after, ":")
		if len(d.domain) > 5 && strings.EqualFold(d.domain[:5], "ipv6:") {
			d.domain = d.domain[5:]
		}
	} else if d.domain = rest; strings.Contains(rest, ":") {
		i := strings.LastIndexByte(rest, ':')
		d.domain, service = rest[:i], rest[i+1:]
	}
	if d.domain == "" {
		return bad("missing host information")
	}
	d.literal = d.literal || f.lmtp
	var err error
	d.port, err = f.findPort(service, text)
	return d, err
}

func (f *finger) findPort(service, text string) (uint16, error) {
	if service == "" {
		service = smtpPort
		if f.lmtp {
			service = lmtpPort
		}
	}
	if p, ok := f.conf.KnownPorts()[service]; ok {
		service = p
	}
	if service[0] >= '0' && service[0] <= '9' {
		n, err := strconv.ParseUint(service, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("bad network port: %s for destination: %s", service, text)
		}
		return uint16(n), nil
	}
	n, err := net.LookupPort("tcp", service)
	if err != nil {
		return 0, fmt.Errorf("unknown service: %s/tcp", service)
	}
	return uint16(n), nil
}

// host is one address to connect to.
type host struct {
	name string
	addr netip.Addr
	port uint16
	path string // of a socket, instead of addr and port
	pref int

	actual     string // the name that has the address, at the end of aliases; "" if it is not from DNS
	secure     bool   // DNSSEC vouches for the address
	domain     string // the name that has the MX record; "" without one
	insecureMX bool   // DNSSEC does not vouch for it
}

// peer is "NAME[ADDRESS]:PORT".
func (h host) peer() string {
	if h.path != "" {
		return h.name + "[" + h.path + "]"
	}
	return fmt.Sprintf("%s[%s]:%d", h.name, h.addr, h.port)
}

// resolve finds the hosts of the destination, in the order in which to try
// them.
func (f *finger) resolve() ([]host, error) {
	if f.dest.path != "" {
		return []host{{name: f.conf.String("myhostname"), path: f.dest.path}}, nil
	}
	if f.dest.literal || !f.byDNS {
		return f.only()
	}
	ans, err := f.resolver.Lookup(f.ctx, f.dest.domain, dns.MX)
	f.warn(ans.Warnings)
	f.probe.Check(f.ctx, ans, err)
	if status := dns.StatusOf(err); status == dns.NotFound || status == dns.NoData {
		return f.only()
	}
	if err != nil {
		return nil, err
	}
	var list []host
	for _, rr := range ans.Records {
		var found []host
		if found, err = f.addresses(rr.Host); err == nil {
			for _, h := range found {
				h.pref, h.domain, h.insecureMX = int(rr.Pref), ans.Name, !ans.Secure
				list = append(list, h)
			}
		}
	}
	if len(list) == 0 {
		f.log.Warn("no MX host for %s has a valid address record", f.dest.domain)
		return nil, err
	}
	return f.arrange(list), nil
}

// only are the addresses of a destination that is a host.
func (f *finger) only() ([]host, error) {
	list, err := f.addresses(f.dest.domain)
	if err == nil && list[0].actual != "" {
		f.probe.Check(f.ctx, dns.Answer{Secure: list[0].secure}, nil)
	}
	return f.arrange(list), err
}

func (f *finger) warn(list []string) {
	for _, w := range list {
		f.log.Warn("%s", w)
	}
}

// addresses looks up a host; without an error there is at least one.
func (f *finger) addresses(name string) ([]host, error) {
	if a, ok := dns.ParseAddr(name); ok {
		return []host{{name: name, addr: a.Unmap(), port: f.dest.port}}, nil
	}
	ipv4, ipv6 := f.conf.Protocols()
	var list []host
	if f.byDNS {
		ans, err := dns.Addresses(f.ctx, f.resolver, name, ipv4, ipv6)
		f.warn(ans.Warnings)
		for _, rr := range ans.Records {
			list = append(list, host{name: name, addr: rr.Addr.Unmap(), port: f.dest.port, actual: ans.Name, secure: ans.Secure})
		}
		status := dns.StatusOf(err)
		if err == nil || !f.byNative || status != dns.NotFound && status != dns.NoData {
			return list, err
		}
	}
	addrs, err := f.native.Addrs(f.ctx, name, ipv4, ipv6)
	if err != nil {
		return nil, fmt.Errorf("unable to look up host %s: %w", name, err)
	}
	for _, a := range addrs {
		list = append(list, host{name: name, addr: a.Unmap(), port: f.dest.port})
	}
	if len(list) == 0 {
		return nil, errors.New(name + ": host not found")
	}
	return list, nil
}

// arrange sorts by preference. The addresses of one family all come before
// those of the other.
func (f *finger) arrange(list []host) []host {
	first := f.family == "ipv4" || f.family == "any" && rand.IntN(2) == 0
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b host) int {
		if a.addr.Is4() != b.addr.Is4() {
			if a.addr.Is4() == first {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.pref, b.pref)
	})
	return list
}
