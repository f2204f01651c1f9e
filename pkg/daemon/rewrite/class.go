package rewrite

import (
	"context"
	"strings"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/table"
)

// setting is a transport parameter, "transport" or "transport:nexthop".
type setting struct{ name, value string }

// route is the parameters that say where mail goes; there is a second set for
// address verification probes.
type route struct {
	local, virtual, relay, deflt setting
	relayhost                    string
	senderRelayhost              *table.Maps
	senderTransport              *table.Maps
	transport                    *transportMaps
}

// classify sets class, transport and next hop from the address class. It returns
// false when a table could not be asked.
func (r *Resolver) classify(ctx context.Context, to *route, sender string, a stripped, reply *rewrite.Reply) bool {
	chosen, hop := setting{}, a.domain
	if a.local {
		r.conflicts(ctx, a.domain)
		return r.apply(rewrite.ClassLocal, to.local, hop, reply)
	}
	class, ok := r.class(ctx, a.domain)
	if !ok {
		return false
	}
	switch class {
	case rewrite.ClassAlias:
		reply.Flags |= class
		reply.Transport, reply.NextHop = r.errorService, "5.1.1 User unknown"
		if r.showTable {
			reply.NextHop += " in virtual alias table"
		}
		return true
	case rewrite.ClassVirtual:
		return r.apply(class, to.virtual, hop, reply)
	case rewrite.ClassRelay:
		chosen = to.relay
	default:
		chosen = to.deflt
		value, found, ok := r.bySender(ctx, to.senderTransport, sender, r.emptyTransportKey)
		if !ok {
			return false
		}
		if found {
			chosen = setting{to.senderTransport.Title(), value}
		}
	}
	host, found, ok := r.bySender(ctx, to.senderRelayhost, sender, r.emptyRelayhostKey)
	if !ok {
		return false
	}
	if found {
		hop = host
	} else if to.relayhost != "" {
		hop = to.relayhost
	}
	return r.apply(class, chosen, hop, reply)
}

// class finds the class of a domain that is not local.
func (r *Resolver) class(ctx context.Context, domain string) (rewrite.Flags, bool) {
	lists := []struct {
		list *table.MatchList
		flag rewrite.Flags
	}{{r.aliasDomains, rewrite.ClassAlias}, {r.mailboxDomains, rewrite.ClassVirtual}, {r.relayDomains, rewrite.ClassRelay}}
	for i, c := range lists {
		ok, err := c.list.Match(ctx, domain)
		if err != nil {
			r.log.Warn("%s lookup failure", c.list.Title())
			return 0, false
		}
		if !ok {
			continue
		}
		for _, other := range lists[i+1:] {
			r.conflict(ctx, domain, c.list.Title(), other.list)
		}
		return c.flag, true
	}
	return rewrite.ClassDefault, true
}

// conflicts warns when a local domain is in another class too.
func (r *Resolver) conflicts(ctx context.Context, domain string) {
	r.conflict(ctx, domain, "mydestination", r.aliasDomains)
	r.conflict(ctx, domain, "mydestination", r.mailboxDomains)
}

func (r *Resolver) conflict(ctx context.Context, domain, title string, other *table.MatchList) {
	if !r.helpful || other.Empty() {
		return
	}
	if ok, err := other.Match(ctx, domain); ok && err == nil {
		r.log.Warn("do not list domain %s in BOTH %s and %s", domain, title, other.Title())
	}
}

// apply uses a transport parameter.
func (r *Resolver) apply(class rewrite.Flags, s setting, hop string, reply *rewrite.Reply) bool {
	name, next, _ := strings.Cut(s.value, ":")
	if next != "" {
		hop = next
	}
	reply.Flags |= class
	reply.Transport, reply.NextHop = name, hop
	if name == "" {
		r.log.Warn("file %s/main.cf: parameter %s: null transport is not allowed", r.configDir, s.name)
	}
	return name != ""
}

// bySender looks a sender up. found is false for DUNNO as well.
func (r *Resolver) bySender(ctx context.Context, m *table.Maps, sender, empty string) (value string, found, ok bool) {
	if m.Empty() {
		return "", false, true
	}
	key, o := sender, r.keys
	if key == "" {
		key, o.Strategy = empty, table.AddrFull
		value, found, err := m.Find(ctx, key)
		return r.senderResult(m, value, found, err)
	}
	value, _, found, err := m.FindAddress(ctx, key, o)
	return r.senderResult(m, value, found, err)
}

func (r *Resolver) senderResult(m *table.Maps, value string, found bool, err error) (string, bool, bool) {
	if err != nil {
		r.log.Warn("%s lookup failure", m.Title())
		return "", false, false
	}
	if !found || strings.EqualFold(value, "DUNNO") {
		return "", false, true
	}
	return value, true, true
}

// tables applies transport_maps and relocated_maps. It returns false when one could
// not be asked.
func (r *Resolver) tables(ctx context.Context, to *route, a stripped, reply *rewrite.Reply) bool {
	if reply.Flags&rewrite.ClassAlias == 0 && !to.transport.Empty() {
		value, found, err := to.transport.find(ctx, reply.Recipient, r.transportKeys)
		if err != nil {
			r.log.Warn("%s lookup failure", to.transport.Title())
			return false
		}
		if found {
			r.override(value, a.domain, reply)
		}
	}
	if r.relocated.Empty() {
		return true
	}
	value, _, found, err := r.relocated.FindAddress(ctx, reply.Recipient, r.keys)
	if err != nil {
		r.log.Warn("%s lookup failure", r.relocated.Title())
		return false
	}
	if found {
		reply.Transport, reply.NextHop = r.errorService, "5.1.6 User has moved to "+value
	}
	return true
}

// override uses a transport table entry (the value table of spec §3.3).
func (r *Resolver) override(value, domain string, reply *rewrite.Reply) {
	name, hop, _ := strings.Cut(value, ":")
	switch {
	case name == "" && hop == "":
		return
	case name == "":
		reply.NextHop = hop
		return
	case hop == "" && (name == r.errorService || name == "retry"):
		hop = "Address is undeliverable"
	case hop == "":
		hop = domain
	}
	reply.Transport, reply.NextHop = name, hop
}
