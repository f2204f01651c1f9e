package deliver

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/message/dsn"
)

// golden is the request of ipc.md §2.5, | for NUL.
const golden = `flags|3|queue_name|active|queue_id|52A609B293E|offset|650|size|380|` +
	`nexthop|[127.0.0.1]:22997|encoding||smtputf8|0|sender|a@example.com|envelope_id||ret_flags|0|` +
	`time|P5ICawAAAACQdQIAAAAAAD+SAmsAAAAAZtQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==|` +
	`log_client_name|localhost|log_client_address|127.0.0.1|log_client_port|45202|` +
	`log_protocol_name|ESMTP|log_helo_name|client.test|sasl_method||sasl_username||` +
	`sasl_sender||log_ident|52A609B293E|rewrite_context|local|recipient_count|1||` +
	`original_recipient|u1@sink.test|recipient|u1@sink.test|offset|634|dsn_orig_rcpt|rfc822;u1@sink.test|notify_flags|0||`

func wire(s string) string { return strings.ReplaceAll(s, "|", "\x00") }

func goldenRequest() *Request {
	return &Request{
		Flags: 3, Queue: "active", ID: "52A609B293E", DataOffset: 650, DataSize: 380, NextHop: "[127.0.0.1]:22997",
		Sender:     "a@example.com",
		Stats:      Stats{Incoming: time.Unix(0x6b02923f, 161168_000), Active: time.Unix(0x6b02923f, 316518_000)},
		ClientName: "localhost", ClientAddress: "127.0.0.1", ClientPort: "45202", ClientProtocol: "ESMTP", ClientHelo: "client.test",
		LogIdent: "52A609B293E", RewriteContext: "local",
		Recipients: []Recipient{{Original: "u1@sink.test", Address: "u1@sink.test", Offset: 634, DSNOrig: "rfc822;u1@sink.test"}},
	}
}

func TestRequestGolden(t *testing.T) {
	var b bytes.Buffer
	if err := WriteRequest(attr.NewWriter(&b, attr.Null), goldenRequest()); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != wire(golden) {
		t.Errorf("wrote %q\nwant  %q", got, wire(golden))
	}
	got, err := ReadRequest(attr.NewReader(strings.NewReader(wire(golden)), attr.Null, "test"))
	if err != nil || !reflect.DeepEqual(got, goldenRequest()) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestReadRequestTrouble(t *testing.T) {
	cut := strings.Index(golden, "original_recipient")
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"changed its mind", "", io.EOF},
		{"cut in the list", golden[:100], ErrCommon},
		{"no recipient list", golden[:cut], ErrRecipients},
		{"short list", "flags|3||", ErrCommon},
		{"bad stamps", strings.Replace(golden, "P5ICaw", "", 1), ErrCommon},
		{"too many", strings.Replace(golden, "count|1", "count|4000000000", 1), ErrRecipients},
		{"hundred million", strings.Replace(golden, "count|1", "count|100000000", 1), ErrRecipients},
	} {
		_, err := ReadRequest(attr.NewReader(strings.NewReader(wire(c.in)), attr.Null, "test"))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReplyGolden(t *testing.T) {
	const refused = `status|4.4.1|diag_type||diag_text||mta_type||mta_mname||action||` +
		`reason|connect to 127.0.0.1[127.0.0.1]:22996: Connection refused|status|4294967295||`
	r := Reply{Trouble: dsn.Status{Code: "4.4.1", Reason: "connect to 127.0.0.1[127.0.0.1]:22996: Connection refused"}, Status: Retry}
	var b bytes.Buffer
	if err := WriteReply(attr.NewWriter(&b, attr.Null), r); err != nil || b.String() != wire(refused) {
		t.Errorf("wrote %q, %v", b.String(), err)
	}
	if got, err := ReadReply(attr.NewReader(&b, attr.Null, "test")); err != nil || got != r {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := ReadReply(attr.NewReader(strings.NewReader(wire("status|4.4.1||")), attr.Null, "test")); err == nil {
		t.Error("a short reply was taken")
	}
}

func TestStatsSize(t *testing.T) {
	s := Stats{Incoming: time.Unix(1, 2000), Done: time.Unix(9, 0), Reuse: 7}
	b := s.Encode()
	if n := len(base64.StdEncoding.EncodeToString(b)); len(b) != StatsSize || n != 120 {
		t.Errorf("%d bytes, %d characters", len(b), n)
	}
	var back Stats
	if err := back.Decode(b); err != nil || back != s {
		t.Errorf("got %+v, %v", back, err)
	}
}

func TestFormatDelay(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		d     time.Duration
		limit int
		want  string
	}{
		{0, 2, "0"}, {-time.Second, 2, "0"}, {50 * ms, 2, "0.05"}, {500 * ms, 2, "0.5"}, {4 * ms, 2, "0"}, {5 * ms, 2, "0.01"},
		{3140 * ms, 2, "3.1"}, {31400 * ms, 2, "31"}, {3140 * ms, 0, "3"}, {999 * ms, 2, "1"}, {9960 * ms, 2, "10"},
		{4900 * time.Microsecond, 6, "0.0049"}, {123456 * time.Microsecond, 6, "0.12"}, {12 * time.Microsecond, 6, "0.000012"},
		{31 * time.Hour, 2, "111600"}, {1500 * ms, 0, "2"}, {3000 * ms, 6, "3"},
	} {
		if got := FormatDelay(c.d, c.limit); got != c.want {
			t.Errorf("FormatDelay(%v, %d) = %s, want %s", c.d, c.limit, got, c.want)
		}
	}
}

func TestDelays(t *testing.T) {
	at := func(s float64) time.Time { return time.UnixMilli(1_800_000_000_000 + int64(s*1000)) }
	now := at(10)
	for _, c := range []struct {
		s           Stats
		total, part string
	}{
		{Stats{Incoming: at(0)}, "10", "10/0/0/0"},
		{Stats{Incoming: at(0), Active: at(1)}, "10", "1/9/0/0"},
		{Stats{Incoming: at(0), Active: at(1), Handoff: at(3)}, "10", "1/2/0/7"},
		{Stats{Incoming: at(0), Active: at(1), Handoff: at(3), ConnSetup: at(3.5)}, "10", "1/2/0.5/6.5"},
		{Stats{Incoming: at(0), Active: at(1), Handoff: at(3), ConnSetup: at(3.5), Done: at(5)}, "5", "1/2/0.5/1.5"},
		{Stats{Incoming: at(20), Active: at(1)}, "0", "0/9/0/0"},
	} {
		if total, part := c.s.Delays(now, 2); total != c.total || part != c.part {
			t.Errorf("%+v: %s %s, want %s %s", c.s, total, part, c.total, c.part)
		}
	}
}

// A request that can be read is read the same after it was written again.
func FuzzReadRequest(f *testing.F) {
	f.Add(wire(golden))
	f.Add(wire("flags|3||"))
	f.Add("")
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
		if err != nil || len(back.Recipients) != len(r.Recipients) || back.ID != r.ID || back.Sender != r.Sender {
			t.Errorf("%+v: %+v, %v", r, back, err)
		}
	})
}
