package tlsmgr

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	protocol "posthaste/pkg/ipc/tlsmgr"
	"posthaste/pkg/sys/maillog"
)

type noTurns struct{ net.Conn }

func (noTurns) Taken()     {}
func (noTurns) Available() {}

// newDaemon is a daemon with a clock and one cache, of type smtp.
func newDaemon(now *time.Time) (*daemon, *maillog.Buffer) {
	logger, log := maillog.Capture()
	d := &daemon{log: logger, now: func() time.Time { return *now }, caches: map[string]*cache{}}
	for _, name := range types {
		d.caches[name] = newCache(name, time.Hour, logger.Info)
	}
	d.caches["smtp"].enabled = true
	d.keys.life = time.Hour
	return d, log
}

// A client and the daemon, over a real socket.
func TestClient(t *testing.T) {
	now := time.Unix(1795349604, 0)
	d, log := newDaemon(&now)
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/private-tlsmgr")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); d.serve(t.Context(), noTurns{c}) }()
		}
	}()
	ctx := t.Context()
	c := &protocol.Client{Dialer: dial.Dialer{Dir: dir, Timeout: 5 * time.Second}, Service: "../private-tlsmgr"}
	if err := os.Mkdir(dir+"/private", 0o700); err != nil {
		t.Fatal(err)
	}
	if seed, err := c.Seed(ctx, 32); len(seed) != 32 || err != nil {
		t.Error(seed, err)
	}
	if _, err := c.Seed(ctx, 256); err != protocol.ErrRefused {
		t.Error(err)
	}
	if yes, timeout, err := c.Policy(ctx, "smtp"); !yes || timeout != time.Hour || err != nil {
		t.Error(yes, timeout, err)
	}
	if yes, _, err := c.Policy(ctx, "lmtp"); yes || err != nil {
		t.Error(yes, err)
	}
	if _, err := c.Lookup(ctx, "smtp", "x"); err != protocol.ErrNotFound {
		t.Error(err)
	}
	if err := c.Update(ctx, "smtp", "x", []byte{0, 1, 2}); err != nil {
		t.Error(err)
	}
	if s, err := c.Lookup(ctx, "smtp", "x"); string(s) != "\x00\x01\x02" || err != nil {
		t.Error(s, err)
	}
	if err := c.Update(ctx, "lmtp", "x", nil); err != protocol.ErrRefused {
		t.Error(err)
	}
	if err := c.Delete(ctx, "smtp", "x"); err != nil {
		t.Error(err)
	}
	key, err := c.TicketKey(ctx, nil)
	if err != nil || !key.Until.Equal(now.Add(30*time.Minute-time.Second)) {
		t.Error(key, err)
	}
	if again, err := c.TicketKey(ctx, key.Name[:]); again != key || err != nil {
		t.Error(again, err)
	}
	if _, err := c.TicketKey(ctx, make([]byte, 16)); err != protocol.ErrNotFound {
		t.Error(err)
	}
	if got := strings.Join(log.Lines(), "\n"); !strings.Contains(got, "write smtp TLS cache entry x: time=1795349604 [data 3 bytes]") || !strings.Contains(got, "bogus seed length") {
		t.Error(got)
	}
	l.Close()
	c.Once = true
	if _, err := c.Seed(ctx, 1); err == nil {
		t.Error("a seed from nobody")
	}
}

// Sessions end with their time, and the oldest when there are too many.
func TestCacheLife(t *testing.T) {
	quiet := func(string, ...any) {}
	c := newCache("smtp", time.Second, quiet)
	now := time.Unix(1e9, 0)
	c.put("a", []byte("1"), now)
	c.put("b", []byte("2"), now.Add(time.Minute))
	if _, found := c.get("a", now.Add(minTimeout)); !found {
		t.Error("a session died before its time")
	}
	c.clean(now.Add(minTimeout + time.Second))
	if len(c.byID) != 1 || c.bytes != 2 {
		t.Error(len(c.byID), c.bytes)
	}
	if _, found := c.get("b", now.Add(time.Hour)); found || c.order.Len() != 0 || c.bytes != 0 {
		t.Error("an old session was found", c.bytes)
	}
	for i := range maxSessions + 10 {
		c.put(fmt.Sprint(i), nil, now)
	}
	if _, found := c.get("9", now); found || c.order.Len() != maxSessions {
		t.Error(c.order.Len())
	}
	big := make([]byte, maxSession)
	for i := range 2 * maxCacheBytes / maxSession {
		c.put(fmt.Sprint("big", i), big, now)
	}
	if c.bytes > maxCacheBytes {
		t.Error(c.bytes)
	}
	if c.put("x", make([]byte, maxSession+1), now) || c.put(strings.Repeat("x", maxID+1), nil, now) {
		t.Error("something too big was stored")
	}
	if newCache("smtp", 0, quiet).timeout != 0 {
		t.Error("no life became some")
	}
}

// Keys change after half the life of a session and are forgotten after the
// whole.
func TestKeyring(t *testing.T) {
	now := time.Unix(1e9, 0)
	k := keyring{life: time.Hour}
	first, _ := k.find(nil, now)
	if again, _ := k.find(nil, now.Add(29*time.Minute)); again != first {
		t.Error("the key changed early")
	}
	now = now.Add(30 * time.Minute)
	second, _ := k.find(nil, now)
	if second == first {
		t.Error("the key did not change")
	}
	if old, found := k.find(first.Name[:], now); !found || old != first {
		t.Error("the old key is gone")
	}
	if _, found := k.find(first.Name[:], now.Add(30*time.Minute)); found {
		t.Error("a key outlived the sessions")
	}
	if _, found := (&keyring{}).find(nil, now); found {
		t.Error("a key without a life")
	}
}

// FuzzRequest sends anything; the daemon must end the connection.
func FuzzRequest(f *testing.F) {
	for _, requests := range script {
		f.Add([]byte(strings.ReplaceAll(strings.Join(requests, ""), "|", "\x00")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Unix(1e9, 0)
		d, _ := newDaemon(&now)
		client, server := net.Pipe()
		done := make(chan bool)
		go func() {
			d.serve(t.Context(), noTurns{server})
			server.Close()
			close(done)
		}()
		go io.Copy(io.Discard, client)
		client.Write(data)
		client.Close()
		<-done
	})
}

// What is wrong with a request is told in the words of the original.
func TestParse(t *testing.T) {
	var told []string
	warn := func(format string, a ...any) { told = append(told, fmt.Sprintf(format, a...)) }
	list := attr.List{{Name: "request", Value: "update"}, {Name: "cache_type", Value: "smtp"}, {Name: "cache_id", Value: "x"}, {Name: "session", Value: "AAEC"}, {Name: "more"}}
	r, err := protocol.Parse(list, "tlsmgr socket", warn)
	if err != nil || r.Cache != "smtp" || r.ID != "x" || string(r.Session) != "\x00\x01\x02" || !slices.Equal(told, []string{"unexpected attribute more from tlsmgr socket (expecting: (list terminator))"}) {
		t.Errorf("%+v %v %q", r, err, told)
	}
	if _, err := protocol.Parse(nil, "x", warn); err != protocol.ErrUnknown {
		t.Error(err)
	}
}
