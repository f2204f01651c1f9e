package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthaste/pkg/wire/dns"
)

func TestReversed(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":   "1.2.0.192",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2",
	} {
		if got := reversed(netip.MustParseAddr(addr)); got != want {
			t.Error(addr, got)
		}
	}
}

func TestNameEntry(t *testing.T) {
	e := evaluation{}
	for what, want := range map[string]string{
		"joe@bad.example": "bad.example", "bad.example": "bad.example", "joe@[1.2.3.4]": "", "joe@": "", "1.2.3.4": "", "host.123": "",
		"a..b": "", "joe@dömäin.example": "xn--dmin-moa0i.example", "a@b@c.example": "c.example", "bad_.example": "bad_.example", "-x": "",
	} {
		if got := e.nameEntry(&dnsList{domain: "l.example"}, what, "Sender address").query; got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}

// countingResolver counts and delays questions.
type countingResolver struct {
	dns.Resolver
	asked atomic.Int32
	delay func(name string) time.Duration
}

func (r *countingResolver) Lookup(ctx context.Context, name string, t dns.Type) (dns.Answer, error) {
	if t == dns.A {
		r.asked.Add(1)
	}
	if r.delay != nil {
		select {
		case <-time.After(r.delay(name)):
		case <-ctx.Done():
			return dns.Answer{}, ctx.Err()
		}
	}
	return r.Resolver.Lookup(ctx, name, t)
}

// Sessions that ask the same share one lookup, even if the first of them goes
// away; the cache holds no more than its size, and answers grow old.
func TestListCache(t *testing.T) {
	zone := new(dns.Fake).Add("x.l", "A 127.0.0.2", "TXT why")
	r := &countingResolver{Resolver: zone, delay: func(string) time.Duration { return 50 * time.Millisecond }}
	var c listCache
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := c.ask(short, r, "x.l"); err == nil {
		t.Error("an answer in no time")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			a, _, err := c.ask(t.Context(), r, "x.l")
			if err != nil || !a.listed(nil) || a.text != "why" {
				t.Error(a, err)
			}
		}()
	}
	all.Wait()
	if n := r.asked.Load(); n != 1 {
		t.Error(n, "lookups")
	}
	c.answers["x.l"].expires = time.Now().Add(-time.Second)
	r.delay = nil
	c.ask(t.Context(), r, "x.l")
	if n := r.asked.Load(); n != 2 {
		t.Error("an old answer was used", n)
	}
	for i := range 3 * listCacheSize {
		c.ask(t.Context(), r, fmt.Sprintf("h%d.l", i))
	}
	if len(c.answers) != listCacheSize || len(c.order) != listCacheSize {
		t.Error(len(c.answers), len(c.order))
	}
}

// A list that answers late makes those sessions wait that ask it, and nobody
// else.
func TestSlowList(t *testing.T) {
	const slow = 2 * time.Second
	srv, _, _ := newTestServer(t, [][2]string{{"smtpd_helo_restrictions", "reject_rhsbl_helo list.example"}})
	srv.dns = &countingResolver{Resolver: corpusZone(), delay: func(name string) time.Duration {
		if strings.HasPrefix(name, "slow.") {
			return slow
		}
		return 0
	}}
	session := func(helo string) time.Duration {
		start := time.Now()
		conn, done := connect(t, srv)
		play(t, script{name: helo, steps: []string{"C: EHLO " + helo, "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: QUIT"}}, conn)
		waitFor(t, done)
		return time.Since(start)
	}
	var all sync.WaitGroup
	begun := time.Now()
	for range 10 {
		all.Add(1)
		go func() {
			defer all.Done()
			if d := session("slow.example"); d < slow*9/10 {
				t.Error("a slow list answered after", d)
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	for i := range 20 {
		if d := session(fmt.Sprintf("fast%d.example", i)); d > slow/2 {
			t.Error("a session that has nothing to do with the slow list took", d)
		}
	}
	if d := time.Since(begun); d > slow {
		t.Error("twenty fast sessions took", d)
	}
	all.Wait()
}

// A policy server that hangs costs its own sessions only.
func TestHangingPolicyServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network:", err)
	}
	defer l.Close()
	hung := make(chan bool, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					hang := false
					for {
						line, err := in.ReadString('\n')
						if err != nil {
							return
						}
						if line == "\n" {
							break
						}
						hang = hang || line == "helo_name=hang.example\n"
					}
					if hang {
						hung <- true
						continue
					}
					fmt.Fprint(c, "action=DUNNO\n\n")
				}
			}()
		}
	}()
	srv, _, _ := newTestServer(t, [][2]string{
		{"smtpd_helo_restrictions", "check_policy_service { inet:" + l.Addr().String() + ", timeout=2s, try_limit=1, default_action=DUNNO }"}})
	steps := func(helo string) []string {
		return []string{"C: EHLO " + helo, "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: QUIT"}
	}
	slow, slowDone := connect(t, srv)
	go func() { play(t, script{name: "hang", steps: steps("hang.example")}, slow) }()
	<-hung
	start := time.Now()
	for range 20 {
		if out := talk(t, srv, steps("ok.example")...); !strings.Contains(out, "S: 250 2.1.5 Ok") {
			t.Error(out)
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Error("others waited", d)
	}
	waitFor(t, slowDone)
}
