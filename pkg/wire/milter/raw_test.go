package milter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/sock"
)

// testConfig is Debian's with short timeouts.
func testConfig(log Logger) Config {
	return Config{
		ConnectTimeout: time.Second, CommandTimeout: time.Second, ContentTimeout: 2 * time.Second, Protocol: "6", DefaultAction: "tempfail",
		Macros: MacroNames{StageConnect: "j {daemon_name} {daemon_addr} v _", StageHelo: "{tls_version} {cipher}", StageMail: "i {mail_addr} {mail_host} {mail_mailer}",
			StageRcpt: "i {rcpt_addr} {rcpt_host} {rcpt_mailer}", StageData: "i", StageEndOfHeader: "i", StageEndOfMessage: "i"},
		Log: log,
	}
}

// rawFilter answers with the bytes that answer gives for each packet, nil for
// a hangup.
func rawFilter(t testing.TB, answer func(p packet) []byte) (address string, seen func() []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network: ", err)
	}
	t.Cleanup(func() { l.Close() })
	var all bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(io.TeeReader(c, &all))
		for {
			p, err := readPacket(in)
			if err != nil {
				return
			}
			out := answer(p)
			if out == nil {
				return
			}
			c.Write(out)
		}
	}()
	return "inet:" + l.Addr().String(), func() []byte {
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("the filter's connection is not closed")
		}
		return all.Bytes()
	}
}

func reply(command byte, data string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1)), append([]byte{command}, data...)...)
}

var agreed = reply('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x00\x00\x00")

// answers makes a filter of replies by event.
func answers(by map[byte][]byte) func(p packet) []byte {
	return func(p packet) []byte {
		if out, ok := by[p.command]; ok {
			return out
		}
		switch p.command {
		case cmdNegotiate:
			return agreed
		case cmdMacro, cmdAbort:
			return []byte{}
		case cmdQuit:
			return nil
		}
		return reply('c', "")
	}
}

func lookup(values map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

func mustNew(t testing.TB, list string, cfg Config) *Filters {
	t.Helper()
	f, err := New(list, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTranscript compares with the bytes of spec ipc.md §3.6.
func TestTranscript(t *testing.T) {
	addr, seen := rawFilter(t, answers(nil))
	f := mustNew(t, addr, testConfig(nil))
	f.Lookup = lookup(map[string]string{"j": "mx.example.test", "{daemon_name}": "mx.example.test", "{daemon_addr}": "127.0.0.1", "v": "Postfix 3.7.11",
		"_": "localhost [127.0.0.1]", "{mail_addr}": "a@example.com", "{mail_host}": "example.com", "{mail_mailer}": "smtp",
		"{rcpt_addr}": "u1@sink.test", "{rcpt_host}": "[127.0.0.1]:22997", "{rcpt_mailer}": "smtp"})
	for _, r := range []Result{
		f.Connect(t.Context(), "localhost", "127.0.0.1", "40436", FamilyIPv4), f.Helo("client.test"), f.Mail("<a@example.com>"), f.Rcpt("<u1@sink.test>"),
	} {
		if r != (Result{}) {
			t.Fatal(r)
		}
	}
	f.Lookup = lookup(map[string]string{"i": "D9C909B2179"})
	f.Data()
	edits := &recorder{}
	r := f.Message(func(c *Content) error {
		c.Header("Subject", " test1")
		c.EndOfHeaders()
		c.Body([]byte("hello world\r\n"))
		return c.Body([]byte("\r\n\r\n"))
	}, edits)
	if r != (Result{}) || len(edits.got) > 0 {
		t.Error(r, edits.got)
	}
	f.Abort()
	f.Abort()
	f.Close()
	i := "i\x00D9C909B2179\x00"
	var want []byte
	for _, p := range []string{
		"O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff",
		"DCj\x00mx.example.test\x00{daemon_name}\x00mx.example.test\x00{daemon_addr}\x00127.0.0.1\x00v\x00Postfix 3.7.11\x00_\x00localhost [127.0.0.1]\x00",
		"Clocalhost\x004\x9d\xf4127.0.0.1\x00", "DH", "Hclient.test\x00",
		"DM{mail_addr}\x00a@example.com\x00{mail_host}\x00example.com\x00{mail_mailer}\x00smtp\x00", "M<a@example.com>\x00",
		"DR{rcpt_addr}\x00u1@sink.test\x00{rcpt_host}\x00[127.0.0.1]:22997\x00{rcpt_mailer}\x00smtp\x00", "R<u1@sink.test>\x00",
		"DT" + i, "T", "DL" + i, "LSubject\x00test1\x00", "DN" + i, "N", "DB" + i, "Bhello world\r\n\r\n\r\n", "DE" + i, "E", "A", "A", "Q",
	} {
		want = append(want, reply(p[0], p[1:])...)
	}
	if got := seen(); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// recorder is an Editor that writes requests down.
type recorder struct {
	got  []string
	fail string // the request that fails
}

var errEdit = errors.New("cannot edit")

func (r *recorder) note(format string, a ...any) error {
	s := fmt.Sprintf(format, a...)
	r.got = append(r.got, s)
	if r.fail != "" && strings.HasPrefix(s, r.fail) {
		return errEdit
	}
	return nil
}

func (r *recorder) AddHeader(n, v string) error           { return r.note("add %q %q", n, v) }
func (r *recorder) InsertHeader(i int, n, v string) error { return r.note("insert %d %q %q", i, n, v) }
func (r *recorder) ChangeHeader(i int, n, v string) error { return r.note("change %d %q %q", i, n, v) }
func (r *recorder) DeleteHeader(i int, n string) error    { return r.note("delete %d %q", i, n) }
func (r *recorder) AddRecipient(a, p string) error        { return r.note("rcpt %q %q", a, p) }
func (r *recorder) DelRecipient(a string) error           { return r.note("norcpt %q", a) }
func (r *recorder) ChangeSender(a, p string) error        { return r.note("from %q %q", a, p) }
func (r *recorder) ReplaceBody(part []byte) error         { return r.note("body %q", part) }
func show(*Content) error                                 { return nil }
func join(parts ...[]byte) []byte                         { return bytes.Join(parts, nil) }
func open(t testing.TB, addr string, cfg Config) *Filters {
	f := mustNew(t, addr, cfg)
	f.Connect(context.Background(), "x", "192.0.2.1", "1", FamilyIPv4)
	return f
}

func TestEndOfMessage(t *testing.T) {
	c := reply('c', "")
	tempfail := Result{Verdict: Reject, Reply: "451 4.7.1 Service unavailable - try again later"}
	for _, tc := range []struct {
		name    string
		replies []byte
		fail    string
		want    Result
		edits   string
		warning string
	}{
		{name: "headers", replies: join(reply('h', "X-A\x00b\x00"), reply('i', "\x00\x00\x00\x00X-B\x00\x00"), reply('m', "\x00\x00\x00\x00X-C\x00d\x00"), reply('m', "\x00\x00\x00\x02X-C\x00\x00"), c),
			edits: `add "X-A" " b"; insert 1 "X-B" " "; change 1 "X-C" " d"; delete 2 "X-C"`},
		{name: "recipients", replies: join(reply('+', "<a@b>\x00"), reply('2', "<c@d>\x00NOTIFY=NEVER\x00"), reply('-', "<e@f>\x00"), reply('e', "<g@h>\x00"), reply('e', "<>\x00ENVID=x\x00"), reply('p', ""), c),
			edits: `rcpt "<a@b>" ""; rcpt "<c@d>" "NOTIFY=NEVER"; norcpt "<e@f>"; from "<g@h>" ""; from "<>" "ENVID=x"`},
		{name: "body", replies: join(reply('b', "x\r\n"), reply('b', "y"), c), edits: `body "x\r\n"; body "y"; body ""`},
		{name: "body in two places", replies: join(reply('b', "x"), reply('h', "A\x00b\x00"), reply('b', "y"), c), edits: `body "x"; body ""; add "A" " b"`,
			want: Result{Verdict: Reject, Reply: "451 4.3.5 Server configuration problem - try again later"}, warning: "body replacement requests can't currently be mixed with other requests"},
		{name: "quarantine", replies: join(reply('q', "why\x00"), c), want: Result{Verdict: Hold}},
		{name: "quarantine and reject", replies: join(reply('q', "why\x00"), reply('r', "")), want: Result{Verdict: Reject, Reply: "550 5.7.1 Command rejected"}},
		{name: "discard", replies: reply('d', ""), want: Result{Verdict: Discard}},
		{name: "accept", replies: reply('a', "")},
		{name: "shutdown", replies: reply('4', ""), want: Result{Verdict: Shutdown, Reply: "421 4.7.0 Server closing connection"}},
		{name: "edit fails", replies: join(reply('h', "A\x00b\x00"), reply('h', "B\x00b\x00"), c), fail: "add", edits: `add "A" " b"`, want: Result{Verdict: Failed, Err: errEdit}},
		{name: "edit fails, discard", replies: join(reply('h', "A\x00b\x00"), reply('d', "")), fail: "add", edits: `add "A" " b"`, want: Result{Verdict: Discard}},
		{name: "malformed", replies: join(reply('h', "A\x00b"), c), want: tempfail, warning: "missing string null termimator"},
		{name: "short index", replies: join(reply('i', "\x00\x00"), c), want: tempfail, warning: "input packet too short for network long"},
		{name: "excess", replies: join(reply('-', "a\x00b\x00"), c), want: tempfail, warning: "left-over data 2 bytes"},
		{name: "data", replies: reply('a', "x"), want: tempfail, warning: "reply SMFIR_ACCEPT was followed by 1 data bytes"},
		{name: "empty packet", replies: []byte{0, 0, 0, 0}, want: tempfail, warning: "bad packet length: 0"},
		{name: "long packet", replies: []byte{0x7f, 0, 0, 0, 'c'}, want: tempfail, warning: "unreasonable packet length: 2130706432 > 1048577"},
		{name: "hangup", replies: nil, want: tempfail, warning: "can't read SMFIC_BODYEOB reply packet header: Application error"},
		{name: "silence", replies: []byte{}, want: tempfail, warning: "can't read SMFIC_BODYEOB reply packet header: Connection timed out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			log, lines := maillog.Capture()
			addr, _ := rawFilter(t, answers(map[byte][]byte{'E': tc.replies}))
			cfg := testConfig(log)
			cfg.ContentTimeout = time.Second
			f := open(t, addr, cfg)
			defer f.Close()
			edits := &recorder{fail: tc.fail}
			if r := f.Message(show, edits); r != tc.want {
				t.Errorf("%+v, want %+v", r, tc.want)
			}
			if got := strings.Join(edits.got, "; "); got != tc.edits {
				t.Errorf("edits %s\nwant %s", got, tc.edits)
			}
			warnings := strings.Join(lines.Lines(), "\n")
			if !strings.Contains(warnings, tc.warning) || tc.warning == "" && warnings != "" {
				t.Errorf("warnings %q, want %q", warnings, tc.warning)
			}
		})
	}
}

// A big body is shown in chunks, and a filter that skips the rest is asked
// only about the end.
func TestBody(t *testing.T) {
	var sizes []int
	skip := false
	addr, seen := rawFilter(t, func(p packet) []byte {
		if p.command == cmdBody {
			sizes = append(sizes, len(p.data))
			if skip {
				return reply('s', "")
			}
		}
		return answers(nil)(p)
	})
	f := open(t, addr, testConfig(nil))
	body := bytes.Repeat([]byte("0123456789"), 15000)
	source := func(c *Content) error { return c.Body(body) }
	f.Message(source, nil)
	f.Abort()
	skip = true
	f.Message(source, nil)
	f.Close()
	seen()
	if got, want := fmt.Sprint(sizes), "[65535 65535 18930 65535]"; got != want {
		t.Errorf("chunks of %s bytes, want %s", got, want)
	}
}

// Filters can be passed to another process in the midst of the protocol.
func TestHandover(t *testing.T) {
	addr, seen := rawFilter(t, answers(map[byte][]byte{'O': reply('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x00\x00\x00\x00\x00\x00\x05i j\x00")}))
	cfg := testConfig(nil)
	cfg.Defaults = []attr.Attr{{Name: "j", Value: "default"}}
	f := mustNew(t, "{inet:127.0.0.1:1, default_action=accept} {"+addr+", command_timeout=7s, default_action=reject}", cfg)
	f.Connect(t.Context(), "x", "192.0.2.1", "1", FamilyIPv4)
	if n := f.Active(); n != 1 {
		t.Fatal(n, "active")
	}
	f.Mail("<>")
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		ends[i] = sock.Accepted(fd, &unix.SockaddrUnix{})
		defer ends[i].Close()
		ends[i].SetDeadline(time.Now().Add(5 * time.Second))
	}
	stream := func(i int, w io.Writer) Stream {
		return Stream{In: attr.NewReader(ends[i], attr.Null, "cleanup socket"), Out: attr.NewWriter(w, attr.Null), Raw: ends[i].(syscall.Conn)}
	}
	var sent bytes.Buffer
	failed := make(chan error, 1)
	go func() { failed <- f.Send(stream(0, io.MultiWriter(ends[0], &sent))) }()
	g, err := Receive(stream(1, ends[1]), 1, Config{Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(addr, "inet:")
	lists := "conn_macros\x00j {daemon_name} {daemon_addr} v _\x00helo_macros\x00{tls_version} {cipher}\x00mail_macros\x00i {mail_addr} {mail_host} {mail_mailer}\x00" +
		"rcpt_macros\x00i {rcpt_addr} {rcpt_host} {rcpt_mailer}\x00data_macros\x00i\x00eoh_macros\x00i\x00eod_macros\x00%s\x00unk_macros\x00\x00"
	want := fmt.Sprintf(lists, "i") + "size\x001\x00{\x00j\x00default\x00}\x00milter_name\x00inet:" + name + "\x00milter_version\x006\x00milter_actions\x00511\x00" +
		"milter_events\x000\x00milter_non_events\x000\x00milter_state\x004\x00milter_conn_timeout\x001\x00milter_cmd_timeout\x007\x00milter_msg_timeout\x002\x00" +
		"milter_action\x00reject\x00milter_macro_list\x001\x00" + fmt.Sprintf(lists, "i j") + "\x00"
	if sent.String() != want {
		t.Errorf("sent %q\nwant %q", sent.String(), want)
	}
	if m := g.list[0]; m.command != 7*time.Second || m.action != "reject" || m.state != stateEnvelope {
		t.Errorf("received %+v", m)
	}
	g.Lookup = lookup(map[string]string{"i": "Q"})
	if r := g.Message(show, &recorder{}); r != (Result{}) {
		t.Error(r)
	}
	g.Release()
	f.Abort()
	f.Close()
	if got := seen(); !bytes.HasSuffix(got, join(reply('D', "Ei\x00Q\x00j\x00default\x00"), reply('E', ""), reply('A', ""), reply('Q', ""))) {
		t.Errorf("the filter saw %q", got)
	}
}

// A client that lies in the hand-over gets an error.
func TestReceiveErrors(t *testing.T) {
	lists := "conn_macros\x00\x00helo_macros\x00\x00mail_macros\x00\x00rcpt_macros\x00\x00data_macros\x00\x00eoh_macros\x00\x00eod_macros\x00\x00unk_macros\x00\x00"
	one := "milter_name\x00x\x00milter_version\x006\x00milter_actions\x00511\x00milter_events\x000\x00milter_non_events\x000\x00milter_state\x00%s\x00milter_conn_timeout\x001\x00milter_cmd_timeout\x001\x00milter_msg_timeout\x001\x00milter_action\x00reject\x00milter_macro_list\x000\x00%s\x00"
	for _, in := range []string{"", "x\x00y\x00", lists, lists + "size\x00x\x00", lists + "size\x001\x00x\x00y\x00", lists + "size\x000\x00" + fmt.Sprintf(one, "2", ""),
		lists + "size\x000\x00" + fmt.Sprintf(one, "4", "more\x00x\x00"), lists + "size\x000\x00" + fmt.Sprintf(one, "4", "")} {
		f, err := Receive(Stream{In: attr.NewReader(strings.NewReader(in), attr.Null, "client"), Out: attr.NewWriter(io.Discard, attr.Null), Raw: noSocket{}}, 1, Config{})
		if err == nil || f != nil {
			t.Errorf("%q: no error", in)
		}
	}
	if _, err := Receive(Stream{}, MaxCount+1, Config{}); err == nil {
		t.Error("no limit")
	}
}

type noSocket struct{}

func (noSocket) SyscallConn() (syscall.RawConn, error) { return nil, os.ErrInvalid }

func TestParseReply(t *testing.T) {
	for _, tc := range []struct {
		in, want string
		soft, ok bool
	}{
		{"550 5.7.1 no", "550 5.7.1 no", false, true},
		{"550 5.7.1 100%% no", "550 5.7.1 100% no", false, true},
		{"550 5.7.1 no", "450 4.7.1 no", true, true},
		{"550-5.7.1 no\r\n550 5.7.1 way", "450-4.7.1 no\r\n450 4.7.1 way", true, true},
		{"450 4.7.1 no", "450 4.7.1 no", true, true},
		{"550 4.7.1 no", "", false, false},
		{"550", "", false, false},
		{"250 2.7.1 no", "", false, false},
		{"55", "", false, false},
		{"", "", false, false},
		{"5501 no", "", false, false},
	} {
		if got, ok := ParseReply(tc.in, tc.soft); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %q %v, want %q %v", tc.in, got, ok, tc.want, tc.ok)
		}
	}
}

func TestList(t *testing.T) {
	cfg := testConfig(nil)
	f := mustNew(t, "unix:/run/x, { inet:h:1, connect_timeout=2m, { content_timeout = 5 }, protocol=4, default_action=accept } inet:2@h inet:[::1]:3 inet:4", cfg)
	var got []string
	for _, m := range f.list {
		network, addr, err := m.endpoint()
		got = append(got, fmt.Sprintf("%s %s %v %v %s %s %v", network, addr, m.connect, m.content, m.protocol, m.action, err))
	}
	want := "unix /run/x 1s 2s 6 tempfail <nil>; tcp h:1 2m0s 5s 4 accept <nil>; tcp h:2 1s 2s 6 tempfail <nil>; tcp [::1]:3 1s 2s 6 tempfail <nil>; tcp localhost:4 1s 2s 6 tempfail <nil>"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("%s\nwant %s", s, want)
	}
	for _, bad := range []string{"{}", "{ inet:h:1", "{ inet:h:1, x=y }", "{ inet:h:1, command_timeout }", "{ inet:h:1, command_timeout=x }"} {
		if _, err := New(bad, cfg); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	d, err := ParseDefaults("a=b, {cc}=d {ee = f g} {x}=y hi=j")
	if want := "[{a b []} {{cc} d []} {{ee} f g []} {x y []} {{hi} j []}]"; err != nil || fmt.Sprint(d) != want {
		t.Errorf("%v %v, want %s", d, err, want)
	}
	if _, err := ParseDefaults("x"); err == nil {
		t.Error("x: no error")
	}
}
