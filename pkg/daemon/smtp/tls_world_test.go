package smtp

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/test/tlspeer"
	"posthaste/test/world"
)

// Our smtp under Debian's master and queue manager, in a jail, and Debian's
// smtpd with OpenSSL as the server: a verified session and a resumed one.
func TestTLSWorld(t *testing.T) {
	w := world.Test(t, world.Options{Suite: world.Debian, Swap: []string{"smtp"}})
	const inside = "/etc/pki-test"
	if err := os.Mkdir(w.Path(inside), 0o755); err != nil {
		t.Fatal(err)
	}
	tlspeer.NewPKI(t, w.Path(inside))
	if r := w.Sh("chmod 600 " + inside + "/*.key " + inside + "/*.full"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	appendTo(t, w.Path("/etc/hosts"), "127.0.0.1 mx.good.test\n")
	w.Sh("cp /etc/hosts /var/spool/postfix/etc/hosts")
	appendTo(t, w.Path("/etc/postfix/master.cf"), "2525 inet n - y - - smtpd -o smtpd_tls_ask_ccert=yes -o content_filter=discard: -o smtpd_tls_loglevel=1 -o smtpd_tls_CAfile="+inside+"/root.pem\n")
	if err := w.Set("smtpd_tls_chain_files = "+inside+"/good.full", "smtpd_tls_security_level = may",
		"smtp_tls_chain_files = "+inside+"/client.full", "smtp_tls_CAfile = "+inside+"/root.pem", "smtp_tls_loglevel = 1",
		"smtp_tls_security_level = secure", "smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache",
		"smtp_tls_secure_cert_match = hostname", "smtp_host_lookup = native", "smtp_dns_support_level = disabled",
		"transport_maps = inline:{ {there.test = smtp:[mx.good.test]:2525} }"); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i, want := range []string{" server-signature ECDSA (prime256v1) server-digest SHA256 client-signature ECDSA (prime256v1) client-digest SHA256", " server-signature ECDSA (prime256v1)"} {
		rcpt := fmt.Sprintf("user%d@there.test", i)
		if r := w.Run("Subject: x\n\nhi\n", "sendmail", "-f", "alice@mail.example.com", rcpt); r.Code != 0 {
			t.Fatal(r.Err)
		}
		if _, err := w.WaitLog(15*time.Second, "to=<"+rcpt+">", "relay=mx.good.test[127.0.0.1]:2525"); err != nil {
			t.Fatal(err)
		}
		line := ""
		for l := range strings.Lines(w.Syslog()) {
			if strings.Contains(l, "/smtp[") && strings.Contains(l, "TLS connection established to") {
				line = strings.TrimSpace(l)
			}
		}
		if !strings.Contains(line, "Verified TLS connection established to mx.good.test[127.0.0.1]:2525: TLSv1.3 with cipher") || !strings.HasSuffix(line, want) {
			t.Errorf("delivery %d: %s", i, line)
		}
	}
	if _, err := w.WaitLog(time.Second, "/smtpd[", "Trusted TLS connection established from"); err != nil {
		t.Error(err)
	}
}
