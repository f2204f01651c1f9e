package smtp

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/wire/dns"
	"posthaste/test/tlspeer"
	"posthaste/test/world"
)

// What Debian's smtp 3.7.11 did in daneCases. UPDATE=1 makes it anew.
const daneGolden = "testdata/dane.txt"

func TestDANEGolden(t *testing.T) {
	cases := daneCases()
	if os.Getenv("UPDATE") != "" {
		list := make([]tlsCase, len(cases))
		for i, c := range cases {
			list[i] = c.tlsCase
		}
		askOracle(t, daneGolden, list, func(w *world.World, p *tlspeer.PKI) (func(int), func() string) {
			pc, err := w.ListenPacket("udp", "127.0.0.1:53")
			if err != nil {
				t.Fatal(err)
			}
			s := &tlspeer.NameServer{PKI: p}
			s.Start(t, pc)
			return func(n int) { s.Set(t, cases[n].zone) }, s.Questions
		})
		return
	}
	text, err := os.ReadFile(daneGolden)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, part := range strings.Split(string(text), "=== ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		want[name] = body
	}
	dir := t.TempDir()
	p := tlspeer.NewPKI(t, dir)
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, port := listen(t, nil, c.server, n)
			i := c.instance(l, port, p, n)
			o := newOurs(t, c.lmtp, i.main)
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &tlspeer.NameServer{PKI: p}
			s.Set(t, c.zone)
			s.Start(t, pc)
			client := dns.NewServers(pc.LocalAddr().String())
			client.DNSSEC = o.d.dnssec
			if !o.d.tables.dnsFilter.Empty() {
				client.Filter = o.d.filterRecords
			}
			if err := o.d.resolveBy(client); err != nil {
				t.Fatal(err)
			}
			o.d.native = &dns.Fake{Hosts: names}
			o.d.service = fmt.Sprintf("t%d", n)
			o.message(i.req, "Subject: x\n\nhi\n")
			reply := o.deliver(i.req)
			for range c.again {
				time.Sleep(pause)
				reply = o.deliver(i.req)
			}
			got := i.outcome(o.lines.Lines(), o.take(), reply, o.marks(i.req)) + i.mask(s.Questions())
			w := c.own + want[c.name]
			for _, r := range c.differs {
				w = strings.ReplaceAll(w, r[0], r[1])
			}
			if got != w {
				t.Errorf("got\n%s\nwant\n%s", got, w)
			}
		})
	}
}
