package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

func wire(s string) string { return strings.ReplaceAll(s, "|", "\x00") }

// The transcript of ipc.md §2.4.
func TestTranscript(t *testing.T) {
	for _, c := range []struct {
		request, reply string
		req            Request
		write          func(w *attr.Writer) error
	}{
		{"request|rewrite|rule|local|address|user||", "flags|0|address|user@mx.example.test||",
			Request{Kind: RequestRewrite, Rule: Local, Address: "user"},
			func(w *attr.Writer) error { return WriteRewritten(w, "user@mx.example.test") }},
		{"request|resolve|sender||address|user@mx.example.test||",
			"flags|0|transport|local|nexthop|mx.example.test|recipient|user@mx.example.test|flags|256||",
			Request{Kind: RequestResolve, Address: "user@mx.example.test"},
			func(w *attr.Writer) error {
				return WriteReply(w, Reply{"local", "mx.example.test", "user@mx.example.test", ClassLocal})
			}},
		{"request|verify|sender|s@x|address|u@err.test||",
			"flags|0|transport|error|nexthop|5.1.2 no such domain|recipient|u@err.test|flags|4096||",
			Request{Kind: RequestVerify, Sender: "s@x", Address: "u@err.test"},
			func(w *attr.Writer) error {
				return WriteReply(w, Reply{"error", "5.1.2 no such domain", "u@err.test", ClassDefault})
			}},
	} {
		var b bytes.Buffer
		if err := WriteRequest(attr.NewWriter(&b, attr.Null), c.req); err != nil || b.String() != wire(c.request) {
			t.Errorf("request %q, %v", b.String(), err)
		}
		if got, err := ReadRequest(attr.NewReader(&b, attr.Null, "test")); err != nil || got != c.req {
			t.Errorf("read %+v, %v", got, err)
		}
		b.Reset()
		if err := c.write(attr.NewWriter(&b, attr.Null)); err != nil || b.String() != wire(c.reply) {
			t.Errorf("reply %q, %v", b.String(), err)
		}
	}
	r, server, err := readReply(attr.NewReader(strings.NewReader(wire("flags|0|transport|CHANNEL NOT UPDATED|nexthop|NEXTHOP NOT UPDATED|recipient|u@[bad]|flags|4100||")), attr.Null, "test"))
	want := Reply{"CHANNEL NOT UPDATED", "NEXTHOP NOT UPDATED", "u@[bad]", ClassDefault | Error}
	if err != nil || server != 0 || !reflect.DeepEqual(r, want) {
		t.Errorf("%+v %d %v", r, server, err)
	}
}

func TestReadRequestTrouble(t *testing.T) {
	var bad *BadCommandError
	if _, err := ReadRequest(attr.NewReader(strings.NewReader(wire("request|frob||")), attr.Null, "test")); !errors.As(err, &bad) || err.Error() != "bad command frob" {
		t.Error(err)
	}
	var broken *attr.Error
	if _, err := ReadRequest(attr.NewReader(strings.NewReader(wire("request|rewrite|rule|local||")), attr.Null, "test")); !errors.As(err, &broken) {
		t.Error(err)
	}
	if _, err := ReadRequest(attr.NewReader(strings.NewReader(""), attr.Null, "test")); err != io.EOF {
		t.Error(err)
	}
}

// fake is a service in a directory of its own; answer makes the replies.
type fake struct {
	dir      string
	requests atomic.Int32
}

func newFake(t *testing.T, answer func(n int, r Request, w *attr.Writer) bool) *fake {
	t.Helper()
	f := &fake{dir: t.TempDir()}
	os.MkdirAll(filepath.Join(f.dir, "private"), 0o700)
	l, err := net.Listen("unix", filepath.Join(f.dir, "private", "rewrite"))
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
				in, out := attr.NewReader(c, attr.Null, "test"), attr.NewWriter(c, attr.Null)
				attr.Announce(out, Protocol)
				for {
					r, err := ReadRequest(in)
					if err != nil || !answer(int(f.requests.Add(1)), r, out) {
						return
					}
				}
			}()
		}
	}()
	return f
}

func (f *fake) client(log dial.Logger) *Client {
	return New(Config{Dialer: dial.Dialer{Dir: f.dir, Log: log}})
}

func plain(_ int, r Request, w *attr.Writer) bool {
	if r.Kind == RequestRewrite {
		return WriteRewritten(w, r.Address+"@"+r.Rule) == nil
	}
	return WriteReply(w, Reply{r.Kind, r.Sender, r.Address, ClassDefault}) == nil
}

func TestClient(t *testing.T) {
	f := newFake(t, plain)
	c := f.client(nil)
	defer c.Close()
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			addr := fmt.Sprint("user", i%10)
			if got, err := c.Rewrite(ctx, Local, addr); got != addr+"@local" || err != nil {
				t.Errorf("rewrite %q, %v", got, err)
			}
			want := Reply{RequestResolve, "s", addr, ClassDefault}
			if got, err := c.Resolve(ctx, "s", addr); got != want || err != nil {
				t.Errorf("resolve %+v, %v", got, err)
			}
			if got, err := c.ResolveVerify(ctx, "s", addr); got.Transport != RequestVerify || err != nil {
				t.Errorf("verify %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
	before := f.requests.Load()
	c.Resolve(ctx, "s", "user1")
	if f.requests.Load() != before {
		t.Error("an answer was not remembered")
	}
	c.now = func() time.Time { return time.Now().Add(CacheTTL + time.Second) }
	c.Resolve(ctx, "s", "user1")
	if f.requests.Load() != before+1 {
		t.Error("an answer was remembered too long")
	}
	if got, err := c.Rewrite(ctx, Remote, ""); got != "" || err != nil {
		t.Error(got, err)
	}
	if _, err := c.Resolve(ctx, "", "a\x00b"); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
	if _, err := c.Rewrite(ctx, "other", "x"); err == nil {
		t.Error("an unknown rule was taken")
	}
}

func TestCacheBound(t *testing.T) {
	c := New(Config{})
	for i := range 3 * CacheSize {
		c.remember(Request{Address: fmt.Sprint(i)}, Reply{})
	}
	if len(c.cache) > CacheSize {
		t.Errorf("%d answers", len(c.cache))
	}
}

// A failed lookup is not remembered, and a restarting or silent server is asked
// again.
func TestClientAgain(t *testing.T) {
	f := newFake(t, func(n int, r Request, w *attr.Writer) bool {
		switch n {
		case 1:
			return false
		case 2:
			return WriteReply(w, Reply{Flags: Fail}) == nil
		}
		return plain(n, r, w)
	})
	c := f.client(nil)
	defer c.Close()
	r, err := c.Resolve(context.Background(), "", "x")
	if err != nil || r.Flags&Fail == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = c.Resolve(context.Background(), "", "x"); err != nil || r.Transport != RequestResolve {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(wire("request|rewrite|rule|local|address|user||"))
	f.Add(wire("request|resolve|sender||address|user@mx.example.test||"))
	f.Fuzz(func(t *testing.T, in string) {
		r, err := ReadRequest(attr.NewReader(strings.NewReader(in), attr.Null, "fuzz"))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteRequest(attr.NewWriter(&b, attr.Null), r); err != nil {
			t.Fatal(err)
		}
		if back, err := ReadRequest(attr.NewReader(&b, attr.Null, "fuzz")); err != nil || back != r {
			t.Errorf("%+v: %+v, %v", r, back, err)
		}
	})
}
