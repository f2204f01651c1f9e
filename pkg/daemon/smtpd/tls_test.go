package smtpd

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// tlsCase is a session with TLS that is played to Debian's smtpd and to ours.
// Steps: a line is a command whose reply is read; "TLS" makes the handshake,
// with everything before it in the same line sent along ("inject:" sends
// without reading).
type tlsCase struct {
	name     string
	options  string // main.cf lines; %T is the directory of the certificates
	steps    []string
	cert     string // client certificate, testdata/tls/CERT.pem
	sni      string
	max      uint16 // highest TLS version
	suites   []uint16
	early    bool // the handshake comes first
	silent   bool // the client does not wait for the banner
	received bool // the Received: header of the message is compared
}

// tlsBase are the options of all TLS sessions.
const tlsBase = `
smtpd_tls_security_level = may
smtpd_tls_cert_file = %T/server.pem
smtpd_tls_key_file = $smtpd_tls_cert_file
smtpd_tls_loglevel = 1
smtpd_tls_session_cache_database =
smtpd_tls_CAfile = %T/cafile.pem
smtpd_tls_CApath =
tls_append_default_CA = no
smtpd_recipient_restrictions =
`

// tlsOptions are a case's options with the base, in which later lines win.
func (c tlsCase) configuration(dir string) [][2]string {
	var out [][2]string
	for _, line := range strings.Split(tlsBase+c.options, "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			out = append(out, [2]string{strings.TrimSpace(name), strings.ReplaceAll(strings.TrimSpace(value), "%T", dir)})
		}
	}
	return out
}

func (c tlsCase) client(t testing.TB) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: c.sni, MaxVersion: c.max, MinVersion: tls.VersionTLS10, CipherSuites: c.suites, CurvePreferences: []tls.CurveID{tls.X25519}}
	if c.cert != "" {
		cert, err := tls.LoadX509KeyPair("testdata/tls/"+c.cert+".pem", "testdata/tls/"+c.cert+".pem")
		if err != nil {
			t.Fatal(err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// play plays the case on a connection and returns the conversation.
func (c tlsCase) play(t testing.TB, conn net.Conn) string {
	var b strings.Builder
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	over := false
	read := func() {
		for !over {
			line, err := in.ReadString('\n')
			if err != nil {
				b.WriteString("S: <EOF>\n")
				over = true
				return
			}
			fmt.Fprintf(&b, "S: %s\n", strings.TrimRight(line, "\r\n"))
			if len(line) < 4 || line[3] != '-' {
				return
			}
		}
	}
	shake := func() {
		tc := tls.Client(conn, c.client(t))
		if err := tc.Handshake(); err != nil {
			b.WriteString("TLS failed\n")
			over = true
			return
		}
		b.WriteString("TLS\n")
		st := tc.ConnectionState()
		if leaf := st.PeerCertificates[0]; leaf != nil {
			fmt.Fprintf(&b, "certificate %s\n", leaf.Subject.CommonName)
		}
		conn, in = tc, bufio.NewReader(tc)
	}
	if c.early {
		shake()
	}
	if !c.silent {
		read()
	}
	for _, step := range c.steps {
		if over {
			break
		}
		if step == "TLS" {
			shake()
			continue
		}
		if step == "read" {
			read()
			continue
		}
		fmt.Fprintf(&b, "C: %s\n", step)
		conn.Write([]byte(strings.ReplaceAll(step, `\n`, "\r\n") + "\r\n"))
		read()
	}
	conn.Close()
	return b.String()
}

var (
	maskTicket  = regexp.MustCompile(`(key expiration: ).*`)
	maskService = regexp.MustCompile(`(for service )(\S+:\d+|smtp)`)
)

// foreign are lines that only OpenSSL can write: its error texts, and the
// states of its handshake.
func foreign(line string) bool {
	return unimportant(line) || strings.HasPrefix(line, "warning: TLS library problem: ") || strings.HasPrefix(line, "SSL_accept:")
}

func maskTLS(line string) string {
	line = mask(line)
	line = maskService.ReplaceAllString(line, "${1}SERVICE")
	return maskTicket.ReplaceAllString(line, "${1}TIME")
}

var maskTrace = regexp.MustCompile(` id [0-9A-F]+|\w+, .*`)

// maskReceived is the first header of a message without what differs from run
// to run.
func maskReceived(lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		if i > 0 && !strings.HasPrefix(line, "\t") {
			break
		}
		b.WriteString("R: " + maskTrace.ReplaceAllString(line, "") + "\n")
	}
	return b.String()
}

// TestTLSRecord plays tlsCases to Debian's smtpd on a private machine and
// compares with the golden files, or writes them with SMTPD_TLS_RECORD=1.
func TestTLSRecord(t *testing.T) {
	w := world.Test(t, world.Options{Suite: world.Debian})
	dir := w.Path("/etc/postfix")
	names, _ := filepath.Glob("testdata/tls/*")
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(n)), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var settings []string
	for _, p := range baseConfig {
		settings = append(settings, p[0]+" = "+p[1])
	}
	if err := w.Set(append(settings, "defer_transports = smtp, relay, local, virtual")...); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(w.Path("/etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644)
	master, err := os.OpenFile(w.Path("/etc/postfix/master.cf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cases := tlsCases()
	for i, c := range cases {
		fmt.Fprintf(master, "127.0.0.1:%d inet n - n - - smtpd -o syslog_name=s%d\n", 3000+i, i)
		for _, o := range c.configuration("/etc/postfix") {
			fmt.Fprintf(master, "  -o {%s = %s}\n", o[0], o[1])
		}
	}
	master.Close()
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	talks := make([]string, len(cases))
	for i, c := range cases {
		conn, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", 3000+i))
		if err != nil {
			t.Fatal(err)
		}
		talks[i] = maskTalk(c.play(t, conn))
		if line, err := w.WaitLog(10*time.Second, fmt.Sprintf(" s%d/smtpd[", i), "disconnect from"); err != nil {
			t.Error(c.name, line, err)
		}
		if c.received {
			line, err := w.WaitLog(time.Second, fmt.Sprintf(" s%d/smtpd[", i), ": client=")
			if err != nil {
				t.Fatal(c.name, err)
			}
			id := strings.Fields(line[strings.Index(line, "]: ")+3:])[0]
			text := w.Run("", "postcat", "-hq", strings.TrimSuffix(id, ":")).Out
			talks[i] += maskReceived(strings.Split(text, "\n"))
		}
	}
	for i, c := range cases {
		got := talks[i]
		for line := range strings.Lines(w.Syslog()) {
			if _, rest, ok := strings.Cut(line, fmt.Sprintf(" s%d/smtpd[", i)); ok {
				_, rest, _ = strings.Cut(rest, "]: ")
				if rest = strings.TrimRight(rest, "\n"); !foreign(rest) {
					got += "L: " + maskTLS(rest) + "\n"
				}
			}
		}
		file := "testdata/golden-tls/" + c.name + ".txt"
		if os.Getenv("SMTPD_TLS_RECORD") != "" {
			os.MkdirAll("testdata/golden-tls", 0o755)
			os.WriteFile(file, []byte(got), 0o644)
			continue
		}
		if want, err := os.ReadFile(file); err != nil || got != string(want) {
			t.Errorf("%s: %v%s", c.name, err, difference(string(want), got))
		}
	}
}

// TestTLSGolden plays tlsCases to our session: replies and log lines must be
// those of Debian's smtpd.
func TestTLSGolden(t *testing.T) {
	dir := t.TempDir()
	names, _ := filepath.Glob("testdata/tls/*")
	for _, n := range names {
		data, _ := os.ReadFile(n)
		os.WriteFile(filepath.Join(dir, filepath.Base(n)), data, 0o600)
	}
	os.WriteFile(filepath.Join(dir, "main.cf"), []byte("# no PEM\n"), 0o600)
	for _, c := range tlsCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile("testdata/golden-tls/" + c.name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			srv, fake, log := newTestServer(t, c.configuration(dir))
			conn, done := connect(t, srv)
			got := maskTalk(c.play(t, conn))
			waitFor(t, done)
			if c.received {
				var header []string
				for _, r := range fake.messages[0].records {
					if r[0] == 'N' {
						header = append(header, r[1:])
					}
				}
				got += maskReceived(header)
			}
			for _, line := range log.Lines() {
				if !foreign(line) {
					got += "L: " + strings.ReplaceAll(maskTLS(line), dir, "/etc/postfix") + "\n"
				}
			}
			if got != string(want) {
				t.Error(difference(string(want), got))
			}
		})
	}
}
