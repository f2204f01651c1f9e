package policy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
)

// serveWith accepts connections and gives each to f, with its number.
func serveWith(t testing.TB, l net.Listener, f func(n int, c net.Conn, in *bufio.Reader)) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(n, c, bufio.NewReader(c))
			}()
		}
	}()
}

func tcp(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network:", err)
	}
	return l
}

// request reads a request; false at the end.
func request(in *bufio.Reader) (attr.List, bool) {
	list, err := attr.NewReader(in, attr.Plain, "client").List()
	return list, err == nil
}

// client makes a client with limits fit for tests.
func client(t testing.TB, server string, change func(*Config)) (*Client, *[]string) {
	t.Helper()
	var mu sync.Mutex
	var log []string
	cfg := Config{Server: server, Timeout: 5 * time.Second, MaxIdle: time.Minute, MaxTTL: time.Minute, TryLimit: 2, RetryDelay: time.Millisecond,
		Warn: func(format string, a ...any) {
			mu.Lock()
			log = append(log, strings.ReplaceAll(fmt.Sprintf(format, a...), strings.TrimPrefix(server, "inet:"), "SERVER"))
			mu.Unlock()
		}}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &log
}

var question = []attr.Attr{{Name: "request", Value: "smtpd_access_policy"}, {Name: "sender", Value: "two\nlines"}}

// answer replies "action=N", N being the connection's number.
func answer(n int, c net.Conn, in *bufio.Reader) {
	for {
		if _, ok := request(in); !ok {
			return
		}
		fmt.Fprintf(c, "action=%d\n\n", n)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"kept", nil, "1 1 1"},
		{"request limit", func(c *Config) { c.RequestLimit = 2 }, "1 1 2"},
		{"idle", func(c *Config) { c.MaxIdle = time.Nanosecond }, "1 2 3"},
		{"ttl", func(c *Config) { c.MaxTTL = time.Nanosecond }, "1 2 3"},
	} {
		l := tcp(t)
		serveWith(t, l, answer)
		client, log := client(t, "inet:"+l.Addr().String(), c.change)
		var got []string
		for range 3 {
			action, err := client.Ask(t.Context(), question)
			if err != nil {
				t.Fatal(c.name, err, *log)
			}
			got = append(got, action)
		}
		if strings.Join(got, " ") != c.want {
			t.Error(c.name, got)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "p"))
	if err != nil {
		t.Fatal(err)
	}
	serveWith(t, l, answer)
	for _, server := range []string{"unix:p", "p", "unix:" + filepath.Join(dir, "p"), filepath.Join(dir, "p")} {
		c, log := client(t, server, func(c *Config) { c.Dir = dir })
		if _, err := c.Ask(t.Context(), question); err != nil {
			t.Error(server, err, *log)
		}
	}
}

// A value with a line feed must not become another attribute.
func TestRequestIsOneList(t *testing.T) {
	l := tcp(t)
	serveWith(t, l, func(_ int, c net.Conn, in *bufio.Reader) {
		list, _ := request(in)
		sender, _ := list.Get("sender")
		fmt.Fprintf(c, "action=%d %s\n\n", len(list), sender)
	})
	c, _ := client(t, l.Addr().String(), nil)
	if action, err := c.Ask(t.Context(), question); err != nil || action != "2 two?lines" {
		t.Error(action, err)
	}
}

// What servers do wrong is no answer, and is logged as Debian's smtpd does.
func TestTrouble(t *testing.T) {
	for _, c := range []struct {
		name, reply string
		want        string // log lines
	}{
		{"garbage", "what\n\n", "missing attribute action in input from SERVER|missing attribute action in input from SERVER|problem talking to server SERVER: Application error"},
		{"empty", "", "problem talking to server SERVER: Application error"},
		{"dying", "action=REJ", "premature end-of-input on SERVER while reading input attribute value|premature end-of-input on SERVER while reading input attribute value|problem talking to server SERVER: Application error"},
		{"dying early", "act", "premature end-of-input on SERVER while reading input attribute name|premature end-of-input on SERVER while reading input attribute name|problem talking to server SERVER: Application error"},
		{"unfinished", "action=OK\n", "premature end-of-input on SERVER while reading input attribute name|premature end-of-input on SERVER while reading input attribute name|problem talking to server SERVER: Application error"},
		{"oversized", "action=" + strings.Repeat("x", 1<<20) + "\n\n", "reply from SERVER exceeds 65536 bytes|reply from SERVER exceeds 65536 bytes|problem talking to server SERVER: Application error"},
		{"many lines", strings.Repeat("x=\n", 2000), "reply from SERVER exceeds 1000 lines|reply from SERVER exceeds 1000 lines|problem talking to server SERVER: Application error"},
	} {
		l := tcp(t)
		serveWith(t, l, func(_ int, conn net.Conn, in *bufio.Reader) {
			if _, ok := request(in); !ok {
				return
			}
			io.WriteString(conn, c.reply)
		})
		client, log := client(t, "inet:"+l.Addr().String(), nil)
		action, err := client.Ask(t.Context(), question)
		if !errors.Is(err, ErrNoAnswer) || strings.Join(*log, "|") != c.want {
			t.Errorf("%s: %.100q %v\n%q", c.name, action, err, *log)
		}
	}
}

func TestRefused(t *testing.T) {
	l := tcp(t)
	l.Close()
	c, log := client(t, "inet:"+l.Addr().String(), nil)
	if _, err := c.Ask(t.Context(), question); !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
	const once = "connect to SERVER: Connection refused|problem talking to server SERVER: Connection refused"
	if got := strings.Join(*log, "|"); got != once+"|"+once {
		t.Error(got)
	}
	// A missing socket is only trouble when it stays away.
	c, log = client(t, filepath.Join(t.TempDir(), "none"), nil)
	c.Ask(t.Context(), question)
	if got := strings.Join(*log, "|"); strings.Count(got, "problem talking") != 1 || strings.Count(got, "connect to") != 2 {
		t.Error(got)
	}
}

// An idle connection that the server closed, or wrote to, is not used again,
// and that is no failed attempt.
func TestClosedWhileIdle(t *testing.T) {
	for _, extra := range []string{"", "action=REJECT\n\n"} {
		l := tcp(t)
		serveWith(t, l, func(n int, c net.Conn, in *bufio.Reader) {
			request(in)
			fmt.Fprintf(c, "action=%d\n\n", n)
			io.WriteString(c, extra)
			if extra != "" {
				io.Copy(io.Discard, in)
			}
		})
		c, log := client(t, "inet:"+l.Addr().String(), func(c *Config) { c.TryLimit = 1 })
		for n := 1; n <= 3; n++ {
			action, err := c.Ask(t.Context(), question)
			if err != nil || action != fmt.Sprint(n) {
				t.Error(extra, action, err, *log)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// A server that hangs costs those who asked it, in parallel, and no longer
// than the timeout; and it does not matter how slowly it dribbles.
func TestHangingServer(t *testing.T) {
	for _, dribble := range []bool{false, true} {
		l := tcp(t)
		var asked atomic.Int32
		serveWith(t, l, func(_ int, c net.Conn, in *bufio.Reader) {
			request(in)
			asked.Add(1)
			for dribble {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
			io.Copy(io.Discard, in)
		})
		c, log := client(t, "inet:"+l.Addr().String(), func(c *Config) { c.Timeout, c.TryLimit = 200*time.Millisecond, 1 })
		start := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Add(1)
			go func() {
				defer all.Done()
				if _, err := c.Ask(t.Context(), question); !errors.Is(err, ErrNoAnswer) {
					t.Error(err)
				}
			}()
		}
		all.Wait()
		if d := time.Since(start); d > 2*time.Second || asked.Load() != 20 {
			t.Error(d, asked.Load())
		}
		if len(*log) != 20 || (*log)[0] != "problem talking to server SERVER: Connection timed out" {
			t.Error(*log)
		}
	}
}

// Requests at the same time go over connections of their own.
func TestNobodyWaits(t *testing.T) {
	l := tcp(t)
	var first atomic.Bool
	release := make(chan bool)
	serveWith(t, l, func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			if _, ok := request(in); !ok {
				return
			}
			if first.CompareAndSwap(false, true) {
				<-release
			}
			io.WriteString(c, "action=DUNNO\n\n")
		}
	})
	c, _ := client(t, "inet:"+l.Addr().String(), nil)
	done := make(chan error)
	go func() {
		_, err := c.Ask(t.Context(), question)
		done <- err
	}()
	for !first.Load() {
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		if _, err := c.Ask(t.Context(), question); err != nil {
			t.Error(err)
		}
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	l := tcp(t)
	serveWith(t, l, func(_ int, _ net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) })
	c, _ := client(t, "inet:"+l.Addr().String(), func(c *Config) { c.Timeout = time.Minute })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.Ask(ctx, question); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	defaults := Config{Timeout: 100 * time.Second, TryLimit: 2, DefaultAction: "451 x"}
	for _, c := range []struct {
		text, server  string
		timeout       time.Duration
		tries         int
		action, extra string
		err           string
	}{
		{"inet:h:1", "inet:h:1", 100 * time.Second, 2, "451 x", "", ""},
		{"{ inet:h:1, timeout=10s, try_limit = 3 }", "", 0, 0, "", "", "policy service syntax error: missing '=' after attribute name: \"try_limit\""},
		{"{ inet:h:1, timeout=10m, { try_limit = 3 }, default_action=DUNNO {policy_context = a, b}}", "inet:h:1", 10 * time.Minute, 3, "DUNNO", "a, b", ""},
		{"{unix:p}", "unix:p", 100 * time.Second, 2, "451 x", "", ""},
		{"{ }", "", 0, 0, "", "", `empty policy service: "{ }"`},
		{"{ x", "", 0, 0, "", "", `policy service syntax error: missing '}' in "{ x"`},
		{"{ x, timeout=0 }", "", 0, 0, "", "", "bad parameter value: timeout = 0: must be at least 1"},
		{"{ x, timeout=99999999999w }", "", 0, 0, "", "", "bad parameter value: timeout = 99999999999w: too large"},
		{"{ x, colour=red }", "", 0, 0, "", "", `unknown parameter name in check_policy_service: "colour"`},
	} {
		got, err := Parse(c.text, defaults)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v", c.text, err)
			}
			continue
		}
		if err != nil || got.Server != c.server || got.Timeout != c.timeout || got.TryLimit != c.tries || got.DefaultAction != c.action || got.Context != c.extra {
			t.Errorf("%s: %+v %v", c.text, got, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"action=DUNNO\n\n", "a=b\naction=x\n\n", "action=\n\n", "\n", "action=REJ", "what\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		action, err := readReply(bufio.NewReaderSize(strings.NewReader(text), 16), "x")
		if err == nil && (strings.Contains(action, "\n") || !strings.Contains(text, "action="+action+"\n") || !strings.Contains("\n"+text, "\n\n")) {
			t.Errorf("%q: %q", text, action)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"inet:h:1", "{ inet:h:1, timeout=10s, { default_action = a b } }", "{", "{}}", "{ {x=y} }"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := Parse(text, Config{Server: "x", Timeout: time.Second, TryLimit: 1}); err == nil && (c.Timeout <= 0 || c.TryLimit < 1) {
			t.Errorf("%q: %+v", text, c)
		}
	})
}
