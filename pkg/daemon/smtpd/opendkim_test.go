package smtpd

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// TestOpenDKIM has a Milter of this world sign a message that our smtpd takes
// and Debian's cleanup shows it. testdata/fetch-opendkim.sh build/opendkim
// gets the program.
func TestOpenDKIM(t *testing.T) {
	root, err := world.Root()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "build/opendkim")
	if _, err := os.Stat(program + "/usr/sbin/opendkim"); err != nil {
		t.Skip("SKIP: no build/opendkim (see testdata/fetch-opendkim.sh)")
	}
	w := world.Test(t, world.Options{Suite: world.Debian, Swap: []string{"smtpd"}, Main: []string{"smtpd_milters = inet:127.0.0.1:8891", "smtpd_peername_lookup = no",
		"mynetworks = 127.0.0.0/8", "default_transport = discard:", "defer_transports = discard", "compatibility_level = 3.6"}})
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, data := range map[string]string{"dkim.key": string(data), "dkim.conf": "Mode s\nDomain example.com\nSelector s1\nKeyFile /etc/postfix/dkim.key\nSocket inet:8891@127.0.0.1\n" +
		"UserID root\nInternalHosts /etc/postfix/dkim.hosts\nPidFile /etc/postfix/dkim.pid\nRequireSafeKeys no\nDNSTimeout 1\n", "dkim.hosts": "127.0.0.1\n"} {
		if err := os.WriteFile(w.Path("/etc/postfix/"+name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	filter := w.Command("/usr/bin/env", "LD_LIBRARY_PATH="+program+"/usr/lib/x86_64-linux-gnu:"+program+"/usr/lib", program+"/usr/sbin/opendkim", "-f", "-x", "/etc/postfix/dkim.conf")
	var said strings.Builder
	filter.Stdout, filter.Stderr = &said, &said
	filter.WaitDelay = time.Second
	if err := filter.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { filter.Process.Kill(); filter.Wait() }()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := w.Dial("tcp", "127.0.0.1:8891"); err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("opendkim does not listen: ", said.String())
		}
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	dialogue := milterTalk(c, mailTalk)
	_, id, ok := strings.Cut(dialogue, "queued as ")
	if id, _, _ = strings.Cut(id, "\n"); !ok {
		t.Fatal(dialogue)
	}
	if r := w.Run("", "postcat", "-q", "-h", id); !strings.Contains(r.Out, "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.com; s=s1;") {
		t.Errorf("%s%s", r.Out, r.Err)
	}
}
