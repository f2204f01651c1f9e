package smtp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/wire/dns"
)

func TestParseDestination(t *testing.T) {
	known := map[string]string{"smtp": "25", "submission": "587"}
	for _, c := range []struct{ in, want string }{
		{"example.com", "example.com 25 mx"},
		{"example.com:587", "example.com 587 mx"},
		{"example.com:", "example.com 25 mx"},
		{"example.com:submission", "example.com 587 mx"},
		{"[mail.example.com]", "mail.example.com 25"},
		{"[mail.example.com]:2525", "mail.example.com 2525"},
		{"[198.51.100.1]:26", "198.51.100.1 26"},
		{"[IPv6:2001:db8::1]:26", "2001:db8::1 26"},
		{"[ipv6:::1]", "::1 25"},
		{"[mail", `missing "]" in server description: [mail`},
		{"[mail]x", `garbage after "]" in server description: [mail]x`},
		{"[ipv6:zz::zz]", "malformed IPv6 address in server description: [ipv6:zz::zz]"},
		{"[]", "missing host information in server description: []"},
		{":25", "missing host information in server description: :25"},
		{"a b", "valid hostname or network address required in server description: a b"},
		{"x:25y", "garbage after numerical service in server description: x:25y"},
		{"x:0", "bad network port: 0 for destination: x:0"},
		{"x:65536", "bad network port: 65536 for destination: x:65536"},
		{"x:nosuchservice", "unknown service: nosuchservice/tcp"},
	} {
		d, err := parseDestination(c.in, "smtp", known)
		got := fmt.Sprintf("%s %d", d.host, d.port)
		if !d.literal {
			got += " mx"
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestResolve(t *testing.T) {
	f := &dns.Fake{Fail: map[string]dns.Status{"soft.test MX": dns.Temporary, "fail.test MX": dns.Fail, "hostsoft.test": dns.Temporary, "nomx.test MX": dns.NoData}}
	f.Add("two.test", "MX 20 b.two.test", "MX 10 a.two.test").Add("a.two.test", "A 198.51.100.1", "AAAA 2001:db8::1").Add("b.two.test", "A 198.51.100.2")
	f.Add("direct.test", "A 198.51.100.3")
	f.Add("nomx.test", "A 198.51.100.4")
	f.Add("self.test", "MX 10 a.two.test", "MX 20 me.test", "MX 30 b.two.test").Add("me.test", "A 198.51.100.99")
	f.Add("best.test", "MX 10 me.test", "MX 30 b.two.test")
	f.Add("primary.test", "MX 5 gone.test", "MX 10 me.test")
	f.Add("dead.test", "MX 10 gone.test", "MX 20 hostsoft.test")
	f.Add("myself.test", "A 198.51.100.99")
	for _, c := range []struct {
		hop, want string
		set       map[string]string
	}{
		{"two.test", "a.two.test[198.51.100.1]:25 b.two.test[198.51.100.2]:25", nil},
		{"two.test:26", "a.two.test[198.51.100.1]:26 b.two.test[198.51.100.2]:26", nil},
		{"two.test", "a.two.test[2001:db8::1]:25 a.two.test[198.51.100.1]:25 b.two.test[198.51.100.2]:25", map[string]string{"inet_protocols": "all", "smtp_address_preference": "ipv6"}},
		{"two.test", "a.two.test[198.51.100.1]:25 a.two.test[2001:db8::1]:25 b.two.test[198.51.100.2]:25", map[string]string{"inet_protocols": "all", "smtp_address_preference": "ipv4"}},
		{"[a.two.test]", "a.two.test[198.51.100.1]:25", nil},
		{"direct.test", "direct.test[198.51.100.3]:25", nil},
		{"nomx.test", "nomx.test[198.51.100.4]:25", nil},
		{"self.test", "a.two.test[198.51.100.1]:25 last", nil},
		{"best.test", "5.4.6 mail for best.test loops back to myself last", nil},
		{"best.test:26", "me.test[198.51.100.99]:26 b.two.test[198.51.100.2]:26", nil},
		{"primary.test", "4.4.4 unable to find primary relay for primary.test last", nil},
		{"[myself.test]", "5.4.6 mail for myself.test loops back to myself last", nil},
		{"dead.test", "4.4.3 Host or domain name not found. Name service error for name=hostsoft.test type=A: Host not found, try again", nil},
		{"gone.test", "5.4.4 Host or domain name not found. Name service error for name=gone.test type=A: Host not found", nil},
		{"soft.test", "4.4.3 Host or domain name not found. Name service error for name=soft.test type=MX: Host not found, try again", nil},
		{"fail.test", "5.4.3 Host or domain name not found. Name service error for name=fail.test type=MX: Non-recoverable error", nil},
		{"two.test", "5.4.4 unable to look up host two.test: Name or service not known", map[string]string{"disable_dns_lookups": "yes"}},
	} {
		set := map[string]string{"proxy_interfaces": "198.51.100.99", "inet_interfaces": "127.0.0.1"}
		for k, v := range c.set {
			set[k] = v
		}
		o := newOurs(t, false, set)
		o.d.resolver = f
		if set["inet_protocols"] == "all" {
			o.d.ipv4, o.d.ipv6 = true, true // whatever this machine has
		}
		r := newRequest(context.Background(), o.d, &agent.Job{Log: o.log})
		list, err := o.d.destinations(c.hop)
		if err != nil {
			t.Fatal(err)
		}
		s, why := r.resolve(list[0])
		var got []string
		for _, x := range s.list {
			got = append(got, x.relay())
		}
		if len(got) == 0 {
			got = append(got, why.String())
		}
		if s.last {
			got = append(got, "last")
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s %v:\n got %s\nwant %s", c.hop, c.set, g, c.want)
		}
	}
}

func TestBalance(t *testing.T) {
	make46 := func(s string) (list []server) {
		for i, ch := range s {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if ch == '6' {
				a = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i))
			}
			list = append(list, server{addr: a})
		}
		return list
	}
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"444666", 4, "4466"}, {"666444", 4, "6644"}, {"44444666", 5, "44466"}, {"66664444", 5, "66644"},
		{"4444446", 4, "4446"}, {"6666664", 4, "6664"}, {"46", 1, "4"}, {"64", 1, "6"}, {"4444", 2, "4444"}, {"446", 5, "446"},
	} {
		got := ""
		for _, s := range balance(make46(c.in), c.limit) {
			if s.addr.Is6() {
				got += "6"
			} else {
				got += "4"
			}
		}
		if got != c.want {
			t.Errorf("%s, %d: %s, want %s", c.in, c.limit, got, c.want)
		}
	}
}

// Limits of delivery.md §2.4: refused addresses count, and the last counts
// as final.
func TestAddressLimit(t *testing.T) {
	o := newOurs(t, false, map[string]string{"smtp_mx_address_limit": "3", "smtp_randomize_addresses": "no", "smtp_connect_timeout": "1s"})
	f := &dns.Fake{}
	f.Add("many.test", "A 127.0.0.1", "A 127.0.0.2", "A 127.0.0.3", "A 127.0.0.4")
	o.d.resolver = f
	req := &deliver.Request{Flags: 3, Queue: "active", ID: "ABC1", NextHop: "[many.test]:1", Sender: "s@x", Recipients: []deliver.Recipient{{Address: "a@x"}}}
	o.message(req, "x\n")
	reply := o.deliver(req)
	n := 0
	for _, l := range o.lines.Lines() {
		if strings.HasPrefix(l, "connect to many.test[127.0.0.") {
			n++
		}
	}
	if n != 3 || reply.Trouble.Code != "4.4.1" {
		t.Errorf("%d tries, %+v\n%s", n, reply, strings.Join(o.lines.Lines(), "\n"))
	}
}

func TestBestMXTransport(t *testing.T) {
	o := newOurs(t, false, map[string]string{"best_mx_transport": "nosuch", "proxy_interfaces": "198.51.100.99", "inet_interfaces": "127.0.0.1"})
	o.d.resolver = (&dns.Fake{}).Add("best.test", "MX 10 me.test").Add("me.test", "A 198.51.100.99")
	r := newRequest(context.Background(), o.d, &agent.Job{Log: o.log})
	s, why := r.resolve(destination{host: "best.test", port: 25})
	if len(s.list) != 0 || why.Code != "5.4.6" || !s.last {
		t.Errorf("%+v %v", s, why)
	}
}
