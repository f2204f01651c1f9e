package smtp

import (
	"net"
	"os"
	"testing"
	"time"

	"posthaste/test/tlspeer"
	"posthaste/test/world"
)

// Our smtp as a process under Debian's master: it finds the name server in
// resolv.conf, asks it for DNSSEC, and delivers to a server with a TLSA record.
func TestDANEWorld(t *testing.T) {
	w := world.Test(t, world.Options{Suite: world.Debian, Swap: []string{"smtp"}})
	dir := w.Path("/etc/pki-test")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := tlspeer.NewPKI(t, dir)
	l, err := w.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tlspeer.New(l, p, "self")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	pc, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	names := &tlspeer.NameServer{PKI: p}
	names.Set(t, "mx.good.test TLSA 3 1 1 self")
	names.Start(t, pc)
	if err := w.Set("smtp_tls_security_level = dane", "smtp_dns_support_level = dnssec", "smtp_host_lookup = dns", "smtp_tls_loglevel = 1", "inet_protocols = ipv4",
		"transport_maps = inline:{ {there.test = smtp:good.test:"+port+"} }"); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if r := w.Run("Subject: x\n\nhi\n", "sendmail", "-f", "alice@mail.example.com", "user@there.test"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	if _, err := w.WaitLog(15*time.Second, "to=<user@there.test>", "status=sent"); err != nil {
		t.Fatal(err)
	}
	if w.CountLog("Verified TLS connection established to mx.good.test[127.0.0.1]:"+port) != 1 {
		t.Error("not verified")
	}
}
