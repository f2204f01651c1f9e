package postscreen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

func TestParseSite(t *testing.T) {
	for text, want := range map[string]site{
		"bl.example":                      {domain: "bl.example", weight: 1},
		"bl.example*3":                    {domain: "bl.example", weight: 3},
		"wl.example*-5":                   {domain: "wl.example", weight: -5},
		"bl.example=127.0.0.[2..4]*+2":    {domain: "bl.example", weight: 2},
		"bl.example=127.0.0.[2;4;7..9]":   {domain: "bl.example", weight: 1},
		"key_1.bl.example=[127].0.0.2*10": {domain: "key_1.bl.example", weight: 10},
	} {
		got, err := parseSite(text, t.Logf)
		if err != nil || got.domain != want.domain || got.weight != want.weight || (got.pattern != nil) != strings.Contains(text, "=") {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"two.test*x":           `bad DNSBL weight factor "x" in "two.test*x"`,
		"two.test*":            `bad DNSBL weight factor "" in "two.test*"`,
		"two.test*99999999999": `bad DNSBL weight factor "99999999999" in "two.test*99999999999"`,
		"two.test=127.0.0.[2":  `bad DNSBL filter syntax: need ";" or "]" at "127.0.0.[2><"`,
		"two.test=":            `bad DNSBL filter syntax: empty address pattern`,
		"*3":                   `bad DNSBL domain name "" in "*3"`,
		"-two..test":           `bad DNSBL domain name "-two..test" in "-two..test"`,
	} {
		if _, err := parseSite(text, t.Logf); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzSite(f *testing.F) {
	for _, s := range []string{"bl.example", "bl.example=127.0.0.[2;4..6]*-3", "*", "=", "a=1.2.3.4*5*6"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSite(text, func(string, ...any) {})
		if err == nil && (s.domain == "" || !strings.HasPrefix(text, s.domain) || s.weight > maxWeight || s.weight < -maxWeight) {
			t.Errorf("%q: %+v", text, s)
		}
	})
}

// fakeBlog answers like dnsblog, from a table of domains.
func fakeBlog(t *testing.T, answers map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	os.Mkdir("private", 0o755)
	l, err := net.Listen("unix", filepath.Join("private", "dnsblog"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var domain, addr string
				var label int
				if attr.NewReader(c, attr.Null, "").Scan(attr.Str("rbl_domain", &domain), attr.Str("client_address", &addr), attr.Int("label", &label)) != nil {
					return
				}
				addrs, ok := answers[domain]
				if !ok {
					return // breaks the connection
				}
				ttl := 60
				fmt.Sscanf(addrs[strings.LastIndex(addrs, "/")+1:], "%d", &ttl)
				addrs, _, _ = strings.Cut(addrs, "/")
				if domain == "mad.test" {
					label++
				}
				attr.NewWriter(c, attr.Null).Str("rbl_domain", domain).Str("client_address", addr).Int("label", label).Str("rbl_addr", addrs).Int("ttl", ttl).Send()
			}()
		}
	}()
}

func TestScore(t *testing.T) {
	fakeBlog(t, map[string]string{"two.test": "127.0.0.2/900", "multi.test": "127.0.0.2 127.0.0.5/300", "none.test": "/600", "unknown.test": "/4294967295", "mad.test": "127.0.0.2/5"})
	for _, c := range []struct {
		sites      string
		total, ttl int
		domain     string
		warnings   int
	}{
		{"two.test", 1, 900, "two.test", 0},
		{"two.test multi.test*3 none.test*100", 4, 300, "multi.test", 0},
		{"multi.test=127.0.0.2*2 multi.test=127.0.0.5*3 multi.test*1 multi.test=127.0.0.[6..9]*50", 6, 300, "multi.test", 0},
		{"none.test", 0, 600, "", 0},
		{"unknown.test", 0, -1, "", 0},
		{"two.test*-3", -3, 900, "two.test", 0},
		{"two.test gone.test mad.test", 1, 900, "two.test", 2},
	} {
		log, buffer := maillog.Capture()
		l := &lists{log: log, service: "dnsblog", timeout: 5 * time.Second, scores: map[string]*score{}}
		seen := map[string]bool{}
		for _, text := range strings.Fields(c.sites) {
			s, err := parseSite(text, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			l.sites = append(l.sites, s)
			if !seen[s.domain] {
				seen[s.domain] = true
				l.domains = append(l.domains, s.domain)
			}
		}
		one, two := net.Pipe()
		defer two.Close()
		user, other := &session{addr: "192.0.2.1", nc: one}, &session{addr: "192.0.2.1", nc: one}
		s := l.ask(context.Background(), user)
		if l.ask(context.Background(), other) != s {
			t.Error("two scores for one address")
		}
		<-s.done
		total, ttl, domain := l.read(s)
		if total != c.total || ttl != c.ttl || domain != c.domain || len(buffer.Lines()) != c.warnings {
			t.Errorf("%s: %d %d %s %q", c.sites, total, ttl, domain, buffer.Lines())
		}
		l.release(user, s)
		if len(l.scores) != 1 {
			t.Error("forgotten too early")
		}
		l.release(other, s)
		if len(l.scores) != 0 {
			t.Error("not forgotten")
		}
	}
}

// A client that comes and goes while the lists are silent does not have them asked
// each time, and is forgotten in the end.
func TestImpatient(t *testing.T) {
	t.Chdir(t.TempDir())
	os.Mkdir("private", 0o755)
	l, err := net.Listen("unix", filepath.Join("private", "dnsblog"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lists := &lists{log: maillog.Discard(), service: "dnsblog", timeout: 5 * time.Second, scores: map[string]*score{}, domains: []string{"one.test", "two.test"}}
	var s *score
	for range 20 {
		user := &session{addr: "192.0.2.1"}
		s = lists.ask(context.Background(), user)
		lists.release(user, s)
	}
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		t.Fatal("more questions are under way")
	}
	lists.mu.Lock()
	defer lists.mu.Unlock()
	if lists.label != 2 || len(lists.scores) != 0 {
		t.Errorf("%d questions, %d scores left", lists.label, len(lists.scores))
	}
}

func TestMatches(t *testing.T) {
	s, _ := parseSite("bl.test=127.0.0.[2;4]", t.Logf)
	addrs := func(text ...string) (list []netip.Addr) {
		for _, a := range text {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	}
	if !s.matches(addrs("127.0.0.9", "127.0.0.4")) || s.matches(addrs("127.0.0.3")) || s.matches(nil) {
		t.Error("pattern")
	}
	s.pattern = nil
	if !s.matches(addrs("10.0.0.1")) || s.matches(nil) {
		t.Error("no pattern")
	}
}

// The moving average warns once a minute.
func TestSlowCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, buffer := maillog.Capture()
		c := &cache{t: named("btree:x"), log: log, now: time.Now}
		for range 20 {
			c.tell("psc_cache_lookup", "lookup", &c.get, 300*time.Millisecond)
			time.Sleep(10 * time.Second)
		}
		if lines := buffer.Lines(); len(lines) != 3 || !strings.HasPrefix(lines[0], "warning: psc_cache_lookup: btree:x lookup average delay is 1") {
			t.Errorf("%q", lines)
		}
	})
}

// named is a table that has nothing but a name.
type named string

func (n named) Name() string { return string(n) }

func (n named) Flags() table.Flags { return 0 }
func (n named) Close() error       { return nil }
func (n named) Lookup(context.Context, string) (string, bool, error) {
	return "", false, nil
}

// mute is a table that does not answer.
type mute struct{ named }

func (mute) Lookup(ctx context.Context, _ string) (string, bool, error) {
	<-ctx.Done()
	return "", false, ctx.Err()
}

// Neither a session nor the cleaner, for whom the sessions wait, waits for ever for
// a cache that does not answer; it is then left alone for a while.
func TestMuteCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, use := range map[string]func(d *daemon){
			"cleaner": func(d *daemon) { d.cleanupDue(t.Context(), time.Hour) },
			"session": func(d *daemon) {
				d.shared.withCache(func(c *cache) { c.lookup(t.Context(), "192.0.2.1") })
			},
		} {
			d := &daemon{now: time.Now, log: maillog.Discard()}
			d.shared.cache = &cache{t: mute{"proxy:x"}, log: d.log, now: time.Now}
			for _, want := range []time.Duration{lookupLimit, 0} {
				began := time.Now()
				use(d)
				if took := time.Since(began); took != want {
					t.Errorf("%s: waited %v, want %v", name, took, want)
				}
			}
		}
	})
}
