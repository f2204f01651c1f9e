package verify

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

func wire(s string) string { return strings.ReplaceAll(s, "|", "\x00") }

// script plays the transcript of ipc.md §2.7 on one connection.
func TestTranscript(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "private"), 0o700)
	l, err := net.Listen("unix", filepath.Join(dir, "private", "verify"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	steps := []struct{ request, reply string }{
		{"request|query|address|q9@ret.test||", "status|0|recipient_status|3|reason|Address verification in progress||"},
		{"request|update|address|q8@x.test|recipient_status|0|reason|250 ok||", "status|0||"},
		{"request|query|address|q8@x.test||", "status|0|recipient_status|0|reason|250 ok||"},
		{"request|query|address|bad||", "status|4294967294||"},
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Write([]byte(wire("protocol|address_verification_prrotocol||")))
		for _, s := range steps {
			b := make([]byte, 1000)
			n, _ := c.Read(b)
			if string(b[:n]) != wire(s.request) {
				t.Errorf("got %q, want %q", b[:n], wire(s.request))
				return
			}
			c.Write([]byte(wire(s.reply)))
		}
	}()
	c := New(Config{Dialer: dial.Dialer{Dir: dir}})
	defer c.Close()
	ctx := context.Background()
	if r, reason, err := c.Query(ctx, "q9@ret.test"); r != Probing || reason != "Address verification in progress" || err != nil {
		t.Error(r, reason, err)
	}
	if err := c.Update(ctx, "q8@x.test", Deliverable, "250 ok"); err != nil {
		t.Error(err)
	}
	if r, reason, err := c.Query(ctx, "q8@x.test"); r != Deliverable || reason != "250 ok" || err != nil {
		t.Error(r, reason, err)
	}
	if _, _, err := c.Query(ctx, "bad"); !errors.Is(err, dial.ErrStatus) {
		t.Error(err)
	}
	if _, _, err := c.Query(ctx, "a\x00"); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
}

func TestReadRequest(t *testing.T) {
	var unknown *UnknownRequestError
	_, err := ReadRequest(attr.NewReader(strings.NewReader(wire("request|frob||")), attr.Null, "test"))
	if !errors.As(err, &unknown) || err.Error() != `unrecognized request: "frob", ignored` {
		t.Error(err)
	}
	var b bytes.Buffer
	w := attr.NewWriter(&b, attr.Null)
	WriteAnswer(w, Probing, "x")
	WriteStatus(w, Bad)
	if b.String() != wire("status|0|recipient_status|3|reason|x||status|4294967294||") {
		t.Errorf("%q", b.String())
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(wire("request|update|address|q8@x.test|recipient_status|0|reason|250 ok||"))
	f.Add(wire("request|query|address|q9@ret.test||"))
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
