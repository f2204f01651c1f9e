package postfix

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// What Debian's "postfix tls" did. UPDATE=1 makes it anew.
const tlsGolden = "testdata/tls.txt"

// tlsScript is run where "t" is a run of "postfix tls", "u" takes settings out
// of main.cf, "e" asks whether one counts, and "s" waits. FIXED is an RSA key.
var tlsScript = strings.Split(strings.TrimSpace(`
t
t what
t all-default-client
t all-default-server
t all-default-client x
t all-default-server x
t enable-client x
t enable-client -Z
t enable-client -r
t enable-server -Z
t new-server-key -Z
t new-server-cert -Z
t deploy-server-cert
t output-server-csr -Z
t output-server-csr -k
t output-server-tlsa -Z
t output-server-csr
t output-server-tlsa
t output-server-tlsa ecdsa
t output-server-tlsa nofile
t output-server-csr -k nofile
t output-server-csr -k FIXED
t output-server-csr -k FIXED a.test b.test
t output-server-tlsa FIXED
t output-server-tlsa -h mx.test FIXED FIXED
t enable-client -r foo
t enable-client
t all-default-client
u smtp_tls_security_level smtp_tls_loglevel smtp_tls_session_cache_database tls_random_source
t enable-client
t enable-server -a dsa
t enable-server -a ecdsa -b secp384r1 h1.test h2.test
t enable-server
t all-default-server
t output-server-tlsa rsa
t output-server-csr
t deploy-server-cert CERT FIXED
t deploy-server-cert nofile FIXED
t deploy-server-cert nofile nofile2
t new-server-cert -a ecdsa z.test
s
t new-server-key -b 1024
s
t new-server-cert
u smtpd_tls_eccert_file smtpd_tls_eckey_file smtpd_tls_security_level smtpd_tls_loglevel smtpd_tls_received_header
u smtpd_tls_cert_file smtpd_tls_key_file smtp_tls_security_level smtp_tls_loglevel smtp_tls_session_cache_database
e smtp_tls_loglevel = 1
e smtp_use_tls = no
e smtpd_tls_chain_files = /x
e smtpd_tls_dcert_file = /x
e smtpd_use_tls = yes
e smtp_tls_eccert_file = /x
`), "\n")

// Times in names of files, and serial numbers of processes.
var tlsMasks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`-\d{8}-\d{6}\.pem`), "-TIME.pem"},
	{regexp.MustCompile(`(?s)(t output-server-csr\nexit 0\n).*?(=== )`), "${1}${2}"}, // of a key made here
	{regexp.MustCompile(`3 1 1 [0-9a-f]{64}`), "3 1 1 DIGEST"},
	{regexp.MustCompile(`(?:lmdb|btree):`), "DB:"}, // what the original prefers we do not have
}

func TestTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a private machine")
	}
	t.Parallel()
	suite := world.Ours
	if os.Getenv("UPDATE") != "" {
		suite = world.Debian
	}
	w := world.Test(t, world.Options{Suite: suite})
	key, err := os.ReadFile("testdata/fixed.pem")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.Path("/etc/postfix/fixed.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	cert := ""
	for _, line := range tlsScript {
		line = strings.ReplaceAll(strings.ReplaceAll(line, "FIXED", "fixed.pem"), "CERT", cert)
		words := strings.Fields(line)
		fmt.Fprintf(&got, "=== %s\n", line)
		switch words[0] {
		case "s":
			time.Sleep(1100 * time.Millisecond) // files are called after the second
		case "u":
			w.Run("", append([]string{"postconf", "-X"}, words[1:]...)...)
		case "e": // is that a setting that counts?
			name := words[1]
			old := w.Run("", "postconf", "-nh", name)
			w.Run("", "postconf", "-e", strings.Join(words[1:], " "))
			client, server := w.Run("", "postfix", "tls", "all-default-client").Code, w.Run("", "postfix", "tls", "all-default-server").Code
			fmt.Fprintf(&got, "client %d server %d\n", client, server)
			w.Run("", "postconf", "-X", name)
			if old.Out != "" {
				w.Run("", "postconf", "-e", name+" = "+strings.TrimSpace(old.Out))
			}
		default:
			tlsRun(t, w, &got, words[1:])
			if found, _ := filepath.Glob(w.Path("/etc/postfix/eccert-*.pem")); len(found) > 0 {
				cert = filepath.Base(found[0])
			}
		}
	}
	text := got.String()
	for _, m := range tlsMasks {
		text = m.pattern.ReplaceAllString(text, m.with)
	}
	if suite == world.Debian {
		if err := os.WriteFile(tlsGolden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(tlsGolden)
	if err != nil {
		t.Fatal(err)
	}
	parts, wants := strings.Split(text, "=== "), strings.Split(string(want), "=== ")
	for i := range max(len(parts), len(wants)) {
		if i >= len(parts) || i >= len(wants) || parts[i] != wants[i] {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(parts[min(i, len(parts)):min(i+1, len(parts))], ""), strings.Join(wants[min(i, len(wants)):min(i+1, len(wants))], ""))
		}
	}
}

var logHead = regexp.MustCompile(`^.*?(postfix/[a-z-]+)\[[0-9]+\]: `)

// tlsRun runs the command and writes down all that can be seen.
func tlsRun(t *testing.T, w *world.World, got *strings.Builder, args []string) {
	t.Helper()
	list := func() (lines, files []string) {
		main, err := os.ReadFile(w.Path("/etc/postfix/main.cf"))
		if err != nil {
			t.Fatal(err)
		}
		files, _ = filepath.Glob(w.Path("/etc/postfix/*.pem"))
		return strings.Split(string(main), "\n"), files
	}
	logged := len(w.Syslog())
	oldLines, oldFiles := list()
	r := w.Run("", append([]string{"postfix", "tls"}, args...)...)
	w.Run("", "postlog", "-t", "end", "end")
	if _, err := w.WaitLog(5e9, "end"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(got, "exit %d\n%s%s", r.Code, r.Out, r.Err)
	for line := range strings.Lines(w.Syslog()[logged:]) {
		if strings.Contains(line, "postfix-tls-script") {
			got.WriteString(logHead.ReplaceAllString(line, "log: $1: "))
		}
	}
	lines, files := list()
	var added []string
	for _, l := range lines {
		if !slices.Contains(oldLines, l) {
			added = append(added, "main.cf: "+l+"\n")
		}
	}
	slices.Sort(added)
	got.WriteString(strings.Join(added, ""))
	for _, f := range files {
		if !slices.Contains(oldFiles, f) {
			got.WriteString(describe(t, f))
		}
	}
}

// describe tells of a file with keys or certificates what does not change from
// run to run.
func describe(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("file: %s %v\n", filepath.Base(path), st.Mode())
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		out += "  " + block.Type + "\n"
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf("  %s issuer %s, %s, %s, %v, version %d, serial number %v\n", c.Subject, c.Issuer, c.SignatureAlgorithm, c.PublicKeyAlgorithm,
			c.NotAfter.Sub(c.NotBefore), c.Version, c.SerialNumber.BitLen() > 100)
		for _, e := range c.Extensions {
			value := fmt.Sprintf("%x", e.Value)
			if bytes.Contains(e.Value, c.SubjectKeyId) && len(c.SubjectKeyId) > 0 {
				value = "KEY ID"
			}
			out += fmt.Sprintf("  %v %v %s\n", e.Id, e.Critical, value)
		}
	}
	return out
}
