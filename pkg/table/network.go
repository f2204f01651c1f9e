package table

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// network is an address block of one family.
type network struct{ prefix netip.Prefix }

// contains tells whether a is of the same family and inside.
func (n network) contains(a netip.Addr) bool {
	return n.sameFamily(a) && n.prefix.Contains(a)
}

func (n network) sameFamily(a netip.Addr) bool { return n.prefix.Addr().Is4() == a.Is4() }

// parseAddr is inet_pton: no zones, no short forms.
func parseAddr(s string) (netip.Addr, bool) {
	if strings.IndexByte(s, '%') >= 0 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}

// parseNetwork parses addr, addr/len, [addr] and [addr]/len; the errors are the
// REASONs of config.md 3.11.
func parseNetwork(text string) (network, error) {
	pattern, body, rest := text, text, ""
	if strings.HasPrefix(text, "[") {
		i := strings.IndexByte(text, ']')
		if i < 0 {
			return network{}, fmt.Errorf("missing ']' character after \"%s\"", text)
		}
		body, rest = text[1:i], text[i+1:]
		if rest != "" && rest[0] != '/' {
			return network{}, fmt.Errorf("garbage after \"%s\"", text[:i+1])
		}
		pattern = body + rest
	}
	host, mask, hasMask := strings.Cut(pattern, "/")
	if !hasMask {
		a, ok := parseAddr(host)
		if !ok {
			return network{}, fmt.Errorf("bad address pattern: \"%s\"", pattern)
		}
		return network{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if mask == "" || strings.Trim(mask, "0123456789") != "" {
		return network{}, fmt.Errorf("bad mask value in \"%s\"", pattern)
	}
	bits, err := strconv.Atoi(mask)
	limit := 32
	if strings.Contains(host, ":") {
		limit = 128
	}
	if err != nil || bits > limit {
		return network{}, fmt.Errorf("bad mask length in \"%s\"", pattern)
	}
	a, ok := parseAddr(host)
	if !ok {
		return network{}, fmt.Errorf("bad network value in \"%s\"", pattern)
	}
	p := netip.PrefixFrom(a, bits)
	if p.Masked().Addr() != a {
		return network{}, fmt.Errorf("non-null host address bits in \"%s\", perhaps you should use \"%s\" instead", pattern, p.Masked())
	}
	return network{p}, nil
}
