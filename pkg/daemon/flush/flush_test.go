package flush

import (
	"context"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/flush"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// bench is a daemon on a spool of its own, with qmgr's triggers recorded.
type bench struct {
	*daemon
	wakes []string
}

func newBench(t *testing.T) *bench {
	cfg := conf.FromMap(map[string]string{"fast_flush_domains": "relay.test", "hash_queue_names": "corrupt"})
	dir := t.TempDir()
	for _, q := range []string{queue.Deferred, queue.Incoming, queue.Flush} {
		if err := os.Mkdir(dir+"/"+q, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	domains, err := table.NewMatchList(table.Env{Config: cfg}, "fast_flush_domains", "relay.test", table.MatchDomain, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	b.daemon = &daemon{log: maillog.Discard(), spool: queue.Open(dir, cfg), domains: domains,
		refresh: 12 * time.Hour, purge: 7 * 24 * time.Hour, now: time.Now,
		wakeQmgr: func(_ context.Context, s string) error { b.wakes = append(b.wakes, s); return nil }}
	return b
}

func (b *bench) deferMessage(t *testing.T, id string) {
	t.Helper()
	if err := os.WriteFile(b.spool.Path(queue.Deferred, id), []byte("x"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) has(q, id string) bool {
	_, err := os.Lstat(b.spool.Path(q, id))
	return err == nil
}

// ask is one exchange over a connection; -99 is "closed without an answer".
func (b *bench) ask(t *testing.T, list ...attr.Attr) int {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := b.serve(t.Context(), server)
		server.Close()
		done <- err
	}()
	r, w := attr.NewReader(client, attr.Null, "flush"), attr.NewWriter(client, attr.Null)
	if err := attr.Expect(r, protocol.Protocol); err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		w.Str(a.Name, a.Value)
	}
	if err := w.Send(); err != nil {
		t.Fatal(err)
	}
	status := -99
	r.Scan(attr.Int("status", &status))
	client.Close()
	<-done
	return status
}

func request(name string, rest ...string) []attr.Attr {
	list := []attr.Attr{{Name: "request", Value: name}}
	for i := 0; i < len(rest); i += 2 {
		list = append(list, attr.Attr{Name: rest[i], Value: rest[i+1]})
	}
	return list
}

func TestAddAndSendSite(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"AAAAAA1", "AAAAAA2"} {
		b.deferMessage(t, id)
		for range 2 { // duplicates are allowed
			if s := b.ask(t, request("add", "site", "Mx.RELAY.test", "queue_id", id)...); s != 0 {
				t.Fatal("add:", s)
			}
		}
	}
	b.deferMessage(t, "BBBBBB1")
	if s := b.ask(t, request("send_site", "site", "mx.relay.test")...); s != 0 {
		t.Fatal("send_site:", s)
	}
	if !b.has(queue.Incoming, "AAAAAA1") || !b.has(queue.Incoming, "AAAAAA2") || b.has(queue.Deferred, "AAAAAA1") {
		t.Error("logged messages were not moved")
	}
	if !b.has(queue.Deferred, "BBBBBB1") {
		t.Error("a message of another site was moved")
	}
	if !slices.Equal(b.wakes, []string{"F", "I"}) {
		t.Errorf("triggers %q, want F before and I after", b.wakes)
	}
	if data, err := os.ReadFile(b.spool.Path(queue.Flush, "mx_relay_test")); err != nil || len(data) != 0 {
		t.Errorf("log after the flush: %q %v", data, err)
	}
}

func TestVerdicts(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		list []attr.Attr
		want int
	}{
		{request("add", "site", "other.test", "queue_id", "AAAAAA1"), 4},
		{request("add", "site", "relay.test", "queue_id", "../../etc"), 3},
		{request("add", "site", "relay.test"), 3},
		{request("send_site", "site", "other.test"), 4},
		{request("send_site", "site", "relay.test"), 0}, // nothing logged
		{request("send_file", "queue_id", "CCCCCC1"), 0},
		{request("send_file", "queue_id", "/x"), 3},
		{request("rfrsh"), 0},
		{request("purge"), 0},
		{request("frob"), -99},
	} {
		if got := b.ask(t, c.list...); got != c.want {
			t.Errorf("%v: %d, want %d", c.list, got, c.want)
		}
	}
}

func TestSendFileMarksTheMessage(t *testing.T) {
	b := newBench(t)
	b.deferMessage(t, "DDDDDD1")
	if s := b.ask(t, request("send_file", "queue_id", "DDDDDD1")...); s != 0 {
		t.Fatal(s)
	}
	info, err := os.Lstat(b.spool.Path(queue.Incoming, "DDDDDD1"))
	if err != nil || info.Mode().Perm() != 0o740 || !slices.Equal(b.wakes, []string{"I"}) {
		t.Error(info, err, b.wakes)
	}
}

func TestRefresh(t *testing.T) {
	b := newBench(t)
	b.deferMessage(t, "EEEEEE1")
	b.ask(t, request("add", "site", "relay.test", "queue_id", "EEEEEE1")...)
	b.ask(t, request("rfrsh")...)
	if b.has(queue.Incoming, "EEEEEE1") {
		t.Error("a young log was flushed")
	}
	b.now = func() time.Time { return time.Now().Add(13 * time.Hour) }
	b.ask(t, request("rfrsh")...)
	if !b.has(queue.Incoming, "EEEEEE1") {
		t.Error("an old log was not flushed")
	}
	b.now = func() time.Time { return time.Now().Add(9 * 24 * time.Hour) }
	b.ask(t, request("rfrsh")...)
	if b.has(queue.Flush, "relay_test") {
		t.Error("an old empty log was kept")
	}
}

func TestTrigger(t *testing.T) {
	b := newBench(t)
	b.deferMessage(t, "FFFFFF1")
	b.ask(t, request("add", "site", "relay.test", "queue_id", "FFFFFF1")...)
	b.now = func() time.Time { return time.Now().Add(13 * time.Hour) }
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() { b.serve(t.Context(), server); server.Close(); close(done) }()
	r := attr.NewReader(client, attr.Null, "flush")
	if err := attr.Expect(r, protocol.Protocol); err != nil {
		t.Fatal(err)
	}
	client.Write([]byte("W\x00"))
	r.List()
	<-done
	if !b.has(queue.Incoming, "FFFFFF1") {
		t.Error("master's wake-up did not refresh the logs")
	}
}

func TestSiteFile(t *testing.T) {
	for in, want := range map[string]string{"relay.test": "relay_test", "[1.2.3.4]": "_1_2_3_4_", "RELAY.Test": "relay_test", "bücher.example": "xn__bcher_kva_example"} {
		if got := SiteFile(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
