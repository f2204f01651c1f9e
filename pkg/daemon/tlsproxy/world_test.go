package tlsproxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// certificate makes a self-signed certificate with its key, as PEM.
func certificate(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

const masterRows = `
smtp      inet  n       -       y       -       1       postscreen
smtpd     pass  -       -       y       -       -       smtpd
dnsblog   unix  -       -       y       -       0       dnsblog
tlsproxy  unix  -       -       n       -       0       tlsproxy
2525      inet  n       -       y       -       -       smtpd -o content_filter=discard: -o mynetworks=127.0.0.0/8
secure    unix  -       -       n       -       -       smtp -o smtp_tls_security_level=secure -o smtp_tls_CAfile=/etc/postfix/ca.pem
wrong     unix  -       -       n       -       -       smtp -o smtp_tls_security_level=secure -o smtp_tls_CAfile=/etc/postfix/ca.pem -o smtp_tls_secure_cert_match=other.test
digest    unix  -       -       n       -       -       smtp -o smtp_tls_security_level=fingerprint -o smtp_tls_fingerprint_cert_match=00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF
odd       unix  -       -       n       -       -       smtp -o tls_high_cipherlist=AES -o tls_preempt_cipherlist=yes
none      unix  -       -       n       -       -       smtp -o smtp_tls_CAfile=/nonexistent
`

// machine starts a machine with postscreen and a server on port 2525.
func machine(t *testing.T, o world.Options, settings ...string) *world.World {
	t.Helper()
	o.Memory = true
	w := world.Test(t, o)
	path := w.Path("/etc/postfix/server.pem")
	both := certificate(t, "mx.good.test")
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	_, ca := pem.Decode(both)
	if err := os.WriteFile(w.Path("/etc/postfix/ca.pem"), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	name := w.Path("/etc/postfix/master.cf")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^smtp +inet.*$`).ReplaceAll(text, nil)
	if err := os.WriteFile(name, append(text, masterRows...), 0o644); err != nil {
		t.Fatal(err)
	}
	w.Sh("echo 127.0.0.1 mx.good.test >>/etc/hosts; cp /etc/hosts /var/spool/postfix/etc/hosts")
	if err := w.Set(append([]string{"smtpd_tls_chain_files = /etc/postfix/server.pem", "smtpd_tls_cert_file =", "smtpd_tls_key_file =", "smtpd_tls_security_level = may", "smtp_tls_security_level = encrypt",
		"smtp_tls_connection_reuse = yes", "smtp_host_lookup = native", "smtp_dns_support_level = disabled", "postscreen_bare_newline_enable = yes", "postscreen_greet_wait = 1s", "mynetworks = 192.0.2.9",
		"smtp_connection_cache_destinations = there.test", "transport_maps = inline:{ {there.test = smtp:[mx.good.test]:2525} {secure.test = secure:[mx.good.test]:2525} {wrong.test = wrong:[mx.good.test]:2525}" +
			" {digest.test = digest:[mx.good.test]:2525} {odd.test = odd:[mx.good.test]:2525} {none.test = none:[mx.good.test]:2525} }"}, settings...)...); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop() })
	return w
}

// deliver sends a message to the server on port 2525 and returns its log line.
func deliver(t *testing.T, w *world.World, rcpt string) string {
	t.Helper()
	if r := w.Run("Subject: x\n\nhi\n", "sendmail", "-f", "alice@mail.example.com", rcpt); r.Code != 0 {
		t.Fatal(r.Err)
	}
	line, err := w.WaitLog(15*time.Second, "to=<"+rcpt+">")
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// screen talks to postscreen through TLS and returns what it says.
func screen(t *testing.T, w *world.World) []string {
	t.Helper()
	c, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	var said []string
	reply := func() {
		for {
			line, err := in.ReadString('\n')
			said = append(said, strings.TrimSpace(line))
			if err != nil || len(line) < 4 || line[3] != '-' {
				return
			}
		}
	}
	reply()
	fmt.Fprint(c, "EHLO x\r\n")
	reply()
	fmt.Fprint(c, "STARTTLS\r\n")
	reply()
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "mx.good.test"})
	in = bufio.NewReader(tc)
	for _, command := range []string{"EHLO y", "MAIL FROM:<a@b.example>", "RCPT TO:<bob@mail.example.com>", "QUIT"} {
		fmt.Fprint(tc, command+"\r\n")
		reply()
	}
	return said
}

// masks hide what differs from run to run and from library to library.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`^.*postfix/(tlsproxy|smtp|postscreen)\[\d+\]: `), "$1: "},
	{regexp.MustCompile(`\]:\d{5}\b`), "]:PORT"},
	{regexp.MustCompile(`TLS_AES_\d+_GCM_SHA\d+ \(\d+/\d+ bits\)`), "CIPHER"},
	{regexp.MustCompile(`key-exchange \S+`), "key-exchange K"},
	{regexp.MustCompile(`expiration: \d+`), "expiration: TIME"},
	{regexp.MustCompile(`smtp: [0-9A-F]+: `), "smtp: ID: "},
	{regexp.MustCompile(`delays?=[0-9./]+, `), ""},
	{regexp.MustCompile(`fingerprint=[0-9A-F:]+`), "fingerprint=F"},
	{regexp.MustCompile(`queued as [0-9A-F]+`), "queued as ID"},
}

// unlike are lines that come from OpenSSL, or tell about sessions in tlsmgr,
// where ours are not. OpenSSL also traces a name or digest that does not match
// as a step of the chain.
var unlike = []string{"depth=0 verify=0", "SSL_connect:", "SSL_accept:", "looking for session", "save session", "reloaded session", "initializing the "}

func masked(log string) []string {
	var out []string
next:
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		for _, word := range unlike {
			if strings.Contains(line, word) {
				continue next
			}
		}
		plain := line
		for _, m := range masks {
			line = m.what.ReplaceAllString(line, m.by)
		}
		if strings.HasPrefix(line, "tlsproxy: ") || strings.HasPrefix(line, "smtp: ") && line != plain {
			out = append(out, line)
		}
	}
	return out
}

// Debian's postscreen and smtp with our tlsproxy, and with Debian's: what the
// clients see and what is logged is the same.
func TestWorld(t *testing.T) {
	var logs, said [2][]string
	for i, o := range []world.Options{{Suite: world.Debian}, {Suite: world.Debian, Swap: []string{"tlsproxy"}}} {
		w := machine(t, o, "smtp_tls_loglevel = 2", "smtpd_tls_loglevel = 2", "smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache", "tls_wildcard_matches_multiple_labels = no")
		for _, c := range [][2]string{{"a@there.test", "sent"}, {"b@there.test", "sent"}, {"c@secure.test", "sent"}, {"d@wrong.test", "deferred"},
			{"e@digest.test", "deferred"}, {"f@odd.test", "sent"}, {"g@none.test", "deferred"}} {
			if line := deliver(t, w, c[0]); !strings.Contains(line, "status="+c[1]) {
				t.Error(line)
			}
		}
		said[i] = screen(t, w)
		if _, err := w.WaitLog(5*time.Second, "/tlsproxy[", "DISCONNECT [127.0.0.1]:2525"); err != nil {
			t.Error(err)
		}
		time.Sleep(300 * time.Millisecond)
		logs[i] = masked(w.Syslog())
	}
	if got, want := strings.Join(said[1], "\n"), strings.Join(said[0], "\n"); got != want {
		t.Errorf("with ours:\n%s\nwith Debian's:\n%s", got, want)
	}
	for i := range logs { // two programs write at once
		slices.SortStableFunc(logs[i], func(a, b string) int { return strings.Compare(a[:4], b[:4]) })
	}
	if got, want := strings.Join(logs[1], "\n"), strings.Join(logs[0], "\n"); got != want {
		t.Errorf("our log:\n%s\nDebian's:\n%s", got, want)
	}
}
