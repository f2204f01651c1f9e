package smtpd

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/sasl"
)

// fakeBackend knows one user, and goes away on demand.
type fakeBackend struct {
	away bool
	peer sasl.Peer
}

func (f *fakeBackend) Mechanisms(_ context.Context, p sasl.Peer) ([]string, error) {
	if f.peer = p; f.away {
		return nil, errors.New("nobody there")
	}
	return []string{"PLAIN", "LOGIN", "EXTERNAL"}, nil
}

func (f *fakeBackend) Start(_ context.Context, r sasl.Request) (sasl.Exchange, sasl.Outcome) {
	if r.Initial != nil {
		return nil, f.Next(context.Background(), *r.Initial)
	}
	return f, sasl.Outcome{Status: sasl.Challenge, Text: "eA=="}
}

func (f *fakeBackend) Next(_ context.Context, response string) sasl.Outcome {
	switch response {
	case secret:
		return sasl.Outcome{Status: sasl.OK, User: "jo\te"}
	case "busy":
		return sasl.Outcome{Status: sasl.Temporary, Text: "no time"}
	}
	return sasl.Outcome{Status: sasl.Failed}
}

var secret = base64.StdEncoding.EncodeToString([]byte("\x00joe\x00t0p secret"))

// saslServer is a server with that backend.
func saslServer(t *testing.T, options ...[2]string) (*Server, *fakeBackend, *fakeCleanup, *maillog.Buffer) {
	options = append([][2]string{{"smtpd_sasl_auth_enable", "yes"}, {"smtpd_sasl_type", "dovecot"}, {"notify_classes", "protocol, policy"}}, options...)
	srv, cleanup, log := newTestServer(t, options)
	f := &fakeBackend{}
	srv.auth.backend = f
	return srv, f, cleanup, log
}

// chat sends lines, each after the reply to the one before.
func chat(t *testing.T, srv *Server, lines ...string) string {
	t.Helper()
	c, done := connect(t, srv)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	var b strings.Builder
	for i := -1; i < len(lines); i++ {
		if i >= 0 {
			fmt.Fprintf(c, "%s\r\n", lines[i])
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				i = len(lines)
				break
			}
			if !strings.HasPrefix(line, "250-") || strings.Contains(line, "AUTH") {
				b.WriteString(strings.TrimRight(line, "\r\n") + "\n")
			}
			if line[3] == ' ' {
				break
			}
		}
	}
	c.Close()
	waitFor(t, done)
	return b.String()
}

func TestAuth(t *testing.T) {
	for _, v := range []struct {
		options [][2]string
		lines   []string
		want    string
	}{
		{nil, []string{"EHLO c", "AUTH PLAIN " + secret, "AUTH PLAIN"}, "250-AUTH PLAIN LOGIN\n250 CHUNKING\n235 2.7.0 Authentication successful\n503 5.5.1 Error: already authenticated\n"},
		{[][2]string{{"broken_sasl_auth_clients", "yes"}}, []string{"EHLO c"}, "250-AUTH PLAIN LOGIN\n250-AUTH=PLAIN LOGIN\n250 CHUNKING\n"},
		{[][2]string{{"smtpd_sasl_exceptions_networks", "127.0.0.1"}}, []string{"EHLO c"}, "250 CHUNKING\n"},
		{[][2]string{{"smtpd_discard_ehlo_keywords", "auth,silent-discard"}}, []string{"EHLO c"}, "250 CHUNKING\n"},
		{[][2]string{{"smtpd_sasl_mechanism_filter", ""}}, []string{"EHLO c"}, "250-AUTH PLAIN LOGIN EXTERNAL\n250 CHUNKING\n"},
		{[][2]string{{"smtpd_tls_auth_only", "yes"}}, []string{"EHLO c", "AUTH PLAIN"}, "250 CHUNKING\n503 5.5.1 Error: authentication not enabled\n"},
		{[][2]string{{"smtpd_helo_required", "yes"}}, []string{"AUTH PLAIN"}, "503 5.5.1 Error: send HELO/EHLO first\n"},
		{nil, []string{"AUTH PLAIN", "x", "AUTH PLAIN", "*", "AUTH PLAIN", "busy"}, "334 eA==\n535 5.7.8 Error: authentication failed: (reason unavailable)\n334 eA==\n501 5.7.0 Authentication aborted\n334 eA==\n454 4.7.0 Temporary authentication failure: no time\n"},
		{nil, []string{"AUTH PLAIN", strings.Repeat("x", 12288), "AUTH PLAIN", strings.Repeat("x", 20000)}, "334 eA==\n500 5.5.6 SASL response limit exceeded\n334 eA==\n500 5.5.6 SASL response limit exceeded\n"},
	} {
		srv, _, _, _ := saslServer(t, v.options...)
		if got := chat(t, srv, v.lines...); got != "220 mail.example.com ESMTP Postfix\n"+v.want {
			t.Errorf("%v %.60q:\n%s", v.options, v.lines, got)
		}
	}
}

func TestAuthRateLimit(t *testing.T) {
	srv, _, _, log := saslServer(t, [2]string{"smtpd_client_auth_rate_limit", "1"}, [2]string{"smtpd_client_event_limit_exceptions", ""})
	srv.newCounter = func() counter { return fixedCounter(2) }
	got := chat(t, srv, "AUTH PLAIN "+secret)
	if !strings.Contains(got, "450 4.7.1 Error: too many AUTH commands from 127.0.0.1\n") ||
		!strings.Contains(strings.Join(log.Lines(), "\n"), "warning: AUTH command rate limit exceeded: 2 from localhost[127.0.0.1] for service smtp") {
		t.Errorf("%s\n%v", got, log.Lines())
	}
}

// fixedCounter is an anvil that has seen everybody so often.
type fixedCounter int

func (n fixedCounter) Connect(context.Context, string) (int, int, error)  { return 1, 1, nil }
func (n fixedCounter) Disconnect(context.Context, string) error           { return nil }
func (n fixedCounter) Count(context.Context, string, string) (int, error) { return int(n), nil }
func (n fixedCounter) Close() error                                       { return nil }

// While the authentication server is away clients are told to come again.
func TestAuthBackendAway(t *testing.T) {
	srv, f, _, log := saslServer(t)
	f.away = true
	if got := chat(t, srv, "EHLO c"); got != "421 4.3.0 mail.example.com Server local error\n" {
		t.Error(got)
	}
	if text := strings.Join(log.Lines(), "\n"); !strings.Contains(text, "no SASL authentication mechanisms") {
		t.Error(text)
	}
	f.away = false
	if got := chat(t, srv, "EHLO c"); !strings.Contains(got, "250-AUTH PLAIN LOGIN\n") {
		t.Error(got)
	}
}

// No log and no transcript shows a password.
func TestAuthSecret(t *testing.T) {
	filter := filepath.Join(t.TempDir(), "filter")
	if err := os.WriteFile(filter, []byte("/^AUTH Y (.*)/ AUTH PLAIN x$1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	srv, _, _, log := saslServer(t, [2]string{"debug_peer_list", "127.0.0.1"}, [2]string{"smtpd_command_filter", "regexp:" + filter}, [2]string{"line_length_limit", "2048"})
	srv.debugLevel = 3
	fake := &fakePost{}
	srv.post = func(context.Context, string, string) (poster, error) { return fake, nil }
	chat(t, srv, "EHLO c", "AUTH PLAIN x"+secret, "auth plain\t "+secret+" x", "AUTH Y "+secret, "AUTH LOGIN", secret, "RSET", "BAD")
	chat(t, srv, "AUTH PLAIN "+strings.Repeat(secret, 200), "BAD")
	c, done := connect(t, srv)
	bufio.NewReader(c).ReadString('\n')
	fmt.Fprintf(c, "EHLO c\r\nAUTH PLAIN %s\r\nAUTH LOGIN\r\n%s\r\n", secret, secret)
	time.Sleep(50 * time.Millisecond)
	c.(*net.TCPConn).CloseWrite()
	waitFor(t, done)
	text := strings.Join(log.Lines(), "\n") + strings.Join(fake.lines, "\n")
	for _, part := range []string{secret, secret[:12], "t0p"} {
		for _, line := range strings.Split(text, "\n") {
			if strings.Contains(line, part) {
				t.Errorf("shown: %s", line)
			}
		}
	}
	if !strings.Contains(text, "AUTH PLAIN "+hiddenText) || !strings.Contains(strings.Join(fake.lines, "\n"), "AUTH") {
		t.Error("not what was to be tested:", text)
	}
}

func TestAuthStart(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		name := strings.ReplaceAll(t.Name(), "/", "") + fmt.Sprint(time.Now().UnixNano())
		os.WriteFile(filepath.Join(dir, name+".conf"), []byte(text), 0o644)
		return name
	}
	for _, v := range []struct {
		options [][2]string
		want    string
		warning string
	}{
		{[][2]string{{"smtpd_sasl_path", write("garbage\n")}}, "SASL per-process initialization failed", "SASL per-process initialization failed: error when parsing configuration file"},
		{[][2]string{{"smtpd_sasl_type", "nonesuch"}}, "SASL per-process initialization failed", "unsupported SASL server implementation: nonesuch"},
		{[][2]string{{"smtpd_sasl_security_options", "bogus"}}, "SASL per-connection initialization failed", `unknown SASL security options value "bogus" in "bogus"`},
		{[][2]string{{"smtpd_sasl_path", write("mech_list: NONESUCH\n")}}, "no SASL authentication mechanisms", "xsasl_cyrus_server_get_mechanism_list: no mechanism available"},
		{[][2]string{{"smtpd_sasl_security_options", "nodictionary"}}, "no SASL authentication mechanisms", "xsasl_cyrus_server_get_mechanism_list: no applicable SASL mechanisms"},
		{[][2]string{{"smtpd_sasl_path", write("mech_list: PLAIN LOGIN\n")}, {"smtpd_sasl_mechanism_filter", "!plain,!login"}}, "smtpd_sasl_mechanism_filter discards all mechanisms in 'PLAIN LOGIN'", ""},
		{[][2]string{{"smtpd_sasl_type", "dovecot"}, {"smtpd_sasl_path", "/nonexistent"}}, "<nil>", ""},
	} {
		m := map[string]string{"queue_directory": dir, "cyrus_sasl_config_path": dir, "smtpd_sasl_auth_enable": "yes"}
		for _, p := range append(baseConfig[:len(baseConfig):len(baseConfig)], v.options...) {
			m[p[0]] = p[1]
		}
		log, lines := maillog.Capture()
		c := conf.FromMap(m)
		_, err := newServer(c, table.Env{Config: c, Log: log}, log, false)
		if fmt.Sprint(err) != v.want || !strings.Contains(strings.Join(lines.Lines(), "\n"), v.warning) {
			t.Errorf("%v: %v\n%v", v.options, err, lines.Lines())
		}
	}
}

func TestWithoutSecret(t *testing.T) {
	for in, want := range map[string]string{
		"EHLO x":                      "EHLO x",
		"AUTH PLAIN":                  "AUTH PLAIN",
		"auth plain abc":              "auth plain " + hiddenText,
		"RSET\r\nAUTH PLAIN abc\r\nx": "RSET\r\nAUTH PLAIN " + hiddenText,
		"AUTH LOGIN\r\nabc\r\ndef":    "AUTH LOGIN\r\n" + hiddenText,
		"":                            "",
	} {
		if got := withoutSecret(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
