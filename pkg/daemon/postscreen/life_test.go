package postscreen

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// talk is a client for tests that need no script.
type talk struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dialScreen(t *testing.T, w *world.World, from string, port int) *talk {
	t.Helper()
	c, err := w.DialFrom(from, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(15 * time.Second))
	return &talk{t, c, bufio.NewReader(c)}
}

// expect sends a line, if there is one, and wants a reply that begins so.
func (c *talk) expect(line, reply string) {
	c.t.Helper()
	if line != "" {
		io.WriteString(c, line+"\r\n")
	}
	for {
		got, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%q: %v", line, err)
		}
		if len(got) > 3 && got[3] == '-' && !strings.HasPrefix(reply, got[:4]) {
			continue
		}
		if !strings.HasPrefix(got, reply) {
			c.t.Fatalf("%q: %q, want %q", line, got, reply)
		}
		return
	}
}

// Each suite with the other's postscreen, or with the other's programs around it:
// mail that is handed over is delivered, TLS and DNS lists work.
func TestInterchange(t *testing.T) {
	t.Parallel()
	for _, o := range []world.Options{
		{Suite: world.Debian, Swap: []string{"postscreen"}}, {Suite: world.Ours, Swap: []string{"postscreen"}},
		{Suite: world.Debian, Swap: []string{"smtpd"}}, {Suite: world.Debian, Swap: []string{"dnsblog", "tlsproxy", "master"}}, {Suite: world.Ours, Swap: []string{"master"}},
	} {
		t.Run(fmt.Sprint(o.Suite, o.Swap), func(t *testing.T) {
			t.Parallel()
			rows := []*row{{name: "plain", port: 20001}, {name: "deep", port: 20002, settings: []string{"postscreen_pipelining_enable = yes", "postscreen_dnsbl_sites = two.test multi.test",
				"postscreen_dnsbl_threshold = 2", "postscreen_dnsbl_action = enforce", "postscreen_greet_wait = 3s"}}}
			w := screens(t, o, rows)
			c := dialScreen(t, w, "127.7.0.1", 20001)
			c.expect("", "220-mail")
			c.expect("", "220 mail")
			c.expect("EHLO x", "250 ")
			c.expect("MAIL FROM:<a@b.test>", "250 ")
			c.expect("RCPT TO:<u@inbox.test>", "250 ")
			c.expect("DATA", "354 ")
			c.expect("Subject: x\r\n\r\nhi\r\n.", "250 2.0.0 Ok: queued as ")
			c.expect("QUIT", "221 ")
			if _, err := w.WaitLog(10*time.Second, "to=<u@inbox.test>", "status=sent"); err != nil {
				t.Error(err)
			}
			d := dialScreen(t, w, "127.7.0.2", 20002)
			d.expect("", "220-mail")
			d.expect("", "220 mail")
			d.expect("EHLO x", "250 ")
			d.expect("STARTTLS", "220 2.0.0 Ready")
			if said := (&player{w: w, conns: map[string]*peerConn{"a": {d.Conn, d.in}}, now: "a"}); said.step("tls", "") != nil {
				t.Fatal("no TLS")
			} else {
				for _, line := range []string{"EHLO y", "MAIL FROM:<a@b.test>", "RCPT TO:<u@inbox.test>"} {
					said.step(">", line)
					said.step("<", "")
				}
				if last := said.said[len(said.said)-1]; !strings.HasPrefix(last, "550 5.7.1 Service unavailable; client [127.7.0.2] blocked using") {
					t.Error(last)
				}
			}
			if err := w.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A reload, or a table that changes, lets open sessions end in their own time
// while a successor has the cache.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, o := range []world.Options{{Suite: world.Ours}, {Suite: world.Debian, Swap: []string{"postscreen"}}} {
		t.Run(fmt.Sprint(o.Suite, o.Swap), func(t *testing.T) {
			t.Parallel()
			rows := []*row{{name: "deep", port: 20001, settings: []string{"postscreen_pipelining_enable = yes", "postscreen_greet_wait = 1s",
				"postscreen_access_list = hash:/etc/postfix/drain"}}}
			w := screens(t, o, rows)
			if r := w.Sh("echo 127.8.0.9 permit >/etc/postfix/drain && postmap hash:/etc/postfix/drain && postfix reload"); r.Code != 0 {
				t.Fatal(r)
			}
			open := func(from string) *talk {
				c := dialScreen(t, w, from, 20001)
				c.expect("", "220-mail")
				c.expect("", "220 mail")
				return c
			}
			first := open("127.8.0.1")
			if r := w.Sh("postfix reload"); r.Code != 0 {
				t.Fatal(r)
			}
			for end := time.Now().Add(5 * time.Second); w.CountLog("reload -- version") < 2 && time.Now().Before(end); { // it goes on behind the command's back
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(300 * time.Millisecond)
			second := open("127.8.0.2")
			time.Sleep(1100 * time.Millisecond)
			if r := w.Sh("echo 127.8.0.8 permit >>/etc/postfix/drain && postmap hash:/etc/postfix/drain"); r.Code != 0 {
				t.Fatal(r)
			}
			third := open("127.8.0.3")
			if _, err := w.WaitLog(5*time.Second, "table hash:/etc/postfix/drain(0,", "has changed - finishing in the background"); err != nil {
				t.Error(err)
			}
			for i, c := range []*talk{first, second, third} {
				c.expect("EHLO x", "250 ")
				c.expect("MAIL FROM:<a@b.test>", "250 ")
				c.expect("RCPT TO:<u@inbox.test>", "450 ")
				c.expect("QUIT", "221 ")
				if _, err := w.WaitLog(5*time.Second, fmt.Sprintf("PASS NEW [127.8.0.%d]", i+1)); err != nil {
					t.Error(err)
				}
			}
			fourth := dialScreen(t, w, "127.8.0.8", 20001)
			fourth.expect("", "220 mail")
			if err := w.Stop(); err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(w.Syslog()) {
				if strings.Contains(line, "deep/postscreen") && (strings.Contains(line, "fatal") || strings.Contains(line, "warning")) || strings.Contains(line, "throttling") {
					t.Error(line)
				}
			}
			cache := w.Run("", "postmap", "-s", "btree:/var/lib/postfix/ps_deep").Out
			for from, want := range map[string]bool{"127.8.0.1": false, "127.8.0.2": false, "127.8.0.3": true} {
				if strings.Contains(cache, from+"\t") != want {
					t.Errorf("%s in cache: %v\n%s", from, !want, cache)
				}
			}
		})
	}
}

// The cache can be a proxied table, in which several may write, or none at all;
// one in a directory of somebody else's is put elsewhere.
func TestCacheTables(t *testing.T) {
	t.Parallel()
	rows := []*row{{name: "proxied", port: 20001, settings: []string{"postscreen_cache_map = proxy:btree:$data_directory/shared"}},
		{name: "none", port: 20002, settings: []string{"postscreen_cache_map ="}},
		{name: "wrongdir", port: 20004, settings: []string{"postscreen_cache_map = btree:/etc/postfix/elsewhere"}}}
	w := screens(t, world.Options{Suite: world.Ours}, rows)
	if err := w.Set("proxy_write_maps = proxy:btree:$data_directory/shared"); err != nil {
		t.Fatal(err)
	}
	w.Sh("postfix reload")
	for i, r := range rows {
		from := fmt.Sprintf("127.6.0.%d", i+1)
		c := dialScreen(t, w, from, r.port)
		c.expect("", "220-mail")
		c.expect("", "220 mail")
		c.expect("QUIT", "221 ")
		time.Sleep(200 * time.Millisecond) // the first session is over when smtpd has said so
		again := dialScreen(t, w, from, r.port)
		greeting := map[bool]string{true: "220-mail", false: "220 mail"}[r.name == "none"]
		again.expect("", greeting)
	}
	for _, texts := range [][]string{{"proxied/", "PASS OLD"}, {"wrongdir/", "PASS OLD"},
		{"wrongdir/", "request to update table btree:/etc/postfix/elsewhere in non-postfix directory /etc/postfix"}} {
		if _, err := w.WaitLog(5*time.Second, texts...); err != nil {
			t.Error(err)
		}
	}
	w.Stop()
	if _, err := os.Stat(w.Path("/var/lib/postfix/elsewhere.db")); err != nil {
		t.Error(err)
	}
}
