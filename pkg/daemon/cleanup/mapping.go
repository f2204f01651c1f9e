package cleanup

import (
	"errors"
	"strings"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/table"
)

// maxMapRounds bounds the lookups of a one-to-one map.
const maxMapRounds = 10

var errNoAddress = errors.New("non-address result")

func (d *daemon) addressOptions(form table.Form) table.AddressOptions {
	x := d.set.extensions
	return table.AddressOptions{Form: form, Delimiters: x.Delimiters, DoubleBounce: x.DoubleBounce, OwnerRequest: x.OwnerRequest, IsLocal: d.isLocal}
}

// find looks an internal address up and returns the addresses it stands for,
// in internal form and rewritten (routing.md §2.6).
func (s *session) find(addr string, m *table.Maps, propagate bool) ([]string, error) {
	o := s.d.addressOptions(table.FormExternal)
	o.Strategy = table.AddrDefault &^ table.AddrAtDomain
	value, ext, found, err := m.FindAddress(s.ctx, addr, o)
	if err == nil && !found {
		// What matches @domain has matched the extension with it.
		o.Strategy = table.AddrAtDomain
		value, _, found, err = m.FindAddress(s.ctx, addr, o)
	}
	if err != nil || !found {
		return nil, err
	}
	if !propagate {
		ext = ""
	}
	if strings.HasPrefix(value, "@") && len(value) > 1 {
		value = s.otherDomain(addr, value, ext)
	}
	list := s.addresses(value, ext)
	if len(list) == 0 {
		s.d.log.Warn("%s lookup of %s returns non-address result \"%s\"", m.Title(), addr, value)
		return nil, errNoAddress
	}
	return list, nil
}

// otherDomain applies a result "@domain" to the local part that was looked up,
// without the extension that is put back later.
func (s *session) otherDomain(addr, domain, ext string) string {
	local, _ := address.Split(addr)
	return address.QuoteLocal(strings.TrimSuffix(local, ext)) + domain
}

// addresses parses a lookup result; each element is rewritten locally and gets
// the unmatched extension.
func (s *session) addresses(value, ext string) []string {
	if value == `""` || value == "<>" {
		return []string{""}
	}
	var list []string
	address.Parse(value, 0).Addresses(func(words address.List) {
		addr := address.Unquote(s.rewriteExternal("local", words.String()))
		if ext != "" {
			addr = address.AddExtension(addr, ext)
		}
		list = append(list, addr)
	})
	return list
}

// mapOne applies a one-to-one map (routing.md §1.6).
func (s *session) mapOne(addr string, m *table.Maps) string {
	if m.Empty() || addr == "" {
		return addr
	}
	start := addr
	for range maxMapRounds {
		list, err := s.find(addr, m, s.d.set.propagateCanonical)
		if err != nil {
			s.mapProblem(m.Title(), addr)
			return addr
		}
		if list == nil {
			return addr
		}
		if len(list) > 1 {
			s.warn("multi-valued %s entry for %s", m.Title(), addr)
		}
		same := strings.EqualFold(list[0], addr)
		addr = list[0]
		if same || addr == "" {
			return addr
		}
	}
	s.warn("unreasonable %s map nesting for %s -- message not accepted, try again later", m.Title(), start)
	return addr
}

func (s *session) mapProblem(title, addr string) {
	s.warn("%s map lookup problem for %s -- message not accepted, try again later", title, addr)
	s.status |= proto.StatusWrite
}

// masquerade hides host names below masquerade_domains.
func (s *session) masquerade(addr string) string {
	if len(s.d.set.masqueradeDomains) == 0 || addr == "" {
		return addr
	}
	return address.Unquote(s.masqueradeExternal(address.Quote(addr)))
}

func (s *session) masqueradeExternal(addr string) string {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 || len(s.d.set.masqueradeDomains) == 0 {
		return addr
	}
	if m := s.d.maps.masqueradeExceptions; m != nil {
		hit, err := m.Match(s.ctx, addr[:at])
		if err != nil {
			s.mapProblem("masquerade_exceptions", addr)
			return addr
		}
		if hit {
			return addr
		}
	}
	domain := strings.ToLower(addr[at+1:])
	for _, entry := range s.d.set.masqueradeDomains {
		bare := strings.TrimLeft(entry, "!")
		negated := (len(entry)-len(bare))%2 == 1
		parent := strings.ToLower(bare)
		if domain == parent {
			return addr
		}
		if strings.HasSuffix(domain, "."+parent) {
			if negated {
				return addr
			}
			return addr[:at+1] + parent
		}
	}
	return addr
}
