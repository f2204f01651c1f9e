package rewrite

import (
	"slices"

	"posthaste/pkg/message/address"
)

// Context says what completes an address: the context "local" has myorigin and
// mydomain, "remote" remote_header_rewrite_domain for both. Empty means nothing.
type Context struct {
	Origin string
	Domain string
}

// Syntax is the main.cf switches of address rewriting.
type Syntax struct {
	SwapBangPath bool // swap_bangpath: site!user is user@site
	PercentHack  bool // allow_percent_hack: user%site is user@site
	AppendOrigin bool // append_at_myorigin
	AppendDomain bool // append_dot_mydomain

	// Legacy is called when a domain is completed by the default setting of
	// old releases; nil: not to be mentioned.
	Legacy func(host, domain string)
}

// Canonical returns the canonical form of an address, both in external form.
func (s Syntax) Canonical(c Context, external string) string {
	return address.Quote(text(s.rewrite(c, address.Scan(external, 0))))
}

// rewrite applies the steps of spec §2.4 to one address.
func (s Syntax) rewrite(c Context, l address.List) address.List {
	if len(l) == 0 || len(l) == 1 && (l[0].Kind == address.Quoted && l[0].Text == "" || l[0].Is('@')) {
		return address.List{{Kind: address.Quoted}}
	}
	if l[0].Is('@') {
		if i := first(l, ':'); i > 0 && i < len(l)-1 {
			l = l[i+1:]
		}
	}
	if first(l, '@') < 0 {
		l = s.addDomain(c, l)
	}
	l = s.completeDomain(c, l)
	if n := len(l); n >= 2 && l[n-1].Is('.') && !l[n-2].Is('.') && !l[n-2].Is('@') {
		l = l[:n-1]
	}
	return l
}

// addDomain gives a domain to an address without one.
func (s Syntax) addDomain(c Context, l address.List) address.List {
	if i := first(l, '!'); i >= 0 && s.SwapBangPath {
		return slices.Concat(l[i+1:], operator("@"), l[:i])
	}
	if i := last(l, '%'); i >= 0 && s.PercentHack {
		l = slices.Clone(l)
		l[i] = operator("@")[0]
		return l
	}
	if s.AppendOrigin && c.Origin != "" {
		return slices.Concat(l, operator("@"), address.Scan(c.Origin, 0))
	}
	return l
}

// completeDomain appends the domain to a host name without a dot.
func (s Syntax) completeDomain(c Context, l address.List) address.List {
	i := last(l, '@')
	if !s.AppendDomain || c.Domain == "" || i < 0 || i == len(l)-1 {
		return l
	}
	host := l[i+1:]
	for _, t := range host {
		if t.Is('.') || t.Kind == address.Literal {
			return l
		}
	}
	if s.Legacy != nil {
		s.Legacy(text(host), c.Domain)
	}
	return slices.Concat(l, operator("."), address.Scan(c.Domain, 0))
}

// text is the internal form of an address, with a blank after each comma.
func text(l address.List) string {
	out := ""
	for i := first(l, ','); i >= 0; i = first(l, ',') {
		out += l[:i].Internal() + ", "
		l = l[i+1:]
	}
	return out + l.Internal()
}

func operator(op string) address.List {
	return address.List{{Kind: address.Operator, Text: op}}
}

func first(l address.List, op byte) int {
	return slices.IndexFunc(l, func(t address.Token) bool { return t.Is(op) })
}

func last(l address.List, op byte) int {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Is(op) {
			return i
		}
	}
	return -1
}
