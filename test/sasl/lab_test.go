package sasl

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"net"

	"posthaste/test/world"
)

type svc struct {
	port  int
	conf  string // smtpd.conf text, "-" none
	opts  string
}

var services = []svc{
	{2501, "pwcheck_method: auxprop\nauxprop_plugin: sasldb\n", ""},
	{2502, "pwcheck_method: saslauthd\nmech_list: PLAIN LOGIN\nsaslauthd_path: /run/saslauthd/mux\n", ""},
	{2503, "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256\n", "-o smtpd_sasl_security_options=noanonymous,noplaintext"},
	{2505, "pwcheck_method: saslauthd\nmech_list: plain login\nsaslauthd_path: /run/none/mux\n", ""},
	{2506, "-", ""},
	{2507, "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: /etc/none\nmech_list: PLAIN LOGIN CRAM-MD5\n", ""},
	{2508, "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5 ANONYMOUS EXTERNAL\n", "-o smtpd_sasl_local_domain=example.com -o smtpd_sasl_security_options= -o broken_sasl_auth_clients=yes"},
	{2509, "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n", "-o smtpd_sasl_response_limit=40"},
	{2510, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN\n", "-o smtpd_sasl_exceptions_networks=127.0.0.0/8"},
	{2511, "pwcheck_method: auxprop\nmech_list: NONESUCH\n", ""},
	{2512, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN\n", "-o smtpd_sasl_mechanism_filter=!plain,!login"},
	{2513, "pwcheck_method: nonesuch\nmech_list: PLAIN LOGIN\n", ""},
	{2514, "pwcheck_method: auxprop saslauthd\nsaslauthd_path: /run/saslauthd/mux\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n", ""},
	{2515, "garbage\n", ""},
	{2516, "pwcheck_method: auxprop\n mech_list: PLAIN LOGIN\n", "-o smtpd_sasl_type=nonesuch"},
	{2517, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN\n", "-o smtpd_sasl_security_options=bogus"},
	{2518, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1\n", "-o smtpd_sasl_security_options=mutual_auth"},
	{2519, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1\n", "-o smtpd_sasl_security_options=nodictionary"},
	{2520, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1\n", "-o smtpd_sasl_security_options=noactive"},
	{2521, "pwcheck_method: auxprop\nmech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1\n", "-o smtpd_sasl_security_options=forward_secrecy"},
	{2522, "pwcheck_method: auxprop\nmech_list: PLAIN\n", "-o smtpd_sasl_type=dovecot -o smtpd_sasl_path=private/nonesuch"},
}

func talk(t *testing.T, w *world.World, port int, steps ...string) string {
	c, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return converse(c, steps...)
}

func converse(c net.Conn, steps ...string) string {
	var b strings.Builder
	in := bufio.NewReader(c)
	read := func() bool {
		for {
			c.SetDeadline(time.Now().Add(15 * time.Second))
			line, err := in.ReadString('\n')
			if err != nil {
				fmt.Fprintf(&b, "S: <%v>\n", err)
				return false
			}
			fmt.Fprintf(&b, "S: %s", strings.ReplaceAll(line, "\r", ""))
			if len(line) > 3 && line[3] == ' ' {
				return true
			}
		}
	}
	if !read() {
		return b.String()
	}
	for _, s := range steps {
		fmt.Fprintf(&b, "C: %.200s\n", s)
		fmt.Fprintf(c, "%s\r\n", s)
		if !read() {
			break
		}
	}
	return b.String()
}

func prepare(t *testing.T, suite world.Suite) *world.World {
	w := world.Test(t, world.Options{Suite: suite, Main: []string{"smtpd_sasl_auth_enable = yes", "smtpd_sasl_authenticated_header = yes", "smtpd_error_sleep_time = 0", "smtpd_authorized_xclient_hosts = 127.0.0.1", "smtpd_client_auth_rate_limit = 0"}})
	var mcf strings.Builder
	for _, s := range services {
		name := fmt.Sprintf("smtpd%d", s.port)
		path := ""
		if !strings.Contains(s.opts, "sasl_path") {
			path = "-o smtpd_sasl_path=" + name
		}
		fmt.Fprintf(&mcf, "%d inet n - n - - smtpd -o syslog_name=p%d %s %s\n", s.port, s.port, path, s.opts)
		if s.conf != "-" {
			w.Sh(`mkdir -p /etc/postfix/sasl; printf '%s' "$2" >/etc/postfix/sasl/$1.conf`, name, s.conf)
		}
	}
	r := w.Sh(`printf '%s' "$1" >>/etc/postfix/master.cf
mkdir -p /run/saslauthd; 
for u in mail.example.com example.com ''; do echo good | /mnt/sasl/x/usr/sbin/saslpasswd2 -p -c -f /etc/sasldb2 ${u:+-u $u} joe; done
chmod 644 /etc/sasldb2; /mnt/sasl/x/usr/sbin/sasldblistusers2
/mnt/sasl/x/usr/sbin/saslauthd -a sasldb -m /run/saslauthd -n 2 </dev/null >/tmp/sd.log 2>&1; sleep 0.3; ls -la /run/saslauthd`, mcf.String())
	t.Log(r)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestLab(t *testing.T) {
	suite := world.Debian
	if os.Getenv("LAB") == "ours" {
		suite = world.Ours
	}
	w := prepare(t, suite)
	const joeGood = "AGpvZQBnb29k"
	for _, s := range services {
		fmt.Printf("==== %d %q %s\n%s", s.port, s.conf, s.opts, talk(t, w, s.port, "EHLO c", "AUTH PLAIN "+joeGood, "QUIT"))
	}
	for _, x := range []struct {
		port  int
		steps []string
	}{
		{2501, []string{"AUTH PLAIN x", "HELO c", "AUTH PLAIN " + joeGood}},
		{2501, []string{"EHLO c", "AUTH PLAIN AGpvZQBiYWQ="}},
		{2501, []string{"EHLO c", "AUTH PLAIN AG5vbmUAYmFk"}},
		{2501, []string{"EHLO c", "AUTH PLAIN", joeGood, "AUTH PLAIN x", "MAIL FROM:<a@b.example>", "AUTH PLAIN x"}},
		{2501, []string{"EHLO c", "AUTH PLAIN =", "AUTH PLAIN !!!", "AUTH PLAIN", "!!!", "AUTH PLAIN", "*", "AUTH PLAIN", "", "AUTH PLAIN", "=", "AUTH PLAIN " + joeGood + " x", "AUTH", "AUTH  PLAIN  x", "AUTH NONESUCH", "AUTH LOGIN", "am9l", "Z29vZA=="}},
		{2501, []string{"EHLO c", "AUTH LOGIN am9l", "YmFk", "AUTH LOGIN =", "", "AUTH LOGIN", "*", "AUTH LOGIN", "am9l", "*", "AUTH LOGIN", "!", "AUTH LOGIN", "am9l", "", "AUTH login", "am9l", "Z29vZA==", "MAIL FROM:<a@b.example> AUTH=<x>", "RCPT TO:<alice>", "DATA", ".", "QUIT"}},
		{2501, []string{"EHLO c", "AUTH CRAM-MD5", "eA==", "AUTH CRAM-MD5", "am9lIDAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAx", "AUTH CRAM-MD5", "bm9uZSAwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMQ==", "AUTH CRAM-MD5 eA==", "AUTH CRAM-MD5 =", "AUTH CRAM-MD5", "", "AUTH CRAM-MD5", "*"}},
		{2501, []string{"EHLO c", "AUTH DIGEST-MD5", "eA==", "AUTH DIGEST-MD5", "", "AUTH DIGEST-MD5 eA==", "AUTH DIGEST-MD5", "dXNlcm5hbWU9ImpvZSIscmVhbG09Im1haWwuZXhhbXBsZS5jb20iLG5vbmNlPSJ4Iixjbm9uY2U9InkiLG5jPTAwMDAwMDAxLHFvcD1hdXRoLGRpZ2VzdC11cmk9InNtdHAveCIscmVzcG9uc2U9MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}},
		{2501, []string{"EHLO c", "AUTH SCRAM-SHA-1", "eA==", "AUTH SCRAM-SHA-1 biwsbj1qb2Uscj1hYmM=", "eA==", "AUTH SCRAM-SHA-256 biwsbj1ub25lLHI9YWJj", "AUTH SCRAM-SHA-256 biwsbj1qb2Uscj1hYmM=", "Yz1iaXdzLHI9YWJjLHA9eA==", "AUTH SCRAM-SHA-256 biwsbj1qb2Uscj1hYmM=", "*", "AUTH SCRAM-SHA-512 biwsbj1qb2Uscj1hYmM="}},
		{2501, []string{"EHLO c", "AUTH ANONYMOUS eA==", "AUTH EXTERNAL =", "AUTH GSSAPI", "AUTH NTLM", "AUTH PLAIN am9lAGpvZQBnb29k", "QUIT"}},
		{2501, []string{"EHLO c", "AUTH PLAIN YWxpY2UAam9lAGdvb2Q=", "AUTH PLAIN AGpvZUBleGFtcGxlLmNvbQBnb29k", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "QUIT"}},
		{2502, []string{"EHLO c", "AUTH PLAIN AGpvZQBiYWQ=", "AUTH PLAIN AGpvZQA=", "AUTH PLAIN AABnb29k", "AUTH LOGIN", "am9l", "YmFk", "AUTH PLAIN " + joeGood}},
		{2502, []string{"EHLO c", "AUTH LOGIN", "am9lQGV4YW1wbGUuY29t", "Z29vZA==", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "QUIT"}},
		{2507, []string{"EHLO c", "AUTH CRAM-MD5", "am9lIDAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAx", "AUTH LOGIN", "am9l", "Z29vZA=="}},
		{2508, []string{"EHLO c", "AUTH ANONYMOUS eA==", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "DATA", ".", "RSET", "AUTH EXTERNAL", "QUIT"}},
		{2508, []string{"EHLO c", "AUTH LOGIN", "am9l", "Z29vZA==", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "QUIT"}},
		{2508, []string{"EHLO c", "AUTH PLAIN AGpvZUBtYWlsLmV4YW1wbGUuY29tAGdvb2Q=", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "QUIT"}},
		{2509, []string{"EHLO c", "AUTH PLAIN " + strings.Repeat("A", 60), "AUTH PLAIN", strings.Repeat("A", 60), "AUTH LOGIN", "am9l", strings.Repeat("A", 41), "AUTH PLAIN " + joeGood}},
		{2509, []string{"EHLO c", "AUTH PLAIN " + strings.Repeat("A", 3000), "AUTH PLAIN", strings.Repeat("A", 39), "AUTH PLAIN",  strings.Repeat("A", 38), "AUTH PLAIN", strings.Repeat("A", 40)}},
		{2510, []string{"EHLO c", "AUTH PLAIN " + joeGood}},
		{2514, []string{"EHLO c", "AUTH PLAIN AGpvZQBiYWQ=", "AUTH PLAIN " + joeGood}},
		{2501, []string{"EHLO c", "XCLIENT LOGIN=bob NAME=x.example ADDR=192.0.2.1", "EHLO c", "AUTH PLAIN x", "MAIL FROM:<x@y.example>", "RCPT TO:<alice>", "RSET", "XCLIENT NAME=y.example", "EHLO c", "AUTH PLAIN " + joeGood, "QUIT"}},
	} {
		fmt.Printf("==== %d\n%s", x.port, talk(t, w, x.port, x.steps...))
	}
	time.Sleep(500 * time.Millisecond)
	fmt.Println(w.Syslog())
}
