package tlspeer

import (
	"net"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"
)

// Names all have the address 127.0.0.1.
var Names = []string{"mx.good.test", "a.wild.test", "a.b.wild.test", "other.test", "good.test", "b.wild.test", "wild.test", "sub.good.test", "foo.good.test"}

// NameServer is a validating resolver, or what looks like one. The lines of
// its zone are
//
//	NAME TYPE DATA...           a record
//	NAME TLSA U S M CERT        of NAME's server, at any port; CERT is a
//	                            certificate's name or "hex:" and digits
//	no NAME [TYPE]              there is no such record
//	insecure NAME [TYPE]        without AD; "*" is all
//	servfail NAME [TYPE]
//
// where TLSAX is a TLSA record of the name itself and _tlsa.NAME stands for
// _PORT._tcp.NAME.
type NameServer struct {
	PKI  *PKI
	mu   sync.Mutex
	got  []string             // questions about TLSA and CNAME records, and others about the probe
	rrs  map[string][]mdns.RR // by name
	no   map[string]bool      // by "name" and "name TYPE"
	bare map[string]bool
	fail map[string]bool
}

// Set replaces the zone.
func (s *NameServer) Set(t testing.TB, zone string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = nil
	s.rrs, s.no, s.bare, s.fail = map[string][]mdns.RR{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	marks := map[string]map[string]bool{"no": s.no, "insecure": s.bare, "servfail": s.fail}
	for _, name := range Names {
		s.add(t, name+" A 127.0.0.1")
	}
	s.add(t, ". NS a.root-servers.test")
	if !strings.Contains(zone, "good.test MX 10") {
		zone += "\ngood.test MX 10 mx.good.test"
	}
	for line := range strings.Lines(zone) {
		switch w := strings.Fields(line); {
		case len(w) == 0:
		case marks[w[0]] != nil:
			marks[w[0]][strings.Join(w[1:], " ")] = true
		default:
			s.add(t, strings.TrimSpace(line))
		}
	}
}

func (s *NameServer) add(t testing.TB, line string) {
	w := strings.Fields(line)
	name, kind, data := w[0], w[1], strings.Join(w[2:], " ")
	if kind == "TLSA" || kind == "TLSAX" {
		if kind == "TLSA" {
			name = "_tlsa." + name
		}
		last := strings.LastIndexByte(data, ' ')
		kind, data = "TLSA", data[:last+1]+s.association(t, w[3], w[4], w[5])
	}
	rr, err := mdns.NewRR(mdns.Fqdn(name) + " 60 IN " + kind + " " + data)
	if kind == "TLSA" && strings.HasSuffix(data, " ") {
		rr, err = mdns.NewRR(mdns.Fqdn(name) + " 60 IN TYPE52 \\# 3 030101")
	}
	if err != nil {
		t.Fatal(line, err)
	}
	s.rrs[name] = append(s.rrs[name], rr)
}

func (s *NameServer) association(t testing.TB, selector, match, cert string) string {
	if digits, ok := strings.CutPrefix(cert, "hex:"); ok {
		return digits
	}
	leaf, n := s.PKI.Leafs[cert], 0
	if selector == "1" {
		n = 1
	}
	m := map[string]int{"1": 1, "2": 2}[match]
	out, err := mdns.CertificateToDANE(uint8(n), uint8(m), leaf)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *NameServer) marked(set map[string]bool, name, kind string) bool {
	return set[name] || set[name+" "+kind] || set["*"]
}

func (s *NameServer) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(mdns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	full := strings.ToLower(q.Question[0].Name)
	kind := mdns.Type(q.Question[0].Qtype).String()
	if kind == "TLSA" || kind == "CNAME" || kind == "NS" {
		s.got = append(s.got, strings.TrimSuffix(full, ".")+" "+kind)
	}
	key := func(full string) string {
		name := strings.TrimSuffix(full, ".")
		if name == "" {
			return "."
		}
		if l := strings.SplitN(name, ".", 3); len(l) == 3 && l[1] == "_tcp" {
			return "_tlsa." + l[2]
		}
		return name
	}
	name, owner := key(full), full
	secure, exists := true, false
	for range 10 {
		if s.marked(s.fail, name, kind) {
			m.Rcode, m.Answer = mdns.RcodeServerFailure, nil
			w.WriteMsg(m)
			return
		}
		secure = secure && !s.marked(s.bare, name, kind)
		next := ""
		for _, rr := range s.rrs[name] {
			exists = true
			rr = mdns.Copy(rr)
			rr.Header().Name = owner
			cn, alias := rr.(*mdns.CNAME)
			switch {
			case rr.Header().Rrtype == q.Question[0].Qtype && !s.marked(s.no, name, kind):
				m.Answer = append(m.Answer, rr)
			case alias:
				m.Answer = append(m.Answer, rr)
				next = cn.Target
			}
		}
		if next == "" {
			break
		}
		name, owner = key(next), next
	}
	if !exists {
		m.Rcode = mdns.RcodeNameError
	}
	m.AuthenticatedData = secure && (q.AuthenticatedData || q.IsEdns0() != nil && q.IsEdns0().Do())
	if q.IsEdns0() != nil {
		m.SetEdns0(4096, q.IsEdns0().Do())
	}
	w.WriteMsg(m)
}

// Questions are what was asked since Set about TLSA and CNAME records and name
// servers, a line each.
func (s *NameServer) Questions() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := ""
	for _, q := range s.got {
		out += "asked: " + q + "\n"
	}
	return out
}

// Start answers what comes to pc until the test ends.
func (s *NameServer) Start(t testing.TB, pc net.PacketConn) {
	server := &mdns.Server{PacketConn: pc, Handler: s}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
}
