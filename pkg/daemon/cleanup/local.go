package cleanup

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
)

// localDomains makes the test for lookup keys without a domain (routing.md
// §2.6 and 3.2): is this domain myorigin, in mydestination, or an address
// literal of this machine?
func localDomains(env table.Env, c *conf.Config) (func(context.Context, string) (bool, error), error) {
	destinations, err := table.NewMatchList(env, "mydestination", c.String("mydestination"), table.MatchString, 0)
	if err != nil {
		return nil, err
	}
	own := ownAddresses(c)
	origin := c.String("myorigin")
	return func(ctx context.Context, domain string) (bool, error) {
		if strings.EqualFold(domain, origin) {
			return true, nil
		}
		domain = strings.TrimSuffix(domain, ".")
		if domain == "" || strings.HasSuffix(domain, ".") {
			return false, nil
		}
		if hit, err := destinations.Match(ctx, domain); hit || err != nil {
			return hit, err
		}
		addr, ok := literal(domain)
		return ok && own[addr], nil
	}, nil
}

// literal reads [1.2.3.4] and [IPv6:::1].
func literal(domain string) (netip.Addr, bool) {
	text, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	text, ok = strings.CutSuffix(text, "]")
	if !ok {
		return netip.Addr{}, false
	}
	six := len(text) > 5 && strings.EqualFold(text[:5], "IPv6:")
	if six {
		text = text[5:]
	}
	addr, err := netip.ParseAddr(text)
	return addr, err == nil && addr.Is6() == six
}

// ownAddresses are those of inet_interfaces and proxy_interfaces.
func ownAddresses(c *conf.Config) map[netip.Addr]bool {
	own := make(map[netip.Addr]bool)
	for _, word := range append(c.List("inet_interfaces"), c.List("proxy_interfaces")...) {
		switch all := strings.EqualFold(word, "all"); {
		case all || strings.EqualFold(word, "loopback-only"):
			addrs, _ := net.InterfaceAddrs()
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil && (all || p.Addr().IsLoopback()) {
					own[p.Addr()] = true
				}
			}
		default:
			if a, err := netip.ParseAddr(strings.Trim(word, "[]")); err == nil {
				own[a] = true
				continue
			}
			ips, _ := net.LookupIP(word)
			for _, ip := range ips {
				if a, ok := netip.AddrFromSlice(ip); ok {
					own[a.Unmap()] = true
				}
			}
		}
	}
	return own
}
