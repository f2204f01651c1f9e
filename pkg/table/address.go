package table

import (
	"context"
	"strings"

	"posthaste/pkg/message/address"
)

// Strategy is the set of keys FindAddress tries (routing.md 2.6).
type Strategy uint

// The keys, in the order they are tried.
const (
	AddrFull      Strategy = 1 << iota // user+ext@domain
	AddrNoExt                          // user@domain
	AddrLocalpart                      // user+ext, then user, when the domain is local
	AddrAtDomain                       // @domain
	AddrDomain                         // domain, then its parents
	// AddrDefault is what canonical, virtual, generic, bcc, relocated and
	// sender-dependent maps use.
	AddrDefault = AddrFull | AddrNoExt | AddrLocalpart | AddrAtDomain
	// AddrTransport is what transport_maps uses.
	AddrTransport = AddrFull | AddrNoExt | AddrDomain
)

// Form says in which quoting form keys are asked for.
type Form int

// The forms.
const (
	FormExternal      Form = iota // quoted only: virtual, canonical, generic
	FormExternalFirst             // quoted, then unquoted if that differs
	FormInternal                  // unquoted only
)

// AddressOptions guides FindAddress.
type AddressOptions struct {
	Strategy   Strategy // 0 = AddrDefault
	Form       Form
	Delimiters string // recipient_delimiter
	// DoubleBounce is the double_bounce_sender local part, never split.
	DoubleBounce string
	// OwnerRequest is owner_request_special.
	OwnerRequest bool
	// ParentSubdomains: transport_maps is in parent_domain_matches_subdomains.
	ParentSubdomains bool
	// IsLocal tells that a domain equals myorigin or is local; nil = never.
	IsLocal func(ctx context.Context, domain string) (bool, error)
}

// FindAddress looks an address in internal form up under each key of the
// strategy. ext is the unmatched extension with its delimiter, to be propagated
// if the map's users want that. A table error stops the search.
func (m *Maps) FindAddress(ctx context.Context, addr string, o AddressOptions) (value, ext string, found bool, err error) {
	if m.Empty() || addr == "" {
		return "", "", false, nil
	}
	if o.Strategy == 0 {
		o.Strategy = AddrDefault
	}
	local, domain, hasDomain := cutLast(addr)
	user, extension := splitExtension(local, o)
	s := addressSearch{ctx: ctx, m: m, o: o}

	if o.Strategy&AddrFull != 0 && s.try(addr, 0) {
		return s.value, "", s.found, s.err
	}
	bare := user
	if hasDomain {
		bare += "@" + domain
	}
	if o.Strategy&AddrNoExt != 0 && extension != "" && s.try(bare, Fixed) {
		return s.value, extension, s.found, s.err
	}
	if o.Strategy&AddrLocalpart != 0 && hasDomain && o.IsLocal != nil {
		isLocal, err := o.IsLocal(ctx, domain)
		if err != nil {
			return "", "", false, err
		}
		if isLocal {
			if s.try(local, Fixed) {
				return s.value, "", s.found, s.err
			}
			if extension != "" && s.try(user, Fixed) {
				return s.value, extension, s.found, s.err
			}
		}
	}
	if !hasDomain || domain == "" {
		return "", "", false, nil
	}
	if o.Strategy&AddrAtDomain != 0 && s.plain("@"+domain) {
		return s.value, extension, s.found, s.err
	}
	if o.Strategy&AddrDomain != 0 {
		for key := domain; key != ""; key = parent(key, o.ParentSubdomains) {
			if s.plain(key) {
				return s.value, "", s.found, s.err
			}
		}
	}
	return "", "", false, nil
}

type addressSearch struct {
	ctx   context.Context
	m     *Maps
	o     AddressOptions
	value string
	found bool
	err   error
}

// try asks for an address or local part in the wanted forms; true ends the search.
func (s *addressSearch) try(internal string, mask Flags) bool {
	if s.o.Form == FormInternal {
		return s.ask(internal, mask)
	}
	external := quote(internal)
	if s.ask(external, mask) {
		return true
	}
	return s.o.Form == FormExternalFirst && external != internal && s.ask(internal, mask)
}

func (s *addressSearch) plain(key string) bool { return s.ask(key, Fixed) }

func (s *addressSearch) ask(key string, mask Flags) bool {
	s.value, s.found, s.err = s.m.FindFlags(s.ctx, key, mask)
	return s.found || s.err != nil
}

// quote gives the external form of an address or of a local part alone.
func quote(internal string) string {
	if internal == "" {
		return ""
	}
	return address.Quote(internal)
}

// parent gives the next domain to try: "b.c" of "a.b.c", or with the dotted
// style ".b.c"; "" after the last.
func parent(domain string, subdomains bool) string {
	_, rest, ok := strings.Cut(strings.TrimPrefix(domain, "."), ".")
	if !ok || rest == "" {
		return ""
	}
	if subdomains {
		return rest
	}
	return "." + rest
}

func cutLast(addr string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(addr, '@')
	if i < 0 {
		return addr, "", false
	}
	return addr[:i], addr[i+1:], true
}

// splitExtension splits a local part by the rules of routing.md 2.5; the
// delimiter belongs to ext.
func splitExtension(local string, o AddressOptions) (user, ext string) {
	if o.Delimiters == "" {
		return local, ""
	}
	lower := Fold(local, false)
	switch {
	case lower == "postmaster" || lower == "mailer-daemon":
		return local, ""
	case o.DoubleBounce != "" && lower == Fold(o.DoubleBounce, false):
		return local, ""
	case o.OwnerRequest && strings.Contains(o.Delimiters, "-") &&
		(strings.HasPrefix(lower, "owner-") || strings.HasSuffix(lower, "-request")):
		return local, ""
	}
	i := strings.IndexAny(local, o.Delimiters)
	if i <= 0 {
		return local, ""
	}
	return local[:i], local[i:]
}
