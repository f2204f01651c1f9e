// Package sasl compares SMTP AUTH of our suite with Debian's, both sides, with
// the real saslauthd and sasldb of Debian's sasl2-bin where fetch.sh has
// unpacked them.
package sasl

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/wire/sasl"
	"posthaste/test/world"
)

const tlsOptions = "-o smtpd_tls_security_level=may -o smtpd_tls_chain_files=/etc/postfix/test.pem"

const sasldb = "auxprop_plugin: sasldb\n"

// services are smtpd rows of master.cf with the library's file of each.
var services = []struct {
	port       int
	conf, opts string
}{
	{2501, "pwcheck_method: auxprop\n" + sasldb + "mech_list: SCRAM-SHA-256 SCRAM-SHA-1 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN\n", ""},
	{2502, "pwcheck_method: saslauthd\nmech_list: PLAIN LOGIN\nsaslauthd_path: /run/saslauthd/mux\n", ""},
	{2503, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256\n", "-o smtpd_sasl_security_options=noanonymous,noplaintext"},
	{2505, "pwcheck_method: saslauthd\n mech_list: plain login\n# comment\n\nsaslauthd_path: /run/none/mux\n", ""},
	{2507, "pwcheck_method: auxprop\nsasldb_path: /etc/none\nmech_list: PLAIN LOGIN CRAM-MD5\n", ""},
	{2508, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 ANONYMOUS EXTERNAL\n", "-o smtpd_sasl_local_domain=example.com -o smtpd_sasl_security_options= -o broken_sasl_auth_clients=yes"},
	{2510, sasldb + "mech_list: PLAIN LOGIN\n", "-o smtpd_sasl_exceptions_networks=127.0.0.0/8 -o smtpd_helo_required=yes"},
	{2512, sasldb + "mech_list: PLAIN LOGIN\n", "-o smtpd_sasl_mechanism_filter=!login,static:rest"},
	{2513, "pwcheck_method: nonesuch\nmech_list: PLAIN LOGIN\n", ""},
	{2514, "pwcheck_method: auxprop saslauthd\nsaslauthd_path: /run/saslauthd/mux\n" + sasldb + "mech_list: PLAIN LOGIN\n", ""},
	{2515, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1\n", "-o smtpd_sasl_security_options=mutual_auth"},
	{2516, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 ANONYMOUS\n", "-o smtpd_sasl_security_options=noactive"},
	{2517, sasldb + "mech_list: PLAIN LOGIN\n", "-o smtpd_sasl_auth_enable=no"},
	{2518, sasldb + "mech_list: PLAIN LOGIN\n", "-o smtpd_tls_auth_only=yes"},
	{2519, sasldb + "sasldb_path: /etc/unreadable\nmech_list: PLAIN LOGIN CRAM-MD5\n", ""},
	{2530, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5\n", tlsOptions + " -o smtpd_tls_auth_only=yes -o mynetworks=192.0.2.1"},
	{2531, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5\n", tlsOptions + " -o smtpd_sasl_security_options=noplaintext,noanonymous -o smtpd_sasl_tls_security_options=noanonymous"},
	{2532, sasldb + "mech_list: PLAIN LOGIN CRAM-MD5\n", tlsOptions + " -o smtpd_tls_security_level=encrypt"},
	{2520, "", "-o smtpd_sasl_type=dovecot -o smtpd_sasl_path=inet:127.0.0.1:3999"},
	{2521, "", "-o smtpd_sasl_type=dovecot -o smtpd_sasl_path=inet:127.0.0.1:3999 -o smtpd_sasl_security_options=noplaintext"},
}

// start makes a machine with these services, users, and a Dovecot server.
func start(t *testing.T, suite world.Suite, main ...string) (*world.World, *dovecot) {
	w := world.Test(t, world.Options{Suite: suite, Layers: []string{world.Components(t)}, Main: append([]string{"smtpd_sasl_auth_enable = yes", "smtpd_sasl_authenticated_header = yes",
		"smtpd_error_sleep_time = 0", "smtpd_hard_error_limit = 1000", "smtpd_authorized_xclient_hosts = 127.0.0.1", "home_mailbox = Maildir/"}, main...)})
	var rows strings.Builder
	for _, s := range services {
		name := fmt.Sprintf("smtpd%d", s.port)
		path := "-o smtpd_sasl_path=" + name
		if s.conf == "" {
			path = ""
		}
		fmt.Fprintf(&rows, "%d inet n - n - - smtpd -o syslog_name=p%d %s %s\n", s.port, s.port, path, s.opts)
		w.Sh(`mkdir -p /etc/postfix/sasl; printf '%s' "$2" >/etc/postfix/sasl/$1.conf`, name, s.conf)
	}
	r := w.Sh(`printf '%s' "$1" >>/etc/postfix/master.cf; mkdir -p /run/saslauthd
for u in mail.example.com example.com vm; do echo good | /usr/sbin/saslpasswd2 -p -c -f /etc/sasldb2 -u $u joe; done
hostname; echo good | /usr/sbin/saslpasswd2 -p -c -f /etc/sasldb2 -u $(hostname) joe
chmod 644 /etc/sasldb2; cp /etc/sasldb2 /etc/unreadable; chmod 600 /etc/unreadable
/usr/sbin/saslauthd -a sasldb -m /run/saslauthd -n 2 </dev/null >/dev/null 2>&1; sleep 0.2`, rows.String())
	if r.Code != 0 {
		t.Fatal(r)
	}
	if err := os.WriteFile(w.Path("/etc/postfix/test.pem"), certificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := w.Listen("tcp", "127.0.0.1:3999")
	if err != nil {
		t.Fatal(err)
	}
	d := &dovecot{}
	go d.serve(l)
	t.Cleanup(func() { l.Close() })
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w, d
}

// certificate is a key and a certificate for it.
func certificate(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(240 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
}

// dovecot is an authentication server whose behaviour the user name chooses.
type dovecot struct {
	mu    sync.Mutex
	lines []string
}

func (d *dovecot) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go d.talk(c)
	}
}

func (d *dovecot) talk(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tSECRET\tprivate\nMECH\tLOGIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\nSPID\t1\nCUID\t2\nCOOKIE\tx\nDONE\n")
	in := bufio.NewScanner(c)
	for in.Scan() {
		words := strings.Split(in.Text(), "\t")
		if len(words) < 3 || words[0] == "VERSION" {
			continue
		}
		if text := strings.Join(words[2:], " "); !strings.Contains(text, "resp="+b64("die")) { // we ask once more
			d.mu.Lock()
			d.lines = append(d.lines, words[0]+" N "+text)
			d.mu.Unlock()
		}
		id, resp, given := words[1], "", words[0] == "CONT"
		if given {
			resp = words[2]
		}
		for _, w := range words {
			if v, ok := strings.CutPrefix(w, "resp="); ok {
				resp, given = v, true
			}
		}
		if !given {
			fmt.Fprintf(c, "CONT\t%s\t\n", id)
			continue
		}
		data, _ := base64.StdEncoding.DecodeString(resp)
		switch user := strings.Trim(string(data), "\x00"); user {
		case "reason":
			fmt.Fprintf(c, "FAIL\t%s\tuser=%s\treason=no such luck\n", id, user)
		case "plain":
			fmt.Fprintf(c, "FAIL\t%s\tuser=%s\n", id, user)
		case "bare":
			fmt.Fprintf(c, "FAIL\t%s\n", id)
		case "temp":
			fmt.Fprintf(c, "FAIL\t%s\tuser=%s\ttemp\n", id, user)
		case "nouser":
			fmt.Fprintf(c, "OK\t%s\n", id)
		case "die":
			return
		case "other":
			fmt.Fprintf(c, "junk\nOK\t77777\tuser=evil\nOK\t%s\tuser=other\n", id)
		case "again":
			fmt.Fprintf(c, "CONT\t%s\taGVsbG8=\n", id)
		case "":
			fmt.Fprintf(c, "OK\t%s\tuser=nobody\n", id)
		case "hang":
		default:
			fmt.Fprintf(c, "OK\t%s\tuser=%s\textra=1\n", id, user)
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// challenges differ each time.
var variable = []*regexp.Regexp{
	regexp.MustCompile(`(334 )[A-Za-z0-9+/=]{40,}`), regexp.MustCompile(`()queued as [0-9A-F]+`), regexp.MustCompile(`(Postfix) \(Debian/GNU\)`),
}

func mask(s string) string {
	for _, re := range variable {
		s = re.ReplaceAllString(s, "$1*")
	}
	return s
}

// converse sends lines one by one and returns the conversation; "@MECH user
// password" has a whole dialogue.
func converse(c net.Conn, steps ...string) string {
	var b strings.Builder
	in := bufio.NewReader(c)
	last := ""
	read := func() bool {
		for {
			c.SetDeadline(time.Now().Add(20 * time.Second))
			line, err := in.ReadString('\n')
			if err != nil {
				b.WriteString("S: <end>\n")
				return false
			}
			last = strings.TrimRight(line, "\r\n")
			if !strings.HasPrefix(line, "250-") || strings.HasPrefix(line, "250-AUTH") {
				b.WriteString("S: " + mask(last) + "\n")
			}
			if len(line) > 3 && line[3] == ' ' {
				return true
			}
		}
	}
	send := func(s string) bool { fmt.Fprintf(c, "%s\r\n", s); return read() }
	if !read() {
		return b.String()
	}
	for _, s := range steps {
		fmt.Fprintf(&b, "C: %.100s\n", s)
		if s[:min(1, len(s))] != "@" {
			if !send(s) {
				break
			}
			if s == "STARTTLS" && strings.HasPrefix(last, "220") {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
				in = bufio.NewReader(c)
			}
			continue
		}
		words := strings.Fields(s[1:])
		client, err := sasl.Choose(words[:1], 0, sasl.Credentials{User: words[1], Password: words[2], Service: "smtp", Host: "mail.example.com"})
		if err != nil {
			b.WriteString(err.Error() + "\n")
			continue
		}
		mech, ir, _ := client.Start()
		line := "AUTH " + mech
		if ir != nil {
			line += " " + sasl.Encode(ir)
		}
		for ok := send(line); ok && strings.HasPrefix(last, "334"); {
			challenge, _ := sasl.Decode(last[4:])
			response, err := client.Next(challenge)
			if err != nil {
				b.WriteString("error: " + err.Error() + "\n")
				ok = send("*")
				continue
			}
			ok = send(sasl.Encode(response))
		}
	}
	return b.String()
}

// sessions are what both servers are asked.
var sessions = []struct {
	port  int
	steps []string
}{
	{2501, []string{"AUTH PLAIN x", "EHLO c", "AUTH PLAIN " + b64("\x00joe\x00good"), "AUTH PLAIN x", "MAIL FROM:<a@b.example>", "AUTH PLAIN x"}},
	{2501, []string{"EHLO c", "AUTH PLAIN " + b64("\x00joe\x00bad"), "AUTH PLAIN " + b64("\x00none\x00bad"), "AUTH PLAIN " + b64("alice\x00joe\x00good"), "AUTH PLAIN " + b64("alice\x00joe\x00bad"),
		"AUTH PLAIN " + b64("joe\x00joe"), "AUTH PLAIN " + b64("joe\x00joe\x00good\x00x"), "AUTH PLAIN " + b64("\x00 joe \x00good")}},
	{2501, []string{"EHLO c", "AUTH PLAIN =", "AUTH PLAIN !!!", "AUTH PLAIN !!!!", "AUTH PLAIN", "!!!", "AUTH PLAIN", "*", "AUTH PLAIN", "", "AUTH PLAIN", "=", "AUTH PLAIN a b", "AUTH", "AUTH  PLAIN  x", "AUTH NONESUCH",
		"AUTH PLAIN am9l====", "AUTH PLAIN YQ==YQ==", "AUTH PLAIN YR==", "AUTH PLAIN Y===", "AUTH PLAIN", "am9s AA", "AUTH PLAIN:", "AUTH LOGIN", b64("joe"), b64("good")}},
	{2501, []string{"EHLO c", "AUTH LOGIN " + b64("joe"), b64("bad"), "AUTH LOGIN =", "AUTH LOGIN", "*", "AUTH LOGIN", b64("joe"), "*", "AUTH LOGIN", "!", "AUTH LOGIN", b64("joe"), "", "AUTH LOGIN", "", b64("x"), "AUTH login", b64("joe"), b64("good"),
		"MAIL FROM:<a@b.example> AUTH=<x>", "RCPT TO:<alice>", "DATA", "Subject: x\r\n\r\n.", "QUIT"}},
	{2501, []string{"EHLO c", "AUTH CRAM-MD5", "eA==", "AUTH CRAM-MD5", b64("joe 01234567890123456789012345678901"), "AUTH CRAM-MD5", b64("none 01234567890123456789012345678901"), "AUTH CRAM-MD5 eA==", "AUTH CRAM-MD5 =", "AUTH CRAM-MD5", "", "AUTH CRAM-MD5", "*", "@CRAM-MD5 joe bad", "@CRAM-MD5 none good", "@CRAM-MD5 joe good"}},
	{2501, []string{"EHLO c", "AUTH DIGEST-MD5", "eA==", "AUTH DIGEST-MD5", "", "AUTH DIGEST-MD5 eA==", "*", "AUTH DIGEST-MD5", b64(`username="joe",realm="mail.example.com",nonce="x",cnonce="y",nc=00000001,qop=auth,digest-uri="smtp/x",response=01234567890123456789012345678901`),
		"AUTH DIGEST-MD5", b64(`realm="mail.example.com",nonce="x"`), "@DIGEST-MD5 joe bad", "@DIGEST-MD5 none good", "@DIGEST-MD5 joe good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "AUTH SCRAM-SHA-1", "eA==", "AUTH SCRAM-SHA-1 " + b64("n,,n=joe,r=abc"), "eA==", "AUTH SCRAM-SHA-256 " + b64("n,,n=none,r=abc"), "AUTH SCRAM-SHA-256 " + b64("n,,n=joe,r=abc"), b64("c=biws,r=abc,p=x"), "AUTH SCRAM-SHA-1 " + b64("x,,n=joe,r=abc"),
		"AUTH SCRAM-SHA-256 " + b64("n,,n=joe,r=abc"), "*", "@SCRAM-SHA-1 joe bad", "@SCRAM-SHA-256 none good", "@SCRAM-SHA-1 joe good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "@SCRAM-SHA-256 joe good"}},
	{2501, []string{"EHLO c", "@SCRAM-SHA-256 joe@example.com good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "@DIGEST-MD5 joe@example.com good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "@CRAM-MD5 joe@example.com good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "AUTH ANONYMOUS eA==", "AUTH GSSAPI", "AUTH EXTERNAL", "AUTH EXTERNAL eA==", "AUTH PLAIN " + b64("\x00joe@example.com\x00good"), "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "MAIL FROM:<a@b.example> AUTH=<x>", "MAIL FROM:<a@b.example> AUTH=<>", "RCPT TO:<alice>"}},
	{2501, []string{"EHLO c", "AUTH PLAIN", strings.Repeat("A", 12289), "AUTH PLAIN", strings.Repeat("A", 12288), "AUTH PLAIN", strings.Repeat("A", 12291), "QUIT"}},
	{2502, []string{"EHLO c", "AUTH PLAIN " + b64("\x00joe\x00bad"), "AUTH PLAIN " + b64("\x00joe\x00"), "AUTH PLAIN " + b64("\x00\x00good"), "AUTH LOGIN", b64("joe"), b64("bad"), "AUTH LOGIN", b64("joe@example.com"), b64("good"), "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2503, []string{"EHLO c", "AUTH PLAIN " + b64("\x00joe\x00good"), "@CRAM-MD5 joe good"}},
	{2505, []string{"EHLO c", "AUTH PLAIN " + b64("\x00joe\x00good"), "AUTH LOGIN", b64("joe"), b64("good")}},
	{2507, []string{"EHLO c", "AUTH PLAIN " + b64("\x00joe\x00good"), "@CRAM-MD5 joe good", "@LOGIN joe good"}},
	{2508, []string{"EHLO c", "AUTH ANONYMOUS eA==", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "RSET", "AUTH EXTERNAL"}},
	{2508, []string{"EHLO c", "@LOGIN joe good", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2508, []string{"EHLO c", "@DIGEST-MD5 joe good", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2508, []string{"EHLO c", "@SCRAM-SHA-1 joe good", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2508, []string{"EHLO c", "@PLAIN joe@mail.example.com good", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2510, []string{"AUTH PLAIN x", "EHLO c", "AUTH PLAIN " + b64("\x00joe\x00good")}},
	{2512, []string{"EHLO c", "AUTH LOGIN", "*", "AUTH LOGIN x", "AUTH PLAIN " + b64("\x00joe\x00good")}},
	{2513, []string{"EHLO c", "@PLAIN joe good", "@LOGIN joe good"}},
	{2514, []string{"EHLO c", "@PLAIN joe bad", "@PLAIN joe good"}},
	{2515, []string{"EHLO c", "@PLAIN joe good", "@CRAM-MD5 joe good"}},
	{2516, []string{"EHLO c", "@DIGEST-MD5 joe good", "@SCRAM-SHA-1 joe good"}},
	{2517, []string{"EHLO c", "AUTH PLAIN x", "MAIL FROM:<a@b.example> AUTH=<x>", "XCLIENT LOGIN=bob", "EHLO c", "AUTH PLAIN x", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2518, []string{"EHLO c", "AUTH PLAIN x", "XCLIENT LOGIN=bob", "EHLO c", "AUTH PLAIN x", "XCLIENT NAME=localhost", "EHLO c", "AUTH PLAIN x"}},
	{2519, []string{"EHLO c", "@PLAIN joe good", "@CRAM-MD5 joe good"}},
	{2530, []string{"EHLO c", "AUTH PLAIN x", "STARTTLS", "AUTH PLAIN x", "EHLO c", "@PLAIN joe good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>", "DATA", "Subject: tls\r\n\r\n."}},
	{2530, []string{"EHLO c", "XCLIENT LOGIN=bob", "EHLO c", "AUTH PLAIN x", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>", "RCPT TO:<x@far.example>", "RSET", "STARTTLS", "EHLO c", "@PLAIN joe good", "MAIL FROM:<a@b.example>", "RCPT TO:<x@far.example>"}},
	{2530, []string{"EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@far.example>", "RSET", "STARTTLS", "EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@far.example>", "RSET", "@CRAM-MD5 joe good", "MAIL FROM:<a@b.example>", "RCPT TO:<x@far.example>"}},
	{2531, []string{"EHLO c", "@PLAIN joe good", "@CRAM-MD5 joe good", "STARTTLS", "EHLO c", "@PLAIN joe good", "MAIL FROM:<a@b.example>", "RCPT TO:<alice>"}},
	{2532, []string{"EHLO c", "AUTH PLAIN x", "STARTTLS", "EHLO c", "@LOGIN joe good", "XCLIENT NAME=localhost", "EHLO c", "@LOGIN joe good"}},
	{2501, []string{"EHLO c", "XCLIENT LOGIN=bob NAME=localhost", "EHLO c", "AUTH PLAIN x", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "RSET", "XCLIENT NAME=localhost", "EHLO c", "AUTH PLAIN " + b64("\x00joe\x00good")}},
	{2520, []string{"EHLO c", "AUTH SECRET", "AUTH NONESUCH", "AUTH plain " + b64("reason"), "AUTH PLAIN " + b64("plain"), "AUTH PLAIN " + b64("bare"), "AUTH PLAIN " + b64("temp"), "AUTH PLAIN " + b64("nouser"), "AUTH PLAIN !!", "AUTH PLAIN", "!!", "AUTH PLAIN", "=", "QUIT"}},
	{2520, []string{"EHLO c", "AUTH PLAIN =", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2520, []string{"EHLO c", "AUTH PLAIN", "*", "AUTH PLAIN", b64("die"), "AUTH PLAIN " + b64("die"), "AUTH PLAIN " + b64("again"), b64("other"), "MAIL FROM:<x@y.example>", "RCPT TO:<alice>"}},
	{2520, []string{"EHLO c", "AUTH PLAIN " + b64("hang"), "AUTH PLAIN " + b64("joe"), "QUIT"}},
	{2521, []string{"EHLO c", "AUTH PLAIN " + b64("joe"), "AUTH CRAM-MD5", b64("joe")}},
}

var (
	logVaries = regexp.MustCompile(`request longer than.*|\[\d+\]|[0-9A-F]{9,12}:|process /usr.*`)
	logWanted = regexp.MustCompile(`warning|fatal|panic|sasl_`)
)

// saslLog is the log lines of the servers, without what differs each time.
func saslLog(w *world.World) string {
	var b strings.Builder
	for _, line := range strings.Split(w.Syslog(), "\n") {
		if i := strings.Index(line, " p25"); i >= 0 && logWanted.MatchString(line) {
			b.WriteString(logVaries.ReplaceAllString(line[i+1:], "") + "\n")
		}
	}
	return b.String()
}

func TestServer(t *testing.T) {
	t.Parallel()
	var out [2]string
	var wg sync.WaitGroup
	for i, suite := range []world.Suite{world.Debian, world.Ours} {
		w, d := start(t, suite)
		wg.Add(1)
		go func() {
			defer wg.Done()
			var b strings.Builder
			for _, s := range sessions {
				c, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
				if err != nil {
					fmt.Fprintln(&b, err)
					continue
				}
				fmt.Fprintf(&b, "== %d\n%s", s.port, converse(c, s.steps...))
				c.Close()
			}
			time.Sleep(300 * time.Millisecond)
			d.mu.Lock()
			defer d.mu.Unlock()
			out[i] = b.String() + "== dovecot\n" + strings.Join(d.lines, "\n") + "\n== log\n" + saslLog(w) +
				w.Sh(`cat /home/alice/Maildir/new/* | grep -A3 ^Received: | grep -v ' id \|;'`).Out
		}()
	}
	wg.Wait()
	compare(t, out)
}

// compare shows the differences of Debian's and our results.
func compare(t *testing.T, out [2]string) {
	t.Helper()
	if dir := os.Getenv("SASL_OUT"); dir != "" {
		os.WriteFile(filepath.Join(dir, t.Name()+".debian"), []byte(out[0]), 0o644)
		os.WriteFile(filepath.Join(dir, t.Name()+".ours"), []byte(out[1]), 0o644)
	}
	a, b := strings.Split(out[0], "\n"), strings.Split(out[1], "\n")
	shown := 0
	for i := 0; i < max(len(a), len(b)) && shown < 10; i++ {
		x, y := "", ""
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			t.Errorf("line %d:\ndebian: %s\nours:   %s", i, x, y)
			shown++
		}
	}
}
