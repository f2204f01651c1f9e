package postscreen

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
)

// newDaemon makes a daemon with those settings, in a directory of its own.
func newDaemon(t testing.TB, settings map[string]string) (*daemon, *maillog.Buffer) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("private", 0o755); err != nil {
		t.Fatal(err)
	}
	base := map[string]string{"mynetworks": "192.0.2.9", "myhostname": "mx.test", "postscreen_greet_wait": "1s", "postscreen_cache_map": "btree:" + filepath.Join(t.TempDir(), "cache"),
		"default_process_limit": "500", "smtpd_client_connection_count_limit": "0", "compatibility_level": "3.6"}
	for name, value := range settings {
		base[name] = value
	}
	log, buffer := maillog.Capture()
	d := &daemon{now: time.Now}
	rt := &service.Runtime{Config: conf.FromMap(base), Log: log, Owner: cred.Identity{UID: os.Getuid(), GID: os.Getgid()}}
	if err := d.setup(rt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.shared.closeCache)
	return d, buffer
}

// listen serves clients of a daemon; wait returns when all sessions have ended.
func listen(t testing.TB, d *daemon) (address string, wait func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = d.serve(context.Background(), service.NewConn(c))
			})
		}
	})
	return l.Addr().String(), func() { l.Close(); wg.Wait() }
}

// fakeSmtpd takes the clients that are handed over and says one word to each.
func fakeSmtpd(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join("private", "smtpd"))
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
				f, err := fdpass.Recv(c.(*net.UnixConn))
				c.Close()
				if err == nil {
					f.Write([]byte("220 handed over\r\n"))
					f.Close()
				}
			}()
		}
	}()
}

// A crowd of clients of all manners at the same time leaves nothing behind.
func TestManners(t *testing.T) {
	d, _ := newDaemon(t, map[string]string{"postscreen_pipelining_enable": "yes", "postscreen_bare_newline_enable": "yes", "postscreen_non_smtp_command_enable": "yes",
		"postscreen_greet_action": "enforce", "postscreen_command_time_limit": "2s", "postscreen_dnsbl_sites": "nosuch.test", "postscreen_dnsbl_timeout": "1s",
		"postscreen_pre_queue_limit": "40", "postscreen_post_queue_limit": "10"})
	fakeSmtpd(t)
	address, wait := listen(t, d)
	manners := [][]string{{"", ""}, {"EHLO early\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n"}, {"", "EHLO x\nMAIL FROM:<a@b>\n"}, {"", "GET / HTTP/1.0\r\n"},
		{"", "EHLO x\r\nSTARTTLS\r\nQUIT\r\n"}, {"x", strings.Repeat("y", 5000)}}
	var clients sync.WaitGroup
	for i := range 60 {
		clients.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			m := manners[i%len(manners)]
			io.WriteString(c, m[0])
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
			io.WriteString(c, m[1])
			if i%3 != 0 {
				io.Copy(io.Discard, c)
			}
		})
	}
	clients.Wait()
	wait()
	sh := &d.shared
	if len(sh.sessions) != 0 || len(sh.clients) != 0 || sh.testing != 0 || sh.handing != 0 || sh.stress || len(d.lists.scores) != 0 {
		t.Errorf("left: %d sessions, %d clients, %d under test, %d hand-offs, stress %v, %d scores", len(sh.sessions), len(sh.clients), sh.testing, sh.handing, sh.stress, len(d.lists.scores))
	}
}

// What came before the greeting is told in the log though the time to listen is
// over.
func TestTooEarly(t *testing.T) {
	d, log := newDaemon(t, map[string]string{"postscreen_cache_map": ""})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(client, "EHLO x\r\n")
	s := &session{d: d, ctx: context.Background(), nc: nc, name: "[192.0.2.1]:25"}
	if got := s.listen(time.Now().Add(5*time.Second), nil); got != words {
		t.Fatal(got)
	}
	s.wake()
	s.tooEarly()
	if text := strings.Join(log.Lines(), "\n"); !strings.Contains(text, "PREGREET 8 ") || !strings.HasSuffix(text, `EHLO x\r\n`) {
		t.Error(text)
	}
}

// Nobody passes while a table of postscreen_allowlist_interfaces does not answer.
func TestVetoInTrouble(t *testing.T) {
	for interfaces, want := range map[string]bool{"fail:x static:all": false, "!127.0.0.1 static:all": false, "static:all": true} {
		d, _ := newDaemon(t, map[string]string{"postscreen_cache_map": "", "postscreen_allowlist_interfaces": interfaces})
		s := &session{d: d, ctx: context.Background(), serverAddr: "127.0.0.1"}
		if got := s.allowable(); got != want {
			t.Errorf("%s: %v", interfaces, got)
		}
	}
}

// replies are what a server may say, in whole.
var replies = regexp.MustCompile(`^([2345]\d\d([ -][ -~]*)?\r\n)*$`)

// FuzzDialogue gives the dummy engine any input: it answers in lines, accepts no
// recipient, and ends.
func FuzzDialogue(f *testing.F) {
	for _, s := range []string{"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "HELO x\nMAIL FROM: a@b x=y\nRCPT TO:<\"q\\\" \"@d\nRSET\nNOOP\nVRFY x\nETRN x\nQUIT\n",
		"STARTTLS\r\nBDAT 3 LAST\r\n", "Subject: x\r\n", "\x00\xff\r\r\n:\r\n", strings.Repeat("a", 3000), "MAIL FROM:<@a,@b:c@d>\r\nRCPT TO:\r\nRCPT TO:<>\r\n"} {
		f.Add([]byte(s), byte(0))
		f.Add([]byte(s), byte(0xff))
	}
	d, _ := newDaemon(f, map[string]string{"postscreen_cache_map": "", "postscreen_pipelining_action": "ignore", "postscreen_non_smtp_command_action": "enforce",
		"postscreen_tls_security_level": "may", "postscreen_reject_footer": `\c see $server_name`})
	d.log = maillog.Discard()
	f.Fuzz(func(t *testing.T, input []byte, flags byte) {
		ours, theirs := net.Pipe()
		s := &session{d: d, ctx: context.Background(), nc: ours, alive: func() {}, addr: "192.0.2.1", name: "[192.0.2.1]:25", rcptReply: comeAgain, due: deepTests, vetoed: flags&1 != 0, client: &client{}}
		var said bytes.Buffer
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(&said, theirs)
		}()
		go func() {
			theirs.SetWriteDeadline(time.Now().Add(5 * time.Second))
			theirs.Write(input)
			if flags&2 != 0 {
				theirs.Write([]byte("\r\nQUIT\r\n"))
			}
			theirs.Close()
		}()
		s.engine()
		ours.Close()
		<-done
		if !replies.Match(said.Bytes()) {
			t.Errorf("%q: %q", input, said.String())
		}
		if strings.Contains(said.String(), "250 2.1.5") {
			t.Errorf("%q: a recipient was accepted", input)
		}
	})
}

// The cache is cleaned entry by entry, and remembers when.
func TestClean(t *testing.T) {
	d, log := newDaemon(t, nil)
	now := time.Now().Unix()
	ctx := context.Background()
	d.shared.withCache(func(c *cache) {
		for addr, first := range map[string]int64{"192.0.2.1": 0, "192.0.2.2": now + 100, "192.0.2.3": now - 100, "192.0.2.4": now - 8*86400, "192.0.2.5": 1} {
			if err := c.update(ctx, addr, stamps{stamp(first), 1, 1, 1, 1}.String()); err != nil {
				t.Fatal(err)
			}
		}
	})
	for range 2 {
		if !d.cleanNow(ctx, 7*24*time.Hour) {
			t.Error("not whole")
		}
	}
	if wait := d.cleanupDue(ctx, time.Hour); wait < 59*time.Minute {
		t.Errorf("again in %v", wait)
	}
	lines := strings.Join(log.Lines(), "\n")
	for _, want := range []string{"full cleanup: retained=2 dropped=3 entries", "full cleanup: retained=2 dropped=0 entries"} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in %s", want, lines)
		}
	}
	d.shared.closeCache()
	if d.cleanNow(ctx, 0) {
		t.Error("cleaned without a cache")
	}
}
