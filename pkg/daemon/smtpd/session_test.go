package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/wire/smtp"
)

// talk plays lines on a fresh session and returns the conversation.
func talk(t *testing.T, srv *Server, steps ...string) string {
	t.Helper()
	conn, done := connect(t, srv)
	out := play(t, script{name: t.Name(), steps: steps}, conn)
	waitFor(t, done)
	return out
}

// The stream to cleanup is that of spec §6.1, record by record.
func TestRecordStream(t *testing.T) {
	srv, fake, _ := newTestServer(t, [][2]string{{"smtpd_recipient_restrictions", "check_recipient_access inline:{ {bob@=PREPEND X-Pre: yes} {alice@=HOLD} {eve@=BCC c@d.example} }"}, {"local_recipient_maps", ""}})
	now := time.Date(2026, 11, 22, 6, 41, 37, 413434000, time.UTC)
	srv.now = func() time.Time { return now }
	talk(t, srv, "C: EHLO client.example", "C: MAIL FROM:<a@b.example> BODY=8BITMIME ENVID=e1 RET=HDRS",
		"C: RCPT TO:<User@example.test>", "C: RSET",
		"C: MAIL FROM:<a@b.example> BODY=8BITMIME ENVID=e1 RET=HDRS",
		"C: RCPT TO:<Bob> NOTIFY=SUCCESS,FAILURE", "C: RCPT TO:<alice> ORCPT=rfc822;bob+2Bx@y.example", "C: RCPT TO:<eve>",
		"C: DATA", "W: From me", "W: Subject: x", "W:", "W: ..dot", "C: .", "C: QUIT")
	m := fake.messages[1]
	if m.flags != 178 || !m.complete || !fake.messages[0].aborted {
		t.Errorf("flags %d complete %v aborted %v", m.flags, m.complete, fake.messages[0].aborted)
	}
	port := ""
	for _, r := range m.records {
		if strings.HasPrefix(r, "Aclient_port=") {
			port = strings.TrimPrefix(r, "Aclient_port=")
		}
	}
	serverPort := ""
	for _, r := range m.records {
		if strings.HasPrefix(r, "Aserver_port=") {
			serverPort = strings.TrimPrefix(r, "Aserver_port=")
		}
	}
	want := strings.Split("T1795329697 413434|Alog_ident=ABCDEF2|Arewrite_context=local|Aenvelope_id=e1|Aret_flags=2|Sa@b.example|Aencoding=8bit|"+
		"Alog_client_name=localhost|Alog_client_address=127.0.0.1|Alog_client_port="+port+"|Alog_message_origin=localhost[127.0.0.1]|"+
		"Alog_helo_name=client.example|Alog_protocol_name=ESMTP|Aclient_name=localhost|Areverse_client_name=localhost|Aclient_address=127.0.0.1|"+
		"Aclient_port="+port+"|Aserver_address=127.0.0.1|Aserver_port="+serverPort+"|Ahelo_name=client.example|Aprotocol_name=ESMTP|Aclient_address_type=2|"+
		"Anotify_flags=6|Adsn_orig_rcpt=rfc822;Bob|RBob|Adsn_orig_rcpt=rfc822;bob+x@y.example|Ralice|Adsn_orig_rcpt=rfc822;eve|Reve|"+
		"f4|M|NX-Pre: yes|NReceived: from client.example (localhost [127.0.0.1])|N\tby mail.example.com (Postfix) with ESMTP id ABCDEF2;|"+
		"N\tSun, 22 Nov 2026 06:41:37 +0000 (UTC)|NX-Mailbox-Line: From me|NSubject: x|N|N.dot|X|Rc@d.example|Anotify_flags=1|f4|E", "|")
	if !reflect.DeepEqual(m.records, want) {
		t.Error(difference(strings.Join(want, "\n"), strings.Join(m.records, "\n")))
	}
}

// One accepted recipient is named in the Received: header.
func TestReceivedFor(t *testing.T) {
	srv, fake, _ := newTestServer(t, [][2]string{{"local_recipient_maps", ""}})
	talk(t, srv, "C: HELO x", "C: MAIL FROM:<>", `C: RCPT TO:<"a b"@mail.example.com>`, "C: DATA", "W: S: x", "C: .", "C: QUIT")
	all := strings.Join(fake.messages[0].records, "\n")
	if !strings.Contains(all, "with SMTP id ABCDEF1\nN\tfor <\"a b\"@mail.example.com>; ") {
		t.Error(all)
	}
}

// Each status of cleanup has its reply (spec §3.3).
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		r    cleanup.Result
		want string
	}{
		{cleanup.Result{}, "250 2.0.0 Ok: queued as ABCDEF1"},
		{cleanup.Result{Status: 256}, "451 4.7.1 Error: service unavailable"},
		{cleanup.Result{Status: 256, Reason: "4.9.9 x"}, "451 4.9.9 x"},
		{cleanup.Result{Status: 1}, "451 4.3.0 Error: internal error 1"},
		{cleanup.Result{Status: 4}, "552 5.3.4 Error: message file too big"},
		{cleanup.Result{Status: 16}, "554 5.4.0 Error: too many hops"},
		{cleanup.Result{Status: 8, Reason: "5.7.9 no thanks"}, "550 5.7.9 no thanks"},
		{cleanup.Result{Status: 8}, "550 5.7.1 Error: message content rejected"},
		{cleanup.Result{Status: 2}, "451 4.3.0 Error: queue file write error"},
		{cleanup.Result{Status: 64}, "451 4.3.0 Error: internal error 64"},
		{cleanup.Result{Status: 8, Reason: "551 5.5.5 a\r\n551 5.5.5 b\x01"}, "551 5.5.5 b "},
	} {
		srv, fake, _ := newTestServer(t, nil)
		fake.result = c.r
		out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: DATA", "W: S: x", "C: .", "C: RCPT TO:<bob>", "C: QUIT")
		if !strings.Contains(out, "S: "+c.want+"\nC: RCPT") || !strings.Contains(out, "503 5.5.1 Error: need MAIL command") {
			t.Errorf("%+v: %s", c.r, out)
		}
	}
}

// A message that cleanup stopped reading is not acknowledged.
func TestCleanupLost(t *testing.T) {
	srv, fake, _ := newTestServer(t, nil)
	fake.failRec = 30
	out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: DATA", "W: S: x", "W:", "W: 1", "W: 2", "W: 3", "W: 4", "C: .", "C: QUIT")
	if !strings.Contains(out, "C: .\nS: 451 4.3.0 Error: queue file write error") {
		t.Error(out)
	}
	fake.refuse = true
	out = talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: DATA", "C: QUIT")
	if !strings.Contains(out, "RCPT TO:<bob>\nS: 451") || !strings.Contains(out, "554 5.5.1 Error: no valid recipients") {
		t.Error(out)
	}
}

// Two chunks become the lines that the bytes hold; the count is that of the
// lines (spec §2.8).
func TestBDATLines(t *testing.T) {
	srv, fake, _ := newTestServer(t, nil)
	out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>",
		`R: "BDAT 10\r\nSubject: x"`, `R: "BDAT 7 LAST\r\n\r\n\r\nabc"`, "C: QUIT")
	if !strings.Contains(out, "250 2.0.0 Ok: 19 bytes queued as ABCDEF1") {
		t.Error(out)
	}
	r := strings.Join(fake.messages[0].records, "|")
	if !strings.HasSuffix(r, "|NSubject: x|N|Nabc|X|E") {
		t.Error(r)
	}
}

// However content is cut into chunks, the records are the same.
func TestBDATSplitting(t *testing.T) {
	content := "a\r\n" + strings.Repeat("0123456789", 30) + "\r\n.\r\nb\r\n" + strings.Repeat("x", 64) + "\r\nend"
	var want []string
	for size := 1; size <= len(content); size += 3 {
		m := &fakeMessage{owner: &fakeCleanup{}}
		c := newContent(&transaction{sink: m}, 0)
		l := &lineSplitter{limit: 64}
		for rest := content; rest != ""; {
			n := min(size, len(rest))
			l.write([]byte(rest[:n]), c, false)
			rest = rest[n:]
		}
		l.end(c)
		if want == nil {
			want = m.records
		} else if !reflect.DeepEqual(want, m.records) {
			t.Fatalf("chunks of %d: %q, want %q", size, m.records, want)
		}
	}
	if len(want) != 10 || want[1] != "L"+strings.Repeat("0123456789", 30)[:64] || want[9] != "Nend" {
		t.Errorf("%d records %q", len(want), want)
	}
}

// fakeCounter counts one client.
type fakeCounter struct{ count, rate, events int }

func (c *fakeCounter) Connect(context.Context, string) (int, int, error) { return c.count, c.rate, nil }
func (c *fakeCounter) Disconnect(context.Context, string) error          { return nil }
func (c *fakeCounter) Count(context.Context, string, string) (int, error) {
	c.events++
	return c.events, nil
}
func (c *fakeCounter) Close() error { return nil }

func TestRateLimits(t *testing.T) {
	options := [][2]string{{"smtpd_client_event_limit_exceptions", ""}, {"smtpd_client_connection_count_limit", "2"}, {"smtpd_client_message_rate_limit", "1"}}
	srv, _, log := newTestServer(t, options)
	c := &fakeCounter{count: 3}
	srv.newCounter = func() counter { return c }
	if out := talk(t, srv); out != "S: 421 4.7.0 mail.example.com Error: too many connections from 127.0.0.1\n" {
		t.Error(out)
	}
	c.count = 1
	out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RSET", "C: MAIL FROM:<a@b.example>", "C: QUIT")
	if !strings.Contains(out, "S: 450 4.7.1 Error: too much mail from 127.0.0.1\n") {
		t.Error(out)
	}
	all := strings.Join(log.Lines(), "\n")
	for _, want := range []string{"warning: Connection concurrency limit exceeded: 3 from localhost[127.0.0.1] for service smtp",
		"warning: Message delivery request rate limit exceeded: 2 from localhost[127.0.0.1] for service smtp"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

// A panic ends its session with 421 and leaves the message unacknowledged.
func TestPanicGuard(t *testing.T) {
	srv, _, log := newTestServer(t, nil)
	srv.commands["NOOP"] = command{run: func(*session, []smtp.Token) bool { panic("boom") }, stat: statNoop}
	out := talk(t, srv, "C: EHLO x", "C: NOOP", "read")
	if !strings.Contains(out, "C: NOOP\nS: 421 4.3.0 mail.example.com Server local error\nread\nS: <EOF>") {
		t.Error(out)
	}
	if all := strings.Join(log.Lines(), "\n"); !strings.Contains(all, "panic: ") || !strings.Contains(all, "boom") || !strings.Contains(all, "disconnect from localhost") {
		t.Error(all)
	}
}

// Configured but missing abilities refuse mail rather than do without.
func TestMissingAbilities(t *testing.T) {
	srv, _, _ := newTestServer(t, [][2]string{{"smtpd_milters", "inet:127.0.0.1:1"}})
	if out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: QUIT"); !strings.Contains(out, "451 4.7.1 Service unavailable - try again later") {
		t.Error(out)
	}
	srv, _, _ = newTestServer(t, [][2]string{{"smtpd_proxy_filter", "127.0.0.1:1"}})
	if out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: QUIT"); !strings.Contains(out, "451 4.3.0 Error: queue file write error") {
		t.Error(out)
	}
}

func TestNotice(t *testing.T) {
	srv, _, _ := newTestServer(t, [][2]string{{"notify_classes", "protocol"}})
	post := &fakePost{}
	srv.post = func(_ context.Context, sender, to string) (poster, error) {
		post.to = to
		return post, nil
	}
	talk(t, srv, "C: EHLO x", "C: FOO", "C: QUIT")
	all := strings.Join(post.lines, "\n")
	for _, want := range []string{"From: Mail Delivery System <MAILER-DAEMON>", "To: Postmaster <postmaster>", "Subject: Postfix SMTP server: errors from localhost[127.0.0.1]",
		"\n\nTranscript of session follows.\n\n Out: 220 ", "\n In:  FOO\n Out: 500 5.5.2 Error: command not recognized\n", "\nFor other details, see the local mail logfile"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

type fakePost struct {
	to    string
	lines []string
}

func (p *fakePost) Printf(format string, a ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, a...))
}
func (p *fakePost) Close() (cleanup.Result, error) { return cleanup.Result{}, nil }

// An open relay and other mistakes stop the server at its start.
func TestStartChecks(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"smtpd_relay_restrictions", "permit_mynetworks", "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working instance of: reject_unauth_destination, defer_unauth_destination, reject, defer, defer_if_permit or check_relay_domains"},
		{"smtpd_relay_restrictions", "permit, reject", "in parameter smtpd_relay_restrictions"},
		{"smtpd_restriction_classes", "nosuch", "restriction class `nosuch' needs a definition"},
		{"smtpd_forbid_bare_newline", "maybe", "bad parameter value: 'smtpd_forbid_bare_newline = maybe'"},
		{"smtpd_tls_security_level", "odd", "Invalid TLS level \"odd\""},
		{"unknown_address_tempfail_action", "odd", "bad configuration: unknown_address_tempfail_action = odd"},
	} {
		err := startError(t, c.name, c.value)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
}

// Idle sessions are small: the promise is under 50 kB each.
func TestSessionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("opens many connections")
	}
	const sessions = 200
	srv, _, _ := newTestServer(t, nil)
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := measure()
	conns := make([]net.Conn, sessions)
	dones := make([]chan struct{}, sessions)
	for i := range conns {
		conns[i], dones[i] = connect(t, srv)
		in := bufio.NewReaderSize(conns[i], 512)
		in.ReadString('\n')
		fmt.Fprintf(conns[i], "HELO x\r\n")
		in.ReadString('\n')
		fmt.Fprintf(conns[i], "MAIL FROM:<a@b.example>\r\n")
		in.ReadString('\n')
		fmt.Fprintf(conns[i], "RCPT TO:<bob>\r\n")
		in.ReadString('\n')
	}
	each := int64(measure()-before) / sessions
	for i, c := range conns {
		c.Close()
		waitFor(t, dones[i])
	}
	t.Logf("%d bytes a session, client side included", each)
	if each > 50_000 {
		t.Errorf("%d bytes a session", each)
	}
}
