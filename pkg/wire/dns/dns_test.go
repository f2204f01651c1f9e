package dns

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// serve answers from zone lines; names beginning with "servfail" and
// "refused" fail that way, "big." answers are truncated over UDP.
func serve(t *testing.T, zone string) *Client {
	t.Helper()
	records := map[string][]dns.RR{}
	for _, line := range strings.Split(strings.TrimSpace(zone), "\n") {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(rr.Header().Name)
		records[name] = append(records[name], rr)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		_, udp := w.RemoteAddr().(*net.UDPAddr)
		rrs, exists := records[name]
		switch {
		case strings.HasPrefix(name, "servfail"):
			m.Rcode = dns.RcodeServerFailure
		case strings.HasPrefix(name, "notimp"):
			m.Rcode = dns.RcodeNotImplemented
		case !exists:
			m.Rcode = dns.RcodeNameError
		case strings.HasPrefix(name, "big.") && udp:
			m.Truncated = true
		default:
			for range maxCNAME + 2 {
				alias := ""
				for _, rr := range rrs {
					if rr.Header().Rrtype == q.Question[0].Qtype {
						m.Answer = append(m.Answer, rr)
					} else if cn, ok := rr.(*dns.CNAME); ok {
						m.Answer = append(m.Answer, rr)
						alias = cn.Target
					}
				}
				if alias == "" || strings.HasPrefix(alias, "apart.") {
					break
				}
				rrs = records[alias]
			}
		}
		m.AuthenticatedData = strings.HasPrefix(name, "secure")
		w.WriteMsg(m)
	})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Skip(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return NewServers(pc.LocalAddr().String())
}

const zone = `
a.example. 60 IN MX 10 mx.a.example.
a.example. 60 IN MX 20 mx2.a.example.
mx.a.example. 60 IN A 192.0.2.1
mx.a.example. 60 IN AAAA 2001:db8::1
null.example. 60 IN MX 0 .
alias.example. 60 IN CNAME mx.a.example.
far.example. 60 IN CNAME apart.example.
apart.example. 60 IN A 192.0.2.9
loop.example. 60 IN CNAME loop.example.
big.example. 60 IN TXT "hello" " world"
bad.example. 60 IN MX 10 -bad-.example.
num.example. 60 IN MX 10 192.0.2.7.
secure.example. 60 IN A 192.0.2.5
`

func TestClient(t *testing.T) {
	c := serve(t, zone)
	c.DNSSEC = true
	ctx := context.Background()
	for _, q := range []struct {
		name   string
		t      Type
		status Status
		first  string // host or address of the first record
		text   string
	}{
		{"a.example", MX, 0, "mx.a.example", ""},
		{"a.example", A, NoData, "", "Host or domain name not found. Name service error for name=a.example type=A: Host found but no data record of requested type"},
		{"gone.example", MX, NotFound, "", "Host or domain name not found. Name service error for name=gone.example type=MX: Host not found"},
		{"servfail.example", MX, Temporary, "", "Host or domain name not found. Name service error for name=servfail.example type=MX: Host not found, try again"},
		{"notimp.example", A, Fail, "", "Host or domain name not found. Name service error for name=notimp.example type=A: Non-recoverable error"},
		{"null.example", MX, NullMX, "", "Domain null.example does not accept mail (nullMX)"},
		{"alias.example", A, 0, "192.0.2.1", ""},
		{"far.example", A, 0, "192.0.2.9", ""},
		{"loop.example", A, Invalid, "", "Name server loop for loop.example"},
		{"big.example", TXT, 0, "hello world", ""},
		{"bad.example", MX, Invalid, "", "Name service error for name=bad.example type=MX: Malformed or unexpected name server reply"},
		{"num.example", MX, 0, "192.0.2.7", ""},
		{"a..b", MX, NotFound, "", "Name service error for a..b: invalid host or domain name"},
		{"1.2.3.4", A, NotFound, "", "Name service error for 1.2.3.4: invalid host or domain name"},
	} {
		ans, err := c.Lookup(ctx, q.name, q.t)
		if StatusOf(err) != q.status {
			t.Errorf("%s %s: %v, want status %d", q.name, q.t, err, q.status)
			continue
		}
		if err != nil {
			if err.Error() != q.text {
				t.Errorf("%s %s: %q, want %q", q.name, q.t, err, q.text)
			}
			continue
		}
		r := ans.Records[0]
		got := r.Host + r.Text
		if r.Addr.IsValid() {
			got = r.Addr.String()
		}
		if got != q.first || ans.Secure {
			t.Errorf("%s %s: %+v", q.name, q.t, ans)
		}
	}
	if ans, err := c.Lookup(ctx, "secure.example", A); err != nil || !ans.Secure {
		t.Error(ans, err)
	}
	if ans, err := Addresses(ctx, c, "mx.a.example", true, true); err != nil || len(ans.Records) != 2 {
		t.Error(ans, err)
	}
	c.Filter = func([]Record) ([]Record, error) { return nil, nil }
	if _, err := c.Lookup(ctx, "a.example", MX); StatusOf(err) != Policy {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"a.example": "", "a_b.x": "", "x": "", "1.2.3.4": "numeric hostname", "": "empty hostname",
		".a": "misplaced delimiter", "a.": "misplaced delimiter", "a..b": "misplaced delimiter", "-a": "misplaced hyphen",
		"a-.b": "misplaced hyphen", "a b": "invalid character 32(decimal)", strings.Repeat("a", 64): "hostname label too long",
		strings.Repeat("a.", 140): "bad length",
	} {
		err := CheckHostname(name)
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	for s, want := range map[string]bool{"1.2.3.4": true, "0.0.0.0": true, "0.1.2.3": false, "1.2.3": false, "IPv6:::1": true, "::1": false, "256.1.1.1": false} {
		if _, ok := ParseLiteral(s); ok != want {
			t.Errorf("literal %q: %v", s, ok)
		}
	}
	if got := ReverseName(netip.MustParseAddr("192.0.2.1")); got != "1.2.0.192.in-addr.arpa" {
		t.Error(got)
	}
}

func TestFake(t *testing.T) {
	f := new(Fake).Add("x.example", "MX 10 m.example").Add("y.example", "CNAME x.example")
	f.Fail = map[string]Status{"z.example": Temporary}
	if ans, err := f.Lookup(context.Background(), "y.example", MX); err != nil || ans.Records[0].Host != "m.example" {
		t.Error(ans, err)
	}
	if _, err := f.Lookup(context.Background(), "z.example", MX); StatusOf(err) != Temporary {
		t.Error(err)
	}
}

func FuzzNames(f *testing.F) {
	f.Add("a.example")
	f.Add("xn--a.b")
	f.Fuzz(func(t *testing.T, s string) {
		if ValidHostname(s) && !askable(s, A) {
			t.Fatal(s)
		}
		ParseLiteral(s)
		ASCII(s)
	})
}
