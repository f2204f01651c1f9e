package anvil

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// The table is what Debian's anvil answers to the same requests.
func TestAnswers(t *testing.T) {
	log, logged := maillog.Capture()
	d := &daemon{log: log, counters: newCounters(time.Minute)}
	open := map[string]*string{"1": new(string), "2": new(string)}
	for i, x := range []struct{ client, request, ident, want string }{
		{"1", "message", "a:1.2.3.4", "status=0 rate=1"},
		{"1", "lookup", "a:1.2.3.4", "status=0 count=1 rate=1 mail=1 rcpt=0 newtls=0 auth=0"},
		{"1", "connect", "a:1.2.3.4", "status=0 count=1 rate=2"},
		{"1", "connect", "a:5.5.5.5", "status=0 count=1 rate=1"},
		{"1", "lookup", "a:1.2.3.4", "status=0 count=0 rate=2 mail=1 rcpt=0 newtls=0 auth=0"},
		{"1", "lookup", "a:5.5.5.5", "status=0 count=1 rate=1 mail=0 rcpt=0 newtls=0 auth=0"},
		{"2", "disconnect", "a:1.2.3.4", "status=0"},
		{"1", "disconnect", "a:5.5.5.5", "status=0"},
		{"1", "newtls_status", "n:1", "status=0 rate=0"},
		{"1", "newtls", "n:1", "status=0 rate=1"},
		{"1", "lookup", "n:1", "status=0 count=1 rate=1 mail=0 rcpt=0 newtls=1 auth=0"},
		{"1", "recipient", "n:1", "status=0 rate=1"},
		{"1", "auth", "n:1", "status=0 rate=1"},
		{"1", "foo", "n:1", "status=4294967295"},
		{"1", "lookup", "nobody", "status=0 count=0 rate=0 mail=0 rcpt=0 newtls=0 auth=0"},
	} {
		var b bytes.Buffer
		w := attr.NewWriter(&b, attr.Plain)
		d.answer(w, x.request, x.ident, open[x.client])
		_ = w.Flush()
		if got := strings.Join(strings.Fields(b.String()), " "); got != x.want {
			t.Errorf("%d %s %s: got %s", i, x.request, x.ident, got)
		}
	}
	if lines := logged.Lines(); len(lines) != 1 || lines[0] != `warning: unrecognized request: "foo", ignored` {
		t.Errorf("log: %q", lines)
	}
	logged.Reset()
	d.statistics()
	d.statistics() // the second time there is nothing to say
	want := []string{
		"statistics: max connection rate 2/60s for (a:1.2.3.4) at ", "statistics: max connection count 1 for (a:1.2.3.4) at ",
		"statistics: max message rate 1/60s for (a:1.2.3.4) at ", "statistics: max recipient rate 1/60s for (n:1) at ",
		"statistics: max newtls rate 1/60s for (n:1) at ", "statistics: max auth rate 1/60s for (n:1) at ", "statistics: max cache size 3 at ",
	}
	lines := logged.Lines()
	if len(lines) != len(want) {
		t.Fatalf("log: %q", lines)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w) || len(lines[i]) != len(w)+len("Nov 22 08:51:39") {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
}

func TestTimeUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounters(time.Minute)
		c.connect("x", "")
		time.Sleep(59 * time.Second)
		if _, rate := c.connect("x", ""); rate != 2 {
			t.Errorf("rate %d within the unit", rate)
		}
		time.Sleep(2 * time.Second)
		if count, rate := c.connect("x", ""); count != 3 || rate != 1 {
			t.Errorf("count %d, rate %d in the next unit", count, rate)
		}
		for range 3 {
			c.disconnect("x")
		}
		time.Sleep(50 * time.Second)
		c.connect("x", "") // comes back: is not forgotten
		c.disconnect("x")
		time.Sleep(59 * time.Second)
		if c.size() != 1 {
			t.Error("forgotten too early")
		}
		time.Sleep(2 * time.Second)
		if c.size() != 0 {
			t.Error("never forgotten")
		}
	})
}

// The client of smtpd against the server, with a lost connection in between.
func TestClient(t *testing.T) {
	log, _ := maillog.Capture()
	d := &daemon{log: log, counters: newCounters(time.Minute)}
	path := filepath.Join(t.TempDir(), "anvil")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // as service does
				_ = d.serve(context.Background(), service.NewConn(conn))
				conn.Close()
			}()
		}
	}()
	ctx := context.Background()
	ident := anvil.Ident("smtp", "192.0.2.1")
	c := &anvil.Client{Endpoint: "local:" + path}
	for want := 1; want <= 2; want++ {
		count, rate, err := c.Connect(ctx, ident)
		if count != 1 || rate != want || err != nil {
			t.Errorf("connect: %d %d %v", count, rate, err)
		}
		_ = c.Close()
		for d.counters.lookup(ident).Count != 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if rate, err := c.Count(ctx, anvil.Message, ident); rate != 1 || err != nil {
		t.Errorf("message: %d %v", rate, err)
	}
	if n, err := c.Lookup(ctx, ident); n.Mail != 1 || n.Rate != 2 || err != nil {
		t.Errorf("lookup: %+v %v", n, err)
	}
	if err := c.Disconnect(ctx, ident); err != nil {
		t.Error(err)
	}
	gone := &anvil.Client{Endpoint: "local:" + path + ".none"}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, _, err := gone.Connect(short, ident); err == nil {
		t.Error("connected to nothing")
	}
}

func (c *counters) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.remotes)
}
