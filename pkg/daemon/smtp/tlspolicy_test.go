package smtp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
	"posthaste/test/tlspeer"
)

// parsed reads a policy entry outside of a delivery.
func parsed(entry string) (p *tlsPolicy, warnings []string, ok bool) {
	s := sitePolicy{tlsPolicy: &tlsPolicy{}, where: "W", warn: func(format string, a ...any) { warnings = append(warnings, fmt.Sprintf(format, a...)) }}
	ok = s.parse(entry)
	return s.tlsPolicy, warnings, ok
}

func TestPolicyGrammar(t *testing.T) {
	for _, c := range []struct {
		entry string
		want  string // fields that are set, or the warning
	}{
		{"none", "none"},
		{"Encrypt", "encrypt"},
		{" ,encrypt,\tciphers=high , protocols=>=TLSv1.2", "encrypt ciphers=high protocols=>=TLSv1.2"},
		{"may exclude=RC4:MD5 servername=x.test", "may exclude=RC4:MD5 sni=x.test"},
		{"verify match=a:b::c match=.d", "verify match=[a b c .d]"},
		{"secure match=nexthop", "secure match=[nexthop]"},
		{"fingerprint match=AA:BB|cc match=DD", "fingerprint match=[AA:BB cc DD]"},
		{"encrypt connection_reuse=YES", "encrypt reuse"},
		{"encrypt connection_reuse=yes connection_reuse=no", "encrypt"},
		{"encrypt MATCH=x", `W: attribute "MATCH" invalid at security level "encrypt"`},
		{"verify = x", `W: malformed attribute/value pair "=": missing attribute name`},
		{"half-dane", `W: invalid security level "half-dane"`},
		{"", "W: invalid empty policy"},
		{"none x y", `none W: ignoring attribute "x" with TLS disabled W: ignoring attribute "y" with TLS disabled`},
	} {
		p, warnings, ok := parsed(c.entry)
		var words []string
		if ok {
			words = append(words, p.level.String())
			for _, f := range []struct{ name, value string }{{"ciphers", p.grade}, {"protocols", p.protocols}, {"exclude", p.exclude}, {"sni", p.sni}} {
				if f.value != "" {
					words = append(words, f.name+"="+f.value)
				}
			}
			if len(p.match) > 0 {
				words = append(words, fmt.Sprintf("match=%v", p.match))
			}
			if p.reuse {
				words = append(words, "reuse")
			}
		}
		if got := strings.Join(append(words, warnings...), " "); got != c.want {
			t.Errorf("%q: %s, want %s", c.entry, got, c.want)
		}
	}
}

// A session is found by who has the same policy, and by nobody else.
func TestPolicyKey(t *testing.T) {
	seen := map[string]string{}
	for _, entry := range []string{"none", "may", "encrypt", "encrypt ciphers=high", "encrypt protocols=TLSv1.3", "encrypt exclude=high", "encrypt servername=high",
		"verify", "secure", "verify match=a:b", "verify match=a,match=b:c", "verify match=a b"} {
		p, _, _ := parsed(entry)
		key := p.key()
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q have one key", entry, other)
		}
		seen[key] = entry
		if again, _, _ := parsed(entry); again.key() != key {
			t.Errorf("%q has two keys", entry)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{"encrypt ciphers=high", "verify match=a:b tafile=/x", "none x", "fingerprint match=|", ", ,", "may =", "secure servername=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		if strings.Contains(entry, "tafile") {
			return // it would read files
		}
		p, warnings, ok := parsed(entry)
		if !ok && len(warnings) == 0 {
			t.Errorf("%q is invalid without a word", entry)
		}
		if ok && (p.level < mailtls.LevelNone || p.level > mailtls.LevelSecure || p.level == mailtls.LevelHalfDane) {
			t.Errorf("%q has level %d", entry, p.level)
		}
		for _, m := range p.match {
			if m == "" {
				t.Errorf("%q has an empty name", entry)
			}
		}
	})
}

func TestReferences(t *testing.T) {
	r := &request{ctx: context.Background(), dest: destination{text: "[Next.test]:25", host: "next.test"}}
	got := r.references([]string{"nexthop", "dot-nexthop", "HOSTNAME", ".x.test", "y.test", "bücher.test", ".", "a b"}, server{host: "mx.host.test"})
	want := "[next.test .next.test mx.host.test .x.test y.test xn--bcher-kva.test a b]"
	if fmt.Sprint(got) != want {
		t.Errorf("%q, want %s", got, want)
	}
}

// deliverTLS is a delivery to a peer with some settings; it returns the log and what
// the peer heard.
func deliverTLS(t *testing.T, p *tlspeer.PKI, dir, server string, settings mp, times int) (log, heard string) {
	t.Helper()
	l, port := listen(t, nil, server, 0)
	peer := tlspeer.New(l, p, server)
	main := mp{"smtp_dns_support_level": "disabled", "tls_append_default_CA": "no", "smtp_tls_loglevel": "1", "compatibility_level": "3.6"}
	for k, v := range settings {
		main[k] = strings.NewReplacer("DIR", dir, "PORT", port).Replace(v)
	}
	o := newOurs(t, false, main)
	o.d.native = &dns.Fake{Hosts: names}
	now := time.Now()
	req := &deliver.Request{Flags: 3, Queue: "active", ID: "ABC123", NextHop: "[mx.good.test]:" + port, Sender: "s@ok.test",
		Recipients: []deliver.Recipient{{Address: "a@dest.test"}}, Stats: deliver.Stats{Incoming: now.Add(-old), Active: now}}
	o.message(req, "Subject: x\n\nhi\n")
	for range times {
		o.deliver(req)
		time.Sleep(pause)
	}
	return strings.Join(o.lines.Lines(), "\n"), strings.Join(peer.Lines(false), "\n")
}

func TestTLSAlone(t *testing.T) {
	dir := t.TempDir()
	p := tlspeer.NewPKI(t, dir)
	for _, c := range []struct {
		name, server string
		settings     mp
		times        int
		log, heard   string   // must be there
		not          []string // must not
	}{
		{name: "early reply", server: "good early", settings: mp{"smtp_tls_security_level": "encrypt", "smtp_tls_block_early_mail_reply": "yes"},
			log: "dsn=4.7.0, status=deferred (unexpected server message)", heard: "EHLO", not: []string{"MAIL"}},
		{name: "early reply warning", server: "good early", settings: mp{"smtp_tls_security_level": "encrypt", "smtp_tls_block_early_mail_reply": "yes"},
			log: "warning: server mx.good.test[127.0.0.1] violates smtp_tls_block_early_mail_reply policy"},
		{name: "no session cache", server: "good", settings: mp{"smtp_tls_security_level": "encrypt"}, times: 2, log: "secure=true", not: []string{"resumed=true"}},
		{name: "expired session cache", server: "good", settings: mp{"smtp_tls_security_level": "encrypt", "smtp_tls_session_cache_database": "btree:x", "smtp_tls_session_cache_timeout": "0"}, times: 2, heard: "resumed=true"},
		{name: "wrapper without engine", server: "good wrapper", settings: mp{"smtp_tls_security_level": "encrypt", "smtp_tls_wrappermode": "yes", "smtp_tls_CAfile": "DIR/missing.pem"},
			log: "dsn=4.7.5, status=deferred (TLS is required, but our TLS engine is unavailable)"},
		{name: "dane-only", server: "good", settings: mp{"smtp_tls_security_level": "dane-only", "smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns, native"},
			log: "dsn=4.7.5, status=deferred (no TLSA records found)", not: []string{"secure="}},
		{name: "protocol hole", server: "good tls12", settings: mp{"smtp_tls_security_level": "encrypt", "smtp_tls_mandatory_protocols": "!TLSv1.2"},
			log: "Cannot start TLS: handshake failure", not: []string{"secure=true"}},
		{name: "credentials", server: "good hangup", settings: mp{"smtp_tls_security_level": "may", "smtp_sasl_auth_enable": "yes", "smtp_sasl_password_maps": "inline:{ { [mx.good.test]:PORT = u:p } }"},
			log: "dsn=4.7.5, status=deferred (Cannot start TLS: handshake failure)", not: []string{"secure="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log, heard := deliverTLS(t, p, dir, c.server, c.settings, max(c.times, 1))
			if !strings.Contains(log, c.log) || !strings.Contains(heard, c.heard) {
				t.Errorf("log\n%s\nheard\n%s", log, heard)
			}
			for _, n := range c.not {
				if strings.Contains(log+heard, n) {
					t.Errorf("%q in log\n%s\nheard\n%s", n, log, heard)
				}
			}
		})
	}
}

// A connection must not be used again under a policy that wants another
// certificate, however much of the two is the same.
func TestPolicyKeyTLSA(t *testing.T) {
	long := make([]byte, 300)
	other := slices.Clone(long)
	other[150] = 1
	key := func(tlsa ...mailtls.TLSA) string { return (&tlsPolicy{level: mailtls.LevelDane, tlsa: tlsa}).key() }
	of := func(data []byte) mailtls.TLSA {
		return mailtls.TLSA{Usage: mailtls.UsageEndEntity, Selector: 1, Data: data}
	}
	if key(of(long)) != key(of(slices.Clone(long))) || key(of(long)) == key(of(other)) || key(of(long)) == key(of(long), of(other)) || key() == key(of(long)) {
		t.Error("the same key for other TLSA records, or another for the same")
	}
}

// What DNSSEC says of a server now counts, not what it said of one of the same
// name at the time of a connection that was kept.
func TestPolicyOfLookup(t *testing.T) {
	const tlsa = "_25._tcp.mx.good.test"
	o := newOurs(t, false, mp{"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec"})
	o.d.resolver = &dns.Fake{Records: map[string][]dns.Record{tlsa: {{Type: dns.TLSA, Usage: 3, Select: 1, Match: 1, Data: make([]byte, 32)}}}, Secure: map[string]bool{tlsa: true}}
	r := &request{ctx: t.Context(), d: o.d, dest: destination{text: "good.test", host: "good.test", port: 25}}
	fresh := server{host: "mx.good.test", actual: "mx.good.test", port: 25, secure: true}
	old := fresh
	old.secure = false
	for _, c := range []struct {
		srv  server
		want mailtls.Level
	}{{old, mailtls.LevelMay}, {fresh, mailtls.LevelDane}} {
		if p, why := r.policy(c.srv); p == nil || p.level != c.want {
			t.Errorf("secure=%t: %+v %v, want %s", c.srv.secure, p, why, c.want)
		}
	}
	if len(r.policies) != 2 {
		t.Error(r.policies)
	}
	fresh.addr, fresh.pref = netip.MustParseAddr("192.0.2.1"), 10
	if r.policy(fresh); len(r.policies) != 2 {
		t.Error("the policy was made anew for another address of the server")
	}
}
