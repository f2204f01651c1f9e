package tlsmgr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// serverCertificate is a self-signed certificate with its key, as PEM.
func serverCertificate(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
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

// Sessions are resumed whichever suite the programs come from: each message
// goes to a fresh smtpd, and Debian's come from a fresh smtp, which have nothing
// in common but tlsmgr. (Our smtp has its own cache, which ends with the
// process.)
func TestSessionsAreResumed(t *testing.T) {
	for _, c := range []struct {
		name    string
		options world.Options
		resumed bool // across processes of smtp
	}{
		{"Debian with our tlsmgr", world.Options{Suite: world.Debian, Swap: []string{"tlsmgr"}}, true},
		{"Debian with our tlsmgr and smtpd", world.Options{Suite: world.Debian, Swap: []string{"tlsmgr", "smtpd"}}, true},
		{"Debian with our smtpd", world.Options{Suite: world.Debian, Swap: []string{"smtpd"}}, true},
		{"ours with Debian's tlsmgr", world.Options{Suite: world.Ours, Swap: []string{"tlsmgr"}}, false},
		{"ours", world.Options{Suite: world.Ours}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.options.Memory = true
			w := world.Test(t, c.options)
			if err := os.WriteFile(w.Path("/etc/postfix/server.pem"), serverCertificate(t, "mx.good.test"), 0o600); err != nil {
				t.Fatal(err)
			}
			rows, err := os.OpenFile(w.Path("/etc/postfix/master.cf"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			rows.WriteString("2525 inet n - y - - smtpd -o content_filter=discard: -o mynetworks=127.0.0.0/8\n")
			rows.Close()
			w.Sh("echo 127.0.0.1 mx.good.test >>/etc/hosts; cp /etc/hosts /var/spool/postfix/etc/hosts")
			settings := []string{"smtpd_tls_chain_files = /etc/postfix/server.pem", "smtpd_tls_cert_file =", "smtpd_tls_key_file =", "smtpd_tls_security_level = may",
				"smtp_tls_security_level = encrypt", "smtpd_tls_loglevel = 2", "smtp_tls_loglevel = 2", "smtp_host_lookup = native", "smtp_dns_support_level = disabled",
				"smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache", "transport_maps = inline:{ {there.test = smtp:[mx.good.test]:2525} }"}
			if c.resumed {
				settings = append(settings, "smtp_destination_concurrency_limit = 1", "max_use = 1")
			}
			if err := w.Set(settings...); err != nil {
				t.Fatal(err)
			}
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			awake(t, w)
			for i, rcpt := range []string{"a@there.test", "b@there.test"} {
				if r := w.Run("Subject: x\n\nhi\n", "sendmail", "-f", "alice@mail.example.com", rcpt); r.Code != 0 {
					t.Fatal(r.Err)
				}
				if line, err := w.WaitLog(20*time.Second, "to=<"+rcpt+">", "relay=mx.good.test", "status=sent"); err != nil {
					t.Fatal(line, err)
				}
				if line, err := w.WaitLog(5*time.Second, "/smtpd[", "disconnect from localhost"); err != nil {
					t.Fatal(line, err)
				}
				if i == 0 { // in our suite one process serves them all
					for pid := range serving(w) {
						w.Run("", "kill", pid)
					}
				}
			}
			servers := serving(w)
			if len(servers) != 2 {
				t.Errorf("processes of smtpd: %v", servers)
			}
			if w.CountLog("Reusing old session (RFC 5077 session ticket)") != 1 {
				t.Error("the second connection did not resume the session of the first")
			}
		})
	}
}

// serving are the processes of smtpd that have served TLS.
func serving(w *world.World) map[string]bool {
	pids := map[string]bool{}
	for line := range strings.Lines(w.Syslog()) {
		if strings.Contains(line, "TLS connection established from") {
			_, pid, _ := strings.Cut(line, "/smtpd[")
			pid, _, _ = strings.Cut(pid, "]")
			pids[pid] = true
		}
	}
	return pids
}

// awake waits until tlsmgr is there. Debian's programs do not start while
// main.cf is younger than a second or two.
func awake(t *testing.T, w *world.World) {
	t.Helper()
	c, err := w.Dial("unix", w.Path("/var/spool/postfix/private/tlsmgr"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
