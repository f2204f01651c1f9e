// Package localdomain answers which domains and addresses are this machine's:
// those in mydestination, and the address literals of inet_interfaces and
// proxy_interfaces (spec routing.md §2.6, §3.2).
//
// An error is that of a table in mydestination.
package localdomain

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
)

// lookupTime bounds the look-up of one host name in proxy_interfaces.
const lookupTime = 10 * time.Second

// Set is what is local. It is immutable; a nil Set holds nothing.
type Set struct {
	origin       string
	destinations *table.MatchList
	own          map[netip.Addr]bool
}

// New reads the parameters.
func New(env table.Env) (*Set, error) {
	c := env.Config
	destinations, err := table.NewMatchList(env, "mydestination", c.String("mydestination"), table.MatchString, 0)
	if err != nil {
		return nil, err
	}
	return &Set{origin: table.Fold(c.String("myorigin"), true), destinations: destinations, own: addresses(env, c)}, nil
}

// Match tells whether mail for a domain is for this machine. One dot at the
// end of the domain does not count.
func (s *Set) Match(ctx context.Context, domain string) (bool, error) {
	domain = strings.TrimSuffix(domain, ".")
	if s == nil || domain == "" || strings.HasSuffix(domain, ".") {
		return false, nil
	}
	if hit, err := s.destinations.Match(ctx, domain); hit || err != nil {
		return hit, err
	}
	addr, ok := ParseLiteral(domain)
	return ok && s.Owns(addr), nil
}

// Bare tells whether an address in the domain is looked up without its
// domain, too: as Match, and for myorigin.
func (s *Set) Bare(ctx context.Context, domain string) (bool, error) {
	if s != nil && table.Fold(domain, true) == s.origin {
		return true, nil
	}
	return s.Match(ctx, domain)
}

// Changed gives the name of a table in mydestination that has changed.
func (s *Set) Changed() (name string, changed bool) { return s.destinations.Changed() }

// Owns tells whether a network address is one of ours.
func (s *Set) Owns(a netip.Addr) bool { return s != nil && s.own[a.Unmap().WithZone("")] }

// ParseLiteral reads "[1.2.3.4]" and "[IPv6:::1]".
func ParseLiteral(domain string) (netip.Addr, bool) {
	text, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	if text, ok = strings.CutSuffix(text, "]"); !ok {
		return netip.Addr{}, false
	}
	six := len(text) > 5 && strings.EqualFold(text[:5], "IPv6:")
	if six {
		text = text[5:]
	}
	addr, err := netip.ParseAddr(text)
	return addr, err == nil && addr.Is6() == six && addr.Zone() == ""
}

// addresses are those of inet_interfaces and proxy_interfaces.
func addresses(env table.Env, c *conf.Config) map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	for _, p := range c.Addresses() {
		own[p.Addr().Unmap().WithZone("")] = true
	}
	for _, word := range c.List("proxy_interfaces") {
		text := word
		if len(text) > 1 && text[0] == '[' && text[len(text)-1] == ']' {
			text = text[1 : len(text)-1]
		}
		if a, err := netip.ParseAddr(text); err == nil {
			own[a] = true
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", word)
		cancel()
		if err != nil {
			env.Log.Warn("proxy_interfaces: host not found: %s", word)
		}
		for _, a := range found {
			own[a.Unmap()] = true
		}
	}
	return own
}
