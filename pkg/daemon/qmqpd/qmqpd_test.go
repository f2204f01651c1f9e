package qmqpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
)

// fakeCleanup keeps the records of a message.
type fakeCleanup struct {
	records []string
	result  cleanup.Result
	aborted bool
}

func (f *fakeCleanup) Rec(t record.Type, data []byte) error {
	f.records = append(f.records, string(rune(t))+string(data))
	return nil
}
func (f *fakeCleanup) Finish() (cleanup.Result, error) { return f.result, nil }
func (f *fakeCleanup) Abort()                          { f.aborted = true }

// fakeConn has sent everything.
type fakeConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *fakeConn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *fakeConn) Write(b []byte) (int, error) { return c.out.Write(b) }

type noNames struct{}

func (noNames) Name(context.Context, netip.Addr) (string, error) { return "client.test", nil }
func (noNames) Addrs(context.Context, string, bool, bool) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

var _ dns.Native = noNames{}

func bench(t testing.TB, clients string) (*server, *fakeCleanup, *maillog.Buffer) {
	logger, log := maillog.Capture()
	list, err := table.NewMatchList(table.Env{Config: conf.FromMap(nil), Log: logger}, "qmqpd_authorized_clients", clients, table.MatchHostAddr, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCleanup{}
	return &server{
		log: logger, clients: list, native: noNames{}, now: func() time.Time { return time.Unix(1_700_000_000, 5000).UTC() },
		open:     func(context.Context) (sink, string, error) { return f, "ABC123", nil },
		hostname: "mail.test", mailName: "Postfix", verpFilter: "-=+", sizeLimit: 1000, lineLimit: 100,
	}, f, log
}

var attrs = map[string]string{"client_address": "192.0.2.1", "client_port": "1234"}

func talk(t testing.TB, s *server, raw string) string {
	conn := &fakeConn{in: strings.NewReader(raw)}
	if err := s.serve(context.Background(), conn, attrs); err != nil {
		t.Error(err)
	}
	return conn.out.String()
}

func packet(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(netstring(p))
	}
	return netstring(b.String())
}

// The records are those of Debian's daemon.
func TestMessage(t *testing.T) {
	s, f, log := bench(t, "192.0.2.1")
	if got := talk(t, s, packet("From me\n>From x\nSubject: x\n\n.\nlast", "list-@x.test-@[]", "r@y.test")); got != "21:KOk: queued as ABC123," {
		t.Errorf("%q", got)
	}
	want := []string{"T1700000000 5", "Slist@x.test", "V-=", "Alog_client_name=client.test", "Alog_client_address=192.0.2.1",
		"Alog_client_port=1234", "Alog_message_origin=client.test[192.0.2.1]", "Alog_protocol_name=QMQP", "Aclient_name=client.test",
		"Aclient_address=192.0.2.1", "Aclient_port=1234", "Aclient_address_type=2", "Aprotocol_name=QMQP", "Rr@y.test", "M",
		"NReceived: from client.test (client.test [192.0.2.1])", "N\tby mail.test (Postfix) with QMQP id ABC123"}
	if got := f.records[:len(want)]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", got)
	}
	rest := strings.Join(f.records[len(want):], "\n")
	if !strings.HasPrefix(rest, "N\tfor <r@y.test>; ") || !strings.HasSuffix(rest, "\nNX-Mailbox-Line: From me\nNX-Mailbox-Line: >From x\nNSubject: x\nN\nN.\nLlast\nX\nE") {
		t.Errorf("%q", rest)
	}
	if got := strings.Join(log.Lines(), "\n"); got != "connect from client.test[192.0.2.1]\nABC123: client=client.test[192.0.2.1]\ndisconnect from client.test[192.0.2.1]" {
		t.Error(got)
	}
}

func TestTrouble(t *testing.T) {
	for _, c := range []struct{ raw, reply, log string }{
		{"foo", "58:Dnetstring format error while receiving QMQP packet header,", "netstring format error while receiving QMQP packet header"},
		{"", "", "lost connection while receiving QMQP packet header"},
		{"12:", "", "lost connection while receiving message content"},
		{"99999999999:x", "55:Dnetstring format error while receiving message content,", "netstring format error while receiving message content"},
		{"20:5:hello,3:abc", "54:Dnetstring format error while receiving sender address,", "netstring format error while receiving sender address"},
		{"20:5:helloX", "55:Dnetstring format error while receiving message content,", "netstring format error while receiving message content"},
		{"9999:1001:x", "70:Dnetstring length exceeds storage limit while receiving message content,", "netstring length exceeds storage limit while receiving message content"},
		{packet("x", strings.Repeat("s", 101), "r"), "70:Dnetstring length exceeds storage limit while receiving sender address,", "netstring length exceeds storage limit while receiving sender address"},
		{packet("x", "list.@x.test-@[]", "r"), `69:DError: Invalid VERP delimiters: ".=". Need two characters from "-=+",`, `Error: Invalid VERP delimiters: ".=". Need two characters from "-=+"`},
	} {
		s, f, log := bench(t, "192.0.2.1")
		got := talk(t, s, c.raw)
		if _, text, ok := strings.Cut(c.reply, ":"); ok && !strings.HasSuffix(got, ":"+text) || c.reply == "" && got != "" {
			t.Errorf("%.40q: %q", c.raw, got)
		}
		if lines := strings.Join(log.Lines(), "\n"); !strings.Contains(lines, "ABC123: client.test[192.0.2.1]: "+c.log) {
			t.Errorf("%.40q: %s", c.raw, lines)
		}
		if !f.aborted {
			t.Errorf("%.40q: the message was not given up", c.raw)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		status cleanup.Status
		reason string
		want   string
	}{
		{0, "", "KOk: queued as ID"}, {1, "", "ZError: internal error 1"}, {2, "", "ZError: queue file write error"},
		{4, "", "DError: message too large"}, {8, "4.7.1 later", "ZError: 4.7.1 later"}, {8, "5.7.1 no", "DError: 5.7.1 no"},
		{16, "", "DError: too many hops"}, {64, "", "DError: no recipients specified"}, {256, "4.7.1 def", "ZError: 4.7.1 def"},
		{10, "5.7.1 x", "DError: 5.7.1 x"}, {12, "", "DError: message too large"},
	} {
		code, text := verdict(cleanup.Result{Status: c.status, Reason: c.reason}, "ID")
		if got := string(code) + text; got != c.want {
			t.Errorf("%d %q: %q, want %q", c.status, c.reason, got, c.want)
		}
	}
}

func TestAccess(t *testing.T) {
	s, f, _ := bench(t, "10.0.0.0/8")
	s.softBounce = true
	if got := talk(t, s, packet("x", "", "r")); got != "68:ZError: client.test[192.0.2.1] is not authorized to use this service," || len(f.records) > 0 {
		t.Errorf("%q", got)
	}
	s, _, _ = bench(t, "192.0.2.1")
	s.open = func(context.Context) (sink, string, error) { return nil, "", errors.New("no service") }
	if got := talk(t, s, packet("x", "", "r")); got != "30:ZError: queue file write error," {
		t.Errorf("%q", got)
	}
}

// Content that does not fit into memory comes back from the file, line by line.
func TestHolder(t *testing.T) {
	dir := t.TempDir()
	h := &holder{open: func() (*os.File, error) { return os.Create(filepath.Join(dir, "content")) }}
	defer h.close()
	var want strings.Builder
	for i := range 20000 {
		fmt.Fprintf(h, "line %d\n", i)
		fmt.Fprintf(&want, "Nline %d;", i)
	}
	if h.file == nil {
		t.Fatal("all in memory")
	}
	r, err := h.reader()
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCleanup{}
	if err := copyContent(f, r, 100); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.records, ";") + ";"; got != want.String() {
		t.Error("content differs")
	}
	h = &holder{open: func() (*os.File, error) { return nil, errors.New("disk full") }}
	if _, err := h.Write(make([]byte, maxInMemory+1)); err == nil {
		t.Error("no error")
	}
}

func TestContent(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "\n": "N", "a": "La", "a\n": "Na", " a\nb\n": "N;N a;Nb", "\na\n": "N;Na",
		"abcdefgh\n": "Nabcdefgh", "abcdefghi\n": "Labcdefgh;Ni", "abcdefghijklmnopq": "Labcdefgh;Lijklmnop;Lq",
		"From aaaaaaaaa\nb\n": "LX-Mailbox-Line: From aaa;Naaaaaa;Nb", "a\nFrom b\n": "Na;NFrom b",
	} {
		f := &fakeCleanup{}
		if err := copyContent(f, strings.NewReader(in), 8); err != nil {
			t.Error(err)
		}
		if got := strings.Join(f.records, ";"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzSession(f *testing.F) {
	f.Add(packet("Subject: x\n\nbody\n", "s@x.test", "r@y.test"))
	f.Add("20:5:hello,3:abc")
	f.Fuzz(func(t *testing.T, raw string) {
		s, c, _ := bench(t, "192.0.2.1")
		if got := talk(t, s, raw); strings.Contains(got, ":K") && (c.aborted || c.records[len(c.records)-1] != "E") {
			t.Errorf("accepted: %q", c.records)
		}
	})
}

func FuzzNetstring(f *testing.F) {
	f.Add("5:hello,")
	f.Fuzz(func(t *testing.T, raw string) {
		n := netstrings{bufio.NewReader(strings.NewReader(raw))}
		if text, err := n.text(100); err == nil && !strings.HasPrefix(strings.TrimLeft(raw, "0"), netstring(text)) && text != "" {
			t.Errorf("%q: %q", raw, text)
		}
	})
}
