package flush

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// The transcripts of spec ipc.md §2.9.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		req  Request
		wire string
	}{
		{Request{Name: SendFile, QueueID: "78B7C9B2A15"}, "request\x00send_file\x00queue_id\x0078B7C9B2A15\x00\x00"},
		{Request{Name: Add, Site: "ret.test", QueueID: "78B7C9B2A15"}, "request\x00add\x00site\x00ret.test\x00queue_id\x0078B7C9B2A15\x00\x00"},
		{Request{Name: SendSite, Site: "ret.test"}, "request\x00send_site\x00site\x00ret.test\x00\x00"},
		{Request{Name: Purge}, "request\x00purge\x00\x00"},
		{Request{Name: Refresh}, "request\x00rfrsh\x00\x00"},
	} {
		var b bytes.Buffer
		if err := WriteRequest(attr.NewWriter(&b, attr.Null), c.req); err != nil {
			t.Fatal(err)
		}
		if b.String() != c.wire {
			t.Errorf("%q, want %q", b.String(), c.wire)
		}
		got, ok, err := ReadRequest(attr.NewReader(&b, attr.Null, "x"))
		if got != c.req || !ok || err != nil {
			t.Errorf("%+v %v %v", got, ok, err)
		}
	}
	var b bytes.Buffer
	Announce(attr.NewWriter(&b, attr.Null))
	WriteReply(attr.NewWriter(&b, attr.Null), Denied)
	if b.String() != "protocol\x00queue_flush_protocol\x00\x00status\x004\x00\x00" {
		t.Errorf("%q", b.String())
	}
}

func TestReadRequest(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Request
		ok   bool
		err  error
	}{
		{"W\x00", Request{Name: Refresh}, true, nil},
		{"W", Request{Name: Refresh}, true, nil},
		{"", Request{}, false, io.EOF},
		{"request\x00add\x00site\x00x\x00\x00", Request{Name: Add, Site: "x"}, false, nil},
		{"foo\x00bar\x00\x00", Request{}, false, nil},
		{"request\x00dance\x00\x00", Request{Name: "dance"}, true, nil},
	} {
		got, ok, err := ReadRequest(attr.NewReader(bytes.NewReader([]byte(c.in)), attr.Null, "x"))
		if got != c.want || ok != c.ok || err != c.err {
			t.Errorf("%q: %+v %v %v", c.in, got, ok, err)
		}
	}
	if (Request{Name: "dance"}).Known() || !(Request{Name: Add}).Known() {
		t.Error("Known")
	}
}

func TestClient(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "public"), 0700)
	l, err := net.Listen("unix", filepath.Join(dir, "public", "flush"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan Request, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		Announce(attr.NewWriter(c, attr.Null))
		req, _, _ := ReadRequest(attr.NewReader(c, attr.Null, "flush socket"))
		got <- req
		WriteReply(attr.NewWriter(c, attr.Null), Failed)
	}()
	client := Client{Dialer: dial.Dialer{Dir: dir}}
	status, err := client.SendSite(context.Background(), "relay.test")
	if status != Failed || err != nil {
		t.Error(status, err)
	}
	if req := <-got; req != (Request{Name: SendSite, Site: "relay.test"}) {
		t.Errorf("%+v", req)
	}
	client.Service = "none"
	if _, err := client.Purge(context.Background()); err == nil {
		t.Error("no error without a server")
	}
}
