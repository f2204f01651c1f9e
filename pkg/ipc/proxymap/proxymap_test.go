package proxymap_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/proxymap"
	"posthaste/pkg/sys/maillog"
)

// TestWire compares with the transcript in ipc.md 2.14.
func TestWire(t *testing.T) {
	const tab = "hash:/etc/postfix/tab"
	for _, c := range []struct {
		q    proxymap.Request
		wire string
		r    proxymap.Reply
		back string
	}{
		{proxymap.Request{Op: proxymap.Open, Table: tab}, "request\x00open\x00table\x00" + tab + "\x00flags\x000\x00\x00",
			proxymap.Reply{Flags: 28}, "status\x000\x00flags\x0028\x00\x00"},
		{proxymap.Request{Op: proxymap.Lookup, Table: tab, Flags: 64, Key: "zz"}, "request\x00lookup\x00table\x00" + tab + "\x00flags\x0064\x00key\x00zz\x00\x00",
			proxymap.Reply{Status: proxymap.NoKey}, "status\x001\x00value\x00\x00\x00"},
		{proxymap.Request{Op: proxymap.Sequence, Table: tab, Flags: 64}, "request\x00sequence\x00table\x00" + tab + "\x00flags\x0064\x00function\x000\x00\x00",
			proxymap.Reply{Key: "key1", Value: "val1"}, "status\x000\x00key\x00key1\x00value\x00val1\x00\x00"},
		{proxymap.Request{Op: proxymap.Update, Table: tab, Flags: 64, Key: "a", Value: "b"}, "request\x00update\x00table\x00" + tab + "\x00flags\x0064\x00key\x00a\x00value\x00b\x00\x00",
			proxymap.Reply{Status: proxymap.Deny}, "status\x004\x00\x00"},
		{proxymap.Request{Op: proxymap.Delete, Table: tab, Key: "a"}, "request\x00delete\x00table\x00" + tab + "\x00flags\x000\x00key\x00a\x00\x00",
			proxymap.Reply{}, "status\x000\x00\x00"},
	} {
		var b strings.Builder
		if err := proxymap.WriteRequest(attr.NewWriter(&b, attr.Null), c.q); err != nil || b.String() != c.wire {
			t.Errorf("%s request: %q, %v", c.q.Op, b.String(), err)
		}
		q, ok, err := proxymap.ReadRequest(attr.NewReader(strings.NewReader(c.wire), attr.Null, "test"))
		if q != c.q || !ok || err != nil {
			t.Errorf("%s request read: %+v, %v, %v", c.q.Op, q, ok, err)
		}
		b.Reset()
		if err := proxymap.WriteReply(attr.NewWriter(&b, attr.Null), c.q.Op, c.r); err != nil || b.String() != c.back {
			t.Errorf("%s reply: %q, %v", c.q.Op, b.String(), err)
		}
		r, err := proxymap.ReadReply(attr.NewReader(strings.NewReader(c.back), attr.Null, "test"), c.q.Op)
		if !reflect.DeepEqual(r, c.r) || err != nil {
			t.Errorf("%s reply read: %+v, %v", c.q.Op, r, err)
		}
	}
	for wire, wantErr := range map[string]error{"request\x00frob\x00\x00": nil, "request\x00open\x00\x00": nil, "": io.EOF} {
		_, ok, err := proxymap.ReadRequest(attr.NewReader(strings.NewReader(wire), attr.Null, "test"))
		if ok || err != wantErr {
			t.Errorf("%q: %v, %v", wire, ok, err)
		}
	}
}

// server answers by f; the first connections are closed without an answer.
func server(t *testing.T, broken int, f func(q proxymap.Request) proxymap.Reply) (queueDir string) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "private", "proxymap"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				w, r := attr.NewWriter(conn, attr.Null), attr.NewReader(conn, attr.Null, "test socket")
				attr.Announce(w, proxymap.Protocol)
				for {
					q, ok, err := proxymap.ReadRequest(r)
					if err != nil || !ok || n < broken {
						return
					}
					proxymap.WriteReply(w, q.Op, f(q))
				}
			}()
		}
	}()
	return dir
}

func TestClient(t *testing.T) {
	dir := server(t, 1, func(q proxymap.Request) proxymap.Reply {
		if q.Key == "denied" {
			return proxymap.Reply{Status: proxymap.Deny}
		}
		return proxymap.Reply{Value: q.Key + "!"}
	})
	log, buffer := maillog.Capture()
	c := &proxymap.Client{Service: "proxymap", QueueDirectory: dir, Timeout: 5 * time.Second, Idle: time.Second, TTL: time.Minute, Log: log}
	defer c.Close()
	for _, key := range []string{"a", "b", "c"} {
		r, err := c.Do(context.Background(), proxymap.Request{Op: proxymap.Lookup, Table: "t:n", Key: key})
		if r.Value != key+"!" || err != nil {
			t.Errorf("%s: %+v, %v", key, r, err)
		}
	}
	if l := buffer.Lines(); len(l) != 0 { // the second failure would be the first to be logged
		t.Errorf("logged %q", l)
	}
	_, err := c.Do(context.Background(), proxymap.Request{Op: proxymap.Lookup, Table: "t:n", Key: "denied"})
	var refused *proxymap.Error
	if !errors.As(err, &refused) || err.Error() != `proxymap service is not configured for table "t:n"` {
		t.Errorf("denied: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	gone := &proxymap.Client{Service: "nothing", QueueDirectory: dir, Log: log}
	if _, err := gone.Do(ctx, proxymap.Request{Op: proxymap.Lookup}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no service: %v", err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("request\x00lookup\x00table\x00a:b\x00flags\x0064\x00key\x00zz\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		proxymap.ReadRequest(attr.NewReader(strings.NewReader(string(data)), attr.Null, "fuzz"))
	})
}
