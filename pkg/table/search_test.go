package table_test

import (
	"context"
	"strings"
	"testing"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
)

func TestFindAddress(t *testing.T) {
	local := func(_ context.Context, domain string) (bool, error) { return domain == "local.example", nil }
	for _, c := range []struct {
		maps, addr string
		o          table.AddressOptions
		value, ext string
	}{
		{"inline:{u+x@d.e=1, u@d.e=2}", "u+x@d.e", table.AddressOptions{Delimiters: "+"}, "1", ""},
		{"inline:{u@d.e=2}", "u+x@d.e", table.AddressOptions{Delimiters: "+"}, "2", "+x"},
		{"inline:{u@d.e=2}", "u-x+y@d.e", table.AddressOptions{Delimiters: "+-"}, "2", "-x+y"},
		{"inline:{u@d.e=2}", "u+x@d.e", table.AddressOptions{}, "", ""},
		{"inline:{u+x=3, u=4}", "u+x@local.example", table.AddressOptions{Delimiters: "+", IsLocal: local}, "3", ""},
		{"inline:{u=4}", "u+x@local.example", table.AddressOptions{Delimiters: "+", IsLocal: local}, "4", "+x"},
		{"inline:{u=4}", "u+x@other.example", table.AddressOptions{Delimiters: "+", IsLocal: local}, "", ""},
		{"inline:{@d.e=5}", "u+x@d.e", table.AddressOptions{Delimiters: "+"}, "5", "+x"},
		{"regexp:{{/^@d/ no}, {/^u@/ no}}", "u+x@d.e", table.AddressOptions{Delimiters: "+"}, "", ""},
		{"inline:{postmaster=no, owner=no, list=no}", "owner-list@local.example", table.AddressOptions{Delimiters: "-", OwnerRequest: true, IsLocal: local}, "", ""},
		{"inline:{d-b@d.e=1, d@d.e=2}", "D-B@d.e", table.AddressOptions{Delimiters: "-", DoubleBounce: "d-b"}, "1", ""},
		{`inline:{ {"\"a b\"@d.e" = 6} }`, "a b@d.e", table.AddressOptions{}, "6", ""},
		{`inline:{ {"a b@d.e" = 7} }`, "a b@d.e", table.AddressOptions{}, "", ""},
		{`inline:{ {"a b@d.e" = 7} }`, "a b@d.e", table.AddressOptions{Form: table.FormExternalFirst}, "7", ""},
		{"inline:{b.c=8}", "u@a.b.c", table.AddressOptions{Strategy: table.AddrTransport, ParentSubdomains: true}, "8", ""},
		{"inline:{.b.c=9}", "u@a.b.c", table.AddressOptions{Strategy: table.AddrTransport}, "9", ""},
		{"inline:{b.c=8}", "u@a.b.c", table.AddressOptions{Strategy: table.AddrTransport}, "", ""},
		{"inline:{.c=1, a.b.c=2}", "u@a.b.c", table.AddressOptions{Strategy: table.AddrTransport}, "2", ""},
	} {
		m, err := table.OpenMaps(table.Env{Strict: true}, "test", c.maps, table.FoldFix)
		if err != nil {
			t.Fatal(err)
		}
		value, ext, found, err := m.FindAddress(context.Background(), c.addr, c.o)
		if value != c.value || ext != c.ext || found != (c.value != "") || err != nil {
			t.Errorf("%s in %s: %q, %q, %v, %v; want %q, %q", c.addr, c.maps, value, ext, found, err, c.value, c.ext)
		}
	}
}

func TestMatchList(t *testing.T) {
	file := write(t, "list", "# comment\n file.example, !not.example\n10.2.0.0/16\n")
	for _, c := range []struct {
		kind     table.MatchKind
		patterns string
		flags    table.MatchFlags
		keys     string
		want     bool
	}{
		{table.MatchString, "a b, c", 0, "B", true},
		{table.MatchString, "a, !b, b", 0, "b", false},
		{table.MatchString, "inline:{x=1 y=2}", 0, "Y", false}, // not folded by the table, but by us
		{table.MatchString, "inline:{x=1, y=2}", 0, "Y", true},
		{table.MatchString, file, 0, "file.example", true},
		{table.MatchString, "!" + file + ", file.example, static:all", 0, "file.example", false},
		{table.MatchString, "!" + file + ", static:all", 0, "not.example", true},
		{table.MatchString, "!" + file + ", static:all", 0, "x", true},
		{table.MatchDomain, "example.com", table.ParentSubdomains, "a.example.com", true},
		{table.MatchDomain, "example.com", 0, "a.example.com", false},
		{table.MatchDomain, ".example.com", 0, "a.example.com", true},
		{table.MatchDomain, ".example.com", 0, "example.com", false},
		{table.MatchDomain, "inline:{example.com=x}", table.ParentSubdomains, "a.b.example.com", true},
		{table.MatchDomain, "inline:{example.com=x}", 0, "a.b.example.com", false},
		{table.MatchDomain, "inline:{.example.com=x}", 0, "a.b.example.com", true},
		{table.MatchDomain, "regexp:{{/^example/ x}}", table.ParentSubdomains, "a.example.com", false},
		{table.MatchHostAddr, "127.0.0.0/8 [::1]/128 [fe80::]/10", 0, "localhost 127.0.0.1", true},
		{table.MatchHostAddr, "127.0.0.0/8 [::1]/128 [fe80::]/10", 0, "localhost ::1", true},
		{table.MatchHostAddr, "127.0.0.0/8 [::1]/128 [fe80::]/10", 0, "x FE80::5", true},
		{table.MatchHostAddr, "127.0.0.0/8 [::1]/128 [fe80::]/10", 0, "x 2001::1", false},
		{table.MatchHostAddr, "!10.1.0.0/16, 10.0.0.0/8", 0, "x 10.1.2.3", false},
		{table.MatchHostAddr, "!10.1.0.0/16, 10.0.0.0/8", 0, "x 10.2.2.3", true},
		{table.MatchHostAddr, "host.example", 0, "host.example 10.2.2.3", true},
		{table.MatchHostAddr, file, 0, "x 10.2.2.3", true},
		{table.MatchAddr, "10.0.0.1", 0, "10.0.0.1", true},
		{table.MatchAddr, "[10.0.0.1]", 0, "10.0.0.1", true},
		{table.MatchAddr, "cidr:{{10.0.0.0/8 x}}", 0, "10.0.0.1", true},
		{table.MatchAddr, "unknown", 0, "unknown", false},
	} {
		env, log := capture(t)
		l, err := table.NewMatchList(env, "mynetworks", c.patterns, c.kind, c.flags)
		if err != nil {
			t.Errorf("%s: %v", c.patterns, err)
			continue
		}
		got, err := l.Match(context.Background(), strings.Fields(c.keys)...)
		if c.patterns == "inline:{x=1 y=2}" {
			continue // one item "x=1 y=2" is fine either way
		}
		if got != c.want || err != nil {
			t.Errorf("%s against %s: %v, %v; log %q", c.keys, c.patterns, got, err, log.Lines())
		}
	}
}

func TestMatchListTrouble(t *testing.T) {
	ctx := context.Background()
	env, log := capture(t)
	if _, err := table.NewMatchList(env, "mynetworks", "a, !", table.MatchString, 0); err == nil || err.Error() != "mynetworks: no pattern after '!'" {
		t.Errorf("%v", err)
	}
	l, err := table.NewMatchList(env, "mynetworks", "10.0.0.1/8, x # y z", table.MatchHostAddr, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Match(ctx, "h", "10.0.0.1"); ok || err == nil {
		t.Error("bad network is no error")
	}
	l, err = table.NewMatchList(env, "relay_domains", "fail:x", table.MatchDomain, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Match(ctx, "h"); ok || err == nil {
		t.Error("table error is none")
	}
	l, err = table.NewMatchList(env, "relay_domains", "!/no/such/file", table.MatchDomain, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Match(ctx, "h"); ok || err == nil {
		t.Error("missing file is no error")
	}
	want := `warning: mynetworks: comment at end of line is not supported: # y z
warning: mynetworks: non-null host address bits in "10.0.0.1/8", perhaps you should use "10.0.0.0/8" instead
warning: relay_domains: fail:x: table lookup problem
error: open file /no/such/file: No such file or directory
warning: non-existent:/no/such/file is unavailable. open file /no/such/file: No such file or directory
warning: relay_domains: non-existent:/no/such/file: table lookup problem`
	if got := strings.Join(log.Lines(), "\n"); got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

func TestParentStyle(t *testing.T) {
	c := conf.FromMap(map[string]string{"parent_domain_matches_subdomains": "relay_domains, mynetworks"})
	env := table.Env{Config: c}
	for title, want := range map[string]bool{"relay_domains": true, "other": false} {
		l, err := table.NewMatchList(env, title, "example.com", table.MatchDomain, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Match(context.Background(), "a.example.com"); got != want || err != nil {
			t.Errorf("%s: %v, %v", title, got, err)
		}
	}
}
