package smtpd

import (
	"net/netip"
	"slices"
	"strings"

	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
)

// hostAccess makes a check_*_{mx,ns,a}_access restriction: an access table is
// searched for the hosts behind a name (spec §4.5). A table cannot permit what
// the owner of the name controls.
func hostAccess(subject subjectOf, hosts func(l lookup, domain string) []string, names, literals bool) func(evaluation) verdict {
	return func(e evaluation) verdict {
		name, class, ok := subject(e)
		if !ok {
			return dunno
		}
		shown := name
		if class == clientList.class {
			shown = e.peer.namaddr
		}
		l := e.lookup(shown, class)
		domain := name[strings.LastIndexByte(name, '@')+1:]
		if domain == "" {
			return dunno
		}
		if domain[0] == '[' {
			return e.noPermit(l.literal(domain, literals), shown)
		}
		l.datum = name
		return e.noPermit(l.hosts(name, hosts(l, domain), names), shown)
	}
}

// literal looks up the address in an address literal.
func (l lookup) literal(domain string, wanted bool) verdict {
	a, ok := dns.ParseLiteral(strings.TrimSuffix(domain[1:], "]"))
	if !wanted || !ok {
		return dunno
	}
	v, _ := l.address(a.String())
	return v
}

// hosts looks up the names of hosts, if names is set, and their addresses.
func (l lookup) hosts(name string, hosts []string, names bool) verdict {
	left := dns.MaxRecords
	for _, host := range hosts {
		if names {
			if v, _ := l.domain(table.Fold(host, l.srv.set.utf8)); v != dunno || l.discarding() {
				return v
			}
		}
		addrs, err := l.hostAddrs(host)
		if err != nil {
			if names {
				l.log.Warn("Unable to look up %s host %s for %s %s: %v", "MX", host, l.class, name, err)
			}
			continue
		}
		for _, a := range addrs {
			if left == 0 {
				return dunno
			}
			left--
			if v, _ := l.address(a.String()); v != dunno || l.discarding() {
				return v
			}
		}
	}
	return dunno
}

// hostAddrs are the addresses of a host, which may be one itself.
func (e evaluation) hostAddrs(host string) ([]netip.Addr, error) {
	if a, ok := dns.ParseAddr(host); ok {
		return []netip.Addr{a}, nil
	}
	return e.srv.native.Addrs(e.ctx, host, e.srv.set.ipv4, e.srv.set.ipv6)
}

// mailHosts are the mail servers of a domain, best first, or the domain when
// it has none.
func mailHosts(l lookup, domain string) []string {
	hosts, err := l.mxHosts(domain)
	switch dns.StatusOf(err) {
	case 0:
	case dns.NotFound, dns.NoData:
		return []string{domain}
	case dns.NullMX:
		return nil
	default:
		l.log.Warn("Unable to look up MX host for %s: %s", domain, shortError(err))
		return nil
	}
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Host
	}
	return names
}

// mxHosts are the MX records of a domain by preference.
func (e evaluation) mxHosts(domain string) ([]dns.Record, error) {
	ans, err := e.srv.dns.Lookup(e.ctx, domain, dns.MX)
	for _, w := range ans.Warnings {
		e.log.Warn("%s", w)
	}
	if err != nil {
		return nil, err
	}
	hosts := slices.Clone(ans.Records)
	slices.SortStableFunc(hosts, func(a, b dns.Record) int { return int(a.Pref) - int(b.Pref) })
	return hosts, nil
}

func shortError(err error) string {
	if e, ok := err.(*dns.Error); ok && e.Short != "" {
		return e.Short
	}
	return err.Error()
}

// nameServers are those of the domain, or of the nearest parent that has any.
func nameServers(l lookup, domain string) []string {
	zone := domain
	for {
		ans, err := l.srv.dns.Lookup(l.ctx, zone, dns.NS)
		switch dns.StatusOf(err) {
		case 0:
			names := make([]string, len(ans.Records))
			for i, r := range ans.Records {
				names[i] = r.Host
			}
			return names
		case dns.NotFound, dns.NoData:
		default:
			l.log.Warn("Unable to look up NS host for %s: %s", domain, shortError(err))
			return nil
		}
		_, parent, _ := strings.Cut(zone, ".")
		if parent = strings.TrimLeft(parent, "."); parent == "" {
			l.log.Warn("Unable to look up NS host for %s: %s", l.datum, "Host not found")
			return nil
		}
		zone = parent
	}
}

// itself is the name as its own and only host.
func itself(_ lookup, domain string) []string { return []string{domain} }

// hostAccessRestrictions are the fifteen restrictions of this file.
func hostAccessRestrictions() map[string]restriction {
	all := map[string]restriction{}
	for who, subject := range map[string]subjectOf{
		"client": clientName, "reverse_client_hostname": reverseName, "helo": heloName, "sender": senderAddress, "recipient": recipientAddress,
	} {
		for what, run := range map[string]func(evaluation) verdict{
			"mx": hostAccess(subject, mailHosts, true, true),
			"ns": hostAccess(subject, nameServers, true, false),
			"a":  hostAccess(subject, itself, false, true),
		} {
			all["check_"+who+"_"+what+"_access"] = restriction{arg: argTable, run: run}
		}
	}
	return all
}
