package dnsblog

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/dns"
)

func list() *dns.Fake {
	a := func(ip string, ttl uint32) dns.Record {
		return dns.Record{Type: dns.A, Addr: netip.MustParseAddr(ip), TTL: ttl}
	}
	return &dns.Fake{
		Records: map[string][]dns.Record{
			"1.2.0.192.bl.test": {a("127.0.0.2", 600), a("127.0.0.4", 300)},
			"1." + strings.Repeat("0.", 23) + "8.b.d.0.1.0.0.2.bl.test": {a("127.0.0.3", 77)},
		},
		Fail: map[string]dns.Status{"9.2.0.192.fail.test": dns.Temporary},
	}
}

// conversation is a client that has sent its request.
type conversation struct {
	in  *strings.Reader
	out strings.Builder
}

func (c *conversation) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *conversation) Write(b []byte) (int, error) { return c.out.Write(b) }

func TestServe(t *testing.T) {
	for _, c := range []struct{ domain, addr, listed, ttl string }{
		{"bl.test", "192.0.2.1", "127.0.0.2 127.0.0.4", "300"},
		{"bl.test", "2001:db8::1", "127.0.0.3", "77"},
		{"bl.test", "192.0.2.7", "", "4294967295"},
		{"fail.test", "192.0.2.9", "", "4294967295"},
	} {
		logger, log := maillog.Capture()
		d := &daemon{log: logger, resolver: list()}
		request := strings.ReplaceAll("rbl_domain|"+c.domain+"|client_address|"+c.addr+"|label|7|", "|", "\x00")
		conn := &conversation{in: strings.NewReader(request + "\x00")}
		if err := d.serve(t.Context(), conn); err != nil {
			t.Error(c, err)
		}
		want := request + strings.ReplaceAll("rbl_addr|"+c.listed+"|ttl|"+c.ttl+"||", "|", "\x00")
		if conn.out.String() != want {
			t.Errorf("%v: %q, want %q", c, conn.out.String(), want)
		}
		var lines []string
		for _, r := range strings.Fields(c.listed) {
			lines = append(lines, "addr "+c.addr+" listed by domain "+c.domain+" as "+r)
		}
		got := log.Lines()
		if c.domain == "fail.test" {
			if len(got) != 1 || !strings.HasPrefix(got[0], "warning: dnsblog_query: lookup error for DNS query 9.2.0.192.fail.test: ") {
				t.Errorf("log %q", got)
			}
		} else if !slices.Equal(got, lines) {
			t.Errorf("log %q", got)
		}
	}
}

func TestRefused(t *testing.T) {
	d := &daemon{log: maillog.Discard(), resolver: list()}
	for _, request := range []string{
		"rbl_domain|bl.test|label|1|client_address|192.0.2.1||", "rbl_domain|bl.test|client_address|192.0.2.1|label|x||",
		"rbl_domain|bl.test|client_address|1:2|label|1||", "", "rbl_domain|bl.te",
	} {
		conn := &conversation{in: strings.NewReader(strings.ReplaceAll(request, "|", "\x00"))}
		if err := d.serve(t.Context(), conn); err == nil || conn.out.Len() > 0 {
			t.Errorf("%q: %v, %q", request, err, conn.out.String())
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("rbl_domain\x00bl.test\x00client_address\x00192.0.2.1\x00label\x007\x00\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if q, err := readRequest(attr.NewReader(strings.NewReader(s), attr.Null, "fuzz")); err == nil {
			_, _ = reverse(q.addr)
		}
	})
}
