package bounce

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/message/dsn"
)

func wire(s string) string { return strings.ReplaceAll(s, "|", "\x00") }

var u1 = Recipient{Original: "u1@sink.test", Address: "u1@sink.test", Offset: 634, DSNOrig: "rfc822;u1@sink.test"}

// The transcripts of ipc.md §2.6, | for NUL.
var transcripts = []struct {
	wire string
	req  Request
}{
	{`nrequest|0|flags|0|queue_id|52A609B293E|original_recipient|u1@sink.test|` +
		`recipient|u1@sink.test|offset|634|dsn_orig_rcpt|rfc822;u1@sink.test|notify_flags|0|` +
		`status|4.4.1|diag_type||diag_text||mta_type||mta_mname||action|delayed|` +
		`reason|connect to 127.0.0.1[127.0.0.1]:22996: Connection refused||`,
		Request{Kind: Append, Message: Message{ID: "52A609B293E"}, Recipient: u1,
			Status: dsn.Status{Code: "4.4.1", Action: "delayed", Reason: "connect to 127.0.0.1[127.0.0.1]:22996: Connection refused"}}},
	{`nrequest|1|flags|0|queue_name|active|queue_id|78B7C9B2A15|encoding||smtputf8|0|` +
		`sender|s@example.com|envelope_id||ret_flags|0||`,
		Request{Kind: Flush, Message: Message{Queue: "active", ID: "78B7C9B2A15", Sender: "s@example.com"}}},
	{`nrequest|3|flags|0|queue_name|active|queue_id|8E1BC9B21CA|encoding||smtputf8|0|` +
		`sender|s@sink.test|envelope_id||ret_flags|0|verp_delimiters|+=||`,
		Request{Kind: FlushVERP, Message: Message{Queue: "active", ID: "8E1BC9B21CA", Sender: "s@sink.test"}, VERP: "+="}},
	{`nrequest|0|flags|512|queue_id|3A0A89B21C9|original_recipient|u1@sink.test|` +
		`recipient|u1@sink.test|offset|257|dsn_orig_rcpt|rfc822;u1@sink.test|notify_flags|0|` +
		`status|2.1.5|diag_type|smtp|diag_text|250 2.1.5 Ok|mta_type|dns|` +
		`mta_mname|127.0.0.1|action|deliverable|` +
		`reason|delivery via 127.0.0.1[127.0.0.1]:22997: 250 2.1.5 Ok||`,
		Request{Kind: Append, Flags: 512, Message: Message{ID: "3A0A89B21C9"},
			Recipient: Recipient{Original: "u1@sink.test", Address: "u1@sink.test", Offset: 257, DSNOrig: "rfc822;u1@sink.test"},
			Status: dsn.Status{Code: "2.1.5", Action: "deliverable", Reason: "delivery via 127.0.0.1[127.0.0.1]:22997: 250 2.1.5 Ok",
				DiagType: "smtp", DiagText: "250 2.1.5 Ok", MTAType: "dns", MTAName: "127.0.0.1"}}},
	{`nrequest|5|flags|512|queue_name|active|queue_id|3A0A89B21C9|encoding||smtputf8|0|` +
		`sender|root@mx.example.test|envelope_id||ret_flags|0||`,
		Request{Kind: Trace, Flags: 512, Message: Message{Queue: "active", ID: "3A0A89B21C9", Sender: "root@mx.example.test"}}},
	{`nrequest|4|flags|0|queue_name|active|queue_id|3A0A89B21C9|encoding|8bit|smtputf8|1|sender|o@x|envelope_id|e|ret_flags|2|` +
		`original_recipient||recipient|u1@sink.test|offset|18446744073709551615|dsn_orig_rcpt||notify_flags|4|` +
		`status|5.1.1|diag_type||diag_text||mta_type||mta_mname||action|failed|reason|no||`,
		Request{Kind: One, Message: Message{Queue: "active", ID: "3A0A89B21C9", Encoding: "8bit", SMTPUTF8: 1, Sender: "o@x", EnvelopeID: "e", Ret: dsn.RetHdrs},
			Recipient: Recipient{Address: "u1@sink.test", Offset: -1, Notify: dsn.NotifyFailure},
			Status:    dsn.Status{Code: "5.1.1", Action: "failed", Reason: "no"}}},
}

func TestTranscripts(t *testing.T) {
	for _, c := range transcripts {
		var b bytes.Buffer
		if err := WriteRequest(attr.NewWriter(&b, attr.Null), c.req); err != nil || b.String() != wire(c.wire) {
			t.Errorf("wrote %q, %v\nwant  %q", b.String(), err, wire(c.wire))
		}
		got, err := ReadRequest(attr.NewReader(strings.NewReader(wire(c.wire)), attr.Null, "test"))
		if err != nil || !reflect.DeepEqual(got, c.req) {
			t.Errorf("read %+v, %v", got, err)
		}
	}
}

func TestReadRequestTrouble(t *testing.T) {
	var unknown *UnknownError
	_, err := ReadRequest(attr.NewReader(strings.NewReader(wire("nrequest|9|flags|0||")), attr.Null, "test"))
	if !errors.As(err, &unknown) || err.Error() != "unknown command: 9" {
		t.Error(err)
	}
	_, err = ReadRequest(attr.NewReader(strings.NewReader(wire("nrequest|1|flags|0||")), attr.Null, "test"))
	if !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if _, err = ReadRequest(attr.NewReader(strings.NewReader(""), attr.Null, "test")); err != io.EOF {
		t.Error(err)
	}
}

// serve answers one request with status, and returns what came.
func serve(t *testing.T, dir, service string, status int) <-chan Request {
	t.Helper()
	os.MkdirAll(filepath.Join(dir, "private"), 0o700)
	l, err := net.Listen("unix", filepath.Join(dir, "private", service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan Request, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		w := attr.NewWriter(c, attr.Null)
		attr.Announce(w, Protocol)
		r, err := ReadRequest(attr.NewReader(c, attr.Null, "test"))
		if err != nil {
			return
		}
		WriteReply(w, status)
		got <- r
	}()
	return got
}

func TestClient(t *testing.T) {
	dir := t.TempDir()
	c := &Client{Dialer: dial.Dialer{Dir: dir}}
	got := serve(t, dir, "defer", 0)
	rcpt := Recipient{Address: "a\x00b@c", Offset: -1}
	st := dsn.Status{Code: "4.0.0", Reason: "nul \x00", DiagType: "smtp"}
	if err := c.Append(context.Background(), "defer", "ABC", 0, rcpt, st); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.Recipient.Address != "a?b@c" || r.Status.Reason != "nul ?" || r.Status.DiagType != "" || r.ID != "ABC" {
		t.Errorf("got %+v", r)
	}
	serve(t, dir, "bounce", -1)
	err := c.Flush(context.Background(), "bounce", 0, Message{Queue: "active", ID: "ABC"})
	if !errors.Is(err, dial.ErrStatus) {
		t.Error(err)
	}
	if err := c.Warn(context.Background(), "nosuch", 0, Message{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Trace(ctx, "bounce", 0, Message{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, c := range transcripts {
		f.Add(wire(c.wire))
	}
	f.Fuzz(func(t *testing.T, in string) {
		r, err := ReadRequest(attr.NewReader(strings.NewReader(in), attr.Null, "fuzz"))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteRequest(attr.NewWriter(&b, attr.Null), r); err != nil {
			t.Fatal(err)
		}
		back, err := ReadRequest(attr.NewReader(&b, attr.Null, "fuzz"))
		if err != nil || back.Kind != r.Kind || back.Message != r.Message {
			t.Errorf("%+v: %+v, %v", r, back, err)
		}
	})
}
