package smtp

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/wire/dns"
)

const (
	smtpPort   = 25
	smtpsPort  = 465
	maxServers = 100 // addresses of one destination
)

// server is one address to connect to.
type server struct {
	host string // name for the log, TLS and SASL
	addr netip.Addr
	port uint16
	path string // UNIX socket instead of addr and port
	pref int

	// What DNSSEC says of it.
	actual     string // the name that has the address, at the end of aliases; "" if it is not from DNS
	secure     bool   // the address is vouched for
	domain     string // the name that has the MX record by which it was found; "" without one
	insecureMX bool   // that record is not vouched for
}

// name is how texts name the server: "H[A]".
func (s server) name() string {
	if s.path != "" {
		return s.host + "[" + s.path + "]"
	}
	return s.host + "[" + s.addr.String() + "]"
}

// relay is name with the port.
func (s server) relay() string {
	if s.path != "" {
		return s.name()
	}
	return s.name() + ":" + strconv.Itoa(int(s.port))
}

func (s server) endpoint() string {
	if s.path != "" {
		return s.path
	}
	return netip.AddrPortFrom(s.addr, s.port).String()
}

// servers are those of a destination in the order in which to try them.
type servers struct {
	list     []server
	bestPref int
	last     bool // this machine is among them: do not go on with fallback relays
}

// resolve finds the servers of a destination (delivery.md §2.3). Without any,
// why says so.
func (r *request) resolve(dest destination) (servers, dsn.Status) {
	if dest.unix != "" {
		if len(dest.unix) > 107 {
			r.d.log.Warn("unix-domain name too long: %s", dest.unix)
			return servers{}, dsn.Status{Code: "4.3.5", Reason: "Server configuration error"}
		}
		return servers{list: []server{{host: r.d.myhostname, path: dest.unix}}, last: true}, dsn.Status{}
	}
	if !r.d.ipv4 && !r.d.ipv6 {
		return servers{}, dsn.Status{Code: "4.4.4", Reason: "all network protocols are disabled"}
	}
	if r.d.lmtp || !r.d.dnsEnabled || dest.literal {
		return r.hostServers(dest)
	}
	return r.mxServers(dest)
}

var mxCodes = map[dns.Status]string{dns.NullMX: "5.1.0", dns.Policy: "4.7.0", dns.Temporary: "4.4.3", dns.Fail: "5.4.3", dns.Invalid: "5.4.4"}
var hostCodes = map[dns.Status]string{dns.NotFound: "5.4.4", dns.NoData: "5.4.4", dns.NullMX: "5.4.4", dns.Fail: "5.4.3", dns.Invalid: "5.4.4", dns.Policy: "4.7.0", dns.Temporary: "4.4.3"}

func (r *request) mxServers(dest destination) (servers, dsn.Status) {
	ans, err := r.d.resolver.Lookup(r.ctx, dest.host, dns.MX)
	r.warnings(ans.Warnings)
	r.d.probe.Check(r.ctx, ans, err)
	switch status := dns.StatusOf(err); {
	case err == nil:
		return r.exchangers(dest, ans)
	case status == dns.NotFound, status == dns.NoData:
		return r.hostServers(dest)
	case r.d.ignoreMXError && (status == dns.Temporary || status == dns.Fail || status == dns.Invalid):
		return r.hostServers(dest)
	default:
		return servers{}, dsn.Status{Code: mxCodes[status], Reason: err.Error()}
	}
}

func (r *request) warnings(list []string) {
	for _, w := range list {
		r.d.log.Warn("%s", w)
	}
}

// exchangers looks up the addresses of all MX hosts and drops those that are
// not better than this machine.
func (r *request) exchangers(dest destination, ans dns.Answer) (servers, dsn.Status) {
	records := slices.Clone(ans.Records)
	slices.SortStableFunc(records, func(a, b dns.Record) int { return cmp.Compare(a.Pref, b.Pref) })
	var s servers
	var why dsn.Status
	for _, rr := range records {
		text := "numeric domain name in resource data of MX record for " + dest.host + ": " + rr.Host
		if _, numeric := dns.ParseAddr(rr.Host); numeric && !slices.Contains(ans.Warnings, text) {
			r.d.log.Warn("%s", text)
		}
		found := r.addresses(rr.Host, dest.port, int(rr.Pref), &why)
		for i := range found {
			found[i].domain, found[i].insecureMX = ans.Name, !ans.Secure
		}
		if len(s.list)+len(found) > maxServers {
			found = found[:maxServers-len(s.list)]
		}
		s.list = append(s.list, found...)
		if len(s.list) == maxServers {
			break
		}
	}
	if len(s.list) == 0 {
		r.d.log.Warn("no MX host for %s has a valid address record", dest.host)
		if r.d.deferNoAddress && why.Code != "" && why.Code[0] == '5' {
			why.Code = "4" + why.Code[1:]
		}
		return s, why
	}
	bestFound := s.list[0].pref
	s.bestPref = bestFound
	if self, ok := r.ownPref(s.list); ok && dest.port == smtpPort {
		s.last = true
		s.list = slices.DeleteFunc(s.list, func(x server) bool { return x.pref >= self })
		if len(s.list) == 0 {
			if int(records[0].Pref) == bestFound {
				return s, dsn.Status{Code: "5.4.6", Reason: "mail for " + dest.host + " loops back to myself"}
			}
			return s, dsn.Status{Code: "4.4.4", Reason: "unable to find primary relay for " + dest.host}
		}
	}
	s.list = r.d.arrange(s.list, true)
	return s, dsn.Status{}
}

func (r *request) ownPref(list []server) (int, bool) {
	for _, x := range list {
		if r.d.own[x.addr] {
			return x.pref, true
		}
	}
	return 0, false
}

func (r *request) hostServers(dest destination) (servers, dsn.Status) {
	var why dsn.Status
	list := r.addresses(dest.host, dest.port, 0, &why)
	if len(list) > 0 && list[0].actual != "" {
		r.d.probe.Check(r.ctx, dns.Answer{Secure: list[0].secure}, nil)
	}
	if len(list) == 0 {
		return servers{}, why
	}
	if len(list) > maxServers {
		list = list[:maxServers]
	}
	if !r.d.lmtp && dest.port == smtpPort {
		if _, own := r.ownPref(list); own {
			return servers{last: true}, dsn.Status{Code: "5.4.6", Reason: "mail for " + dest.host + " loops back to myself"}
		}
	}
	return servers{list: r.d.arrange(list, false)}, dsn.Status{}
}

// addresses looks up a host; without a result why is set, where an earlier
// soft status stays soft.
func (r *request) addresses(host string, port uint16, pref int, why *dsn.Status) []server {
	fail := func(code, text string) []server {
		if why.Code != "" && why.Code[0] == '4' {
			code = "4" + code[1:]
		}
		*why = dsn.Status{Code: code, Reason: text}
		return nil
	}
	if a, ok := dns.ParseAddr(host); ok {
		a = a.Unmap()
		if a.Is4() && r.d.ipv4 || a.Is6() && r.d.ipv6 {
			return []server{{host: host, addr: a, port: port, pref: pref}}
		}
		return fail("5.4.4", host+": host not found")
	}
	if r.d.hostDNS {
		ans, err := dns.Addresses(r.ctx, r.d.resolver, host, r.d.ipv4, r.d.ipv6)
		r.warnings(ans.Warnings)
		if err == nil {
			name := host
			if r.d.cnameOverrides && ans.Name != "" {
				name = ans.Name
			}
			list := make([]server, len(ans.Records))
			for i, rr := range ans.Records {
				list[i] = server{host: name, addr: rr.Addr.Unmap(), port: port, pref: pref, actual: ans.Name, secure: ans.Secure}
			}
			return list
		}
		status := dns.StatusOf(err)
		fail(hostCodes[status], err.Error())
		if !r.d.hostNative || status != dns.NotFound && status != dns.NoData {
			return nil
		}
	}
	addrs, err := r.d.native.Addrs(r.ctx, host, r.d.ipv4, r.d.ipv6)
	if err != nil {
		code := "5.4.4"
		var e *dns.NativeError
		if errors.As(err, &e) && e.Temporary || errors.Is(err, context.Canceled) {
			code = "4.4.4"
		}
		return fail(code, "unable to look up host "+host+": "+err.Error())
	}
	var list []server
	for _, a := range addrs {
		list = append(list, server{host: host, addr: a.Unmap(), port: port, pref: pref})
	}
	if len(list) == 0 {
		return fail("5.4.4", host+": host not found")
	}
	return list
}

// arrange puts servers into the order in which they are tried.
func (s *settings) arrange(list []server, mx bool) []server {
	if s.randomize {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	both := s.ipv4 && s.ipv6
	if mx || both {
		slices.SortStableFunc(list, func(a, b server) int {
			if c := cmp.Compare(a.pref, b.pref); c != 0 {
				return c
			}
			return cmp.Compare(s.familyRank(a), s.familyRank(b))
		})
	}
	if s.balance && s.addressLimit > 0 && both {
		list = balance(list, min(s.addressLimit, maxServers))
	}
	return list
}

func (s *settings) familyRank(x server) int {
	if s.preference == "ipv6" && x.addr.Is4() || s.preference == "ipv4" && x.addr.Is6() {
		return 1
	}
	return 0
}

// balance drops addresses beyond the limit so that no family starves the
// other.
func balance(list []server, limit int) []server {
	var n [2]int
	family := func(x server) int {
		if x.addr.Is6() {
			return 1
		}
		return 0
	}
	for _, x := range list {
		n[family(x)]++
	}
	if n[0] == 0 || n[1] == 0 || n[0]+n[1] <= limit {
		return list
	}
	keep := n
	switch {
	case n[1] <= limit/2:
		keep[0] = limit - n[1]
	case n[0] <= limit/2:
		keep[1] = limit - n[0]
	default:
		keep[0] = limit / 2
		if family(list[0]) == 0 {
			keep[0] = (limit + 1) / 2
		}
		keep[1] = limit - keep[0]
	}
	return slices.DeleteFunc(list, func(x server) bool {
		f := family(x)
		keep[f]--
		return keep[f] < 0
	})
}

// localAddr is the address to connect from, nil for any.
func (s *settings) localAddr(to netip.Addr) net.Addr {
	from := s.bind4
	if to.Is6() {
		from = s.bind6
	}
	if !from.IsValid() {
		return nil
	}
	return &net.TCPAddr{IP: from.AsSlice()}
}
