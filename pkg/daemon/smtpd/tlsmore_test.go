package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/anvil"
)

// tlsServer is a test server with TLS and more options.
func tlsServer(t *testing.T, options string) (*Server, *fakeCleanup, interface{ Lines() []string }) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return newTestServer(t, tlsCase{options: options}.configuration(dir+"/testdata/tls"))
}

// Names of certificates get into the Received: header and the facts for policy
// servers; a client with a trusted certificate has its headers rewritten.
func TestTLSFactsAndRewriting(t *testing.T) {
	for _, c := range []struct{ cert, context string }{{"client", "local"}, {"self", "remote"}, {"", "remote"}} {
		srv, fake, _ := tlsServer(t, "smtpd_tls_ask_ccert = yes\nlocal_header_rewrite_clients = permit_tls_all_clientcerts\nrelay_clientcerts = inline:{a=b}")
		conn, done := connect(t, srv)
		tlsCase{cert: c.cert, steps: []string{"EHLO x", "STARTTLS", "TLS", "EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<bob>", "DATA", `S: x\n\n.`, "QUIT"}}.play(t, conn)
		waitFor(t, done)
		if len(fake.messages) != 1 || !strings.Contains(strings.Join(fake.messages[0].records, "|"), "Arewrite_context="+c.context) {
			t.Errorf("%+v: %v", c, fake.messages)
		}
	}
}

// fakeAnvil counts new TLS sessions.
type fakeAnvil struct {
	n    *int
	asks *[]string
	fail bool
}

func (f fakeAnvil) Connect(context.Context, string) (int, int, error) { return 1, 1, nil }
func (f fakeAnvil) Disconnect(context.Context, string) error          { return nil }
func (f fakeAnvil) Close() error                                      { return nil }
func (f fakeAnvil) Count(_ context.Context, request, _ string) (int, error) {
	*f.asks = append(*f.asks, request)
	if f.fail {
		return 0, errors.New("no anvil")
	}
	if request == anvil.NewTLS {
		*f.n++
	}
	return *f.n, nil
}

// smtpd_client_new_tls_session_rate_limit at STARTTLS, after the handshake,
// and in wrapper mode (spec §1.8).
func TestNewTLSLimit(t *testing.T) {
	steps := []string{"EHLO x", "STARTTLS", "TLS", "EHLO x", "QUIT"}
	for _, c := range []struct {
		options string
		count   int
		fail    bool
		early   bool
		talk    string // the conversation contains this
		log     string // and the log that
		asks    string
	}{
		{"", 0, false, false, "221 2.0.0 Bye", "", "newtls_status newtls"},
		{"", 2, false, false, "TLS\ncertificate mail.example.com, 2 in the chain\nS: 421 4.7.0 mail.example.com Error: too many new TLS sessions from localhost[127.0.0.1]",
			"warning: New TLS session rate limit exceeded: 3 from localhost[127.0.0.1] for service smtp", "newtls_status newtls"},
		{"", 3, false, false, "S: 454 4.7.0 Error: too many new TLS sessions from localhost[127.0.0.1]", "warning: Refusing STARTTLS request from localhost[127.0.0.1] for service smtp", "newtls_status"},
		{"smtpd_tls_wrappermode = yes", 3, false, true, "TLS failed", "warning: Refusing TLS service request from localhost[127.0.0.1] for service smtp", "newtls_status"},
		{"", 3, true, false, "221 2.0.0 Bye", "", "newtls_status newtls"},
	} {
		srv, _, log := tlsServer(t, "smtpd_client_new_tls_session_rate_limit = 2\nsmtpd_client_event_limit_exceptions =\n"+c.options)
		var asks []string
		count := c.count
		srv.newCounter = func() counter { return fakeAnvil{&count, &asks, c.fail} }
		conn, done := connect(t, srv)
		play := tlsCase{steps: steps, early: c.early}
		if c.count == 3 && !c.fail {
			play.steps = steps[:2]
		}
		talk := play.play(t, conn)
		if c.count == 2 { // the 421 comes without a command
			talk = strings.ReplaceAll(talk, "C: EHLO x\nS: 421", "S: 421")
		}
		waitFor(t, done)
		if !strings.Contains(talk, c.talk) || !strings.Contains(strings.Join(log.Lines(), "\n"), c.log) || strings.Join(asks, " ") != c.asks {
			t.Errorf("%+v:\n%s\n%s\n%v", c, talk, strings.Join(log.Lines(), "\n"), asks)
		}
	}
}

// A session is resumed with a ticket, with its certificate; that is no new
// session to the rate limit.
func TestTLSResumption(t *testing.T) {
	srv, _, log := tlsServer(t, "smtpd_tls_ask_ccert = yes\nsmtpd_tls_loglevel = 1, cache, untrusted\nsmtpd_client_new_tls_session_rate_limit = 9\nsmtpd_client_event_limit_exceptions =")
	var asks []string
	count := 0
	srv.newCounter = func() counter { return fakeAnvil{&count, &asks, false} }
	cfg := tlsCase{cert: "self", sni: "mail.example.com"}.client(t)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for i := range 2 {
		conn, done := connect(t, srv)
		in := bufio.NewReader(conn)
		in.ReadString('\n')
		conn.Write([]byte("STARTTLS\r\n"))
		in.ReadString('\n')
		tc := tls.Client(conn, cfg)
		tc.SetDeadline(time.Now().Add(10 * time.Second))
		tc.Write([]byte("QUIT\r\n"))
		if line, err := bufio.NewReader(tc).ReadString('\n'); err != nil || !strings.HasPrefix(line, "221 ") {
			t.Fatal(line, err)
		}
		if got := tc.ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("connection %d: resumed is %v", i, got)
		}
		tc.Close()
		waitFor(t, done)
	}
	text := strings.Join(log.Lines(), "\n")
	for _, want := range []string{"localhost[127.0.0.1]: Issuing session ticket, key expiration: ", "localhost[127.0.0.1]: Decrypting session ticket, key expiration: ", "localhost[127.0.0.1]: Reusing old session (RFC 5077 session ticket)",
		"key-exchange X25519 server-signature RSA-PSS (2048 bits) client-signature RSA-PSS (2048 bits)\n",
		"localhost[127.0.0.1]: re-using session with untrusted certificate, look for details earlier in the log"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q in %s", want, text)
		}
	}
	if got := strings.Join(asks, " "); got != "newtls_status newtls newtls_status" {
		t.Error(got)
	}
}

// A client that says nothing after 220 is left alone after
// smtpd_starttls_timeout.
func TestStartTLSTimeout(t *testing.T) {
	srv, _, log := tlsServer(t, "smtpd_starttls_timeout = 1s")
	conn, done := connect(t, srv)
	defer conn.Close()
	bufio.NewReader(conn).ReadString('\n')
	conn.Write([]byte("STARTTLS\r\n"))
	waitFor(t, done)
	text := strings.Join(log.Lines(), "\n")
	if !strings.Contains(text, "SSL_accept error from localhost[127.0.0.1]: Connection timed out\nlost connection after STARTTLS from localhost[127.0.0.1]") {
		t.Error(text)
	}
}

// A message sent with openssl s_client arrives.
func TestOpenSSLClient(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed:", err)
	}
	srv, fake, log := tlsServer(t, "smtpd_tls_ask_ccert = yes\nsmtpd_tls_chain_files = %T/server-ec.pem, %T/server.pem\nsmtpd_tls_received_header = yes\nsmtpd_forbid_unauth_pipelining = no")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network:", err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			srv.serve(context.Background(), conn, nil)
		}
	}()
	cmd := exec.Command(openssl, "s_client", "-starttls", "smtp", "-crlf", "-ign_eof", "-quiet", "-connect", l.Addr().String(), "-CAfile", "testdata/tls/cafile.pem", "-verify_return_error",
		"-cert", "testdata/tls/client.pem", "-key", "testdata/tls/client.pem")
	cmd.Stdin = strings.NewReader("EHLO x\nMAIL FROM:<a@b.example>\nRCPT TO:<bob>\nDATA\nSubject: x\n\nhello\n.\nQUIT\n")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "221 2.0.0 Bye") {
		t.Errorf("%v %s", err, out)
	}
	waitFor(t, done)
	if len(fake.messages) != 1 || !fake.messages[0].complete {
		t.Fatalf("%v\n%s\n%s", fake.messages, out, strings.Join(log.Lines(), "\n"))
	}
	records := strings.Join(fake.messages[0].records, "\n")
	for _, want := range []string{"(using TLSv1.3 with cipher ", "server-signature ECDSA (prime256v1) server-digest SHA256\n", "client-signature RSA-PSS (2048 bits) client-digest SHA256)\n", `(Client CN "client.example", Issuer "Test CA" (verified OK))`} {
		if !strings.Contains(records, want) {
			t.Errorf("%q in %s", want, records)
		}
	}
}
