package mailtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// anchorCert makes a certificate; without parent it signs itself.
func anchorCert(t *testing.T, name string, until time.Duration, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour),
		NotAfter: time.Now().Add(until), IsCA: strings.HasPrefix(name, "CA"), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if parent == nil {
		parent, parentKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestAnchors(t *testing.T) {
	root, rootKey := anchorCert(t, "CA root", time.Hour, nil, nil)
	inter, interKey := anchorCert(t, "CA inter", time.Hour, root, rootKey)
	leaf, _ := anchorCert(t, "leaf", time.Hour, inter, interKey)
	old, _ := anchorCert(t, "old", -time.Hour, inter, interKey)
	other, otherKey := anchorCert(t, "CA root", time.Hour, nil, nil) // the same name, another key
	forged, _ := anchorCert(t, "leaf", time.Hour, other, otherKey)

	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert := func(name string, c *x509.Certificate) string { return file(name, "CERTIFICATE", c.Raw) }
	key := func(name string, c *x509.Certificate) string {
		return file(name, "PUBLIC KEY", c.RawSubjectPublicKeyInfo)
	}
	chain := []*x509.Certificate{leaf, inter}
	for _, c := range []struct {
		name  string
		file  string
		chain []*x509.Certificate
		want  string
	}{
		{"root", cert("1", root), chain, ""},
		{"root key", key("2", root), chain, ""},
		{"intermediate", cert("3", inter), chain, ""},
		{"intermediate left out", cert("4", inter), chain[:1], ""},
		{"intermediate's key, left out", key("5", inter), chain[:1], ""},
		{"leaf", cert("6", leaf), chain, ""},
		{"leaf key", key("7", leaf), chain, ""},
		{"expired leaf", cert("8", old), []*x509.Certificate{old, inter}, ""},
		{"expired below anchor", cert("9", inter), []*x509.Certificate{old, inter}, "server certificate verification failed for P: certificate has expired"},
		{"expired below key", key("a", inter), []*x509.Certificate{old}, "server certificate verification failed for P: certificate has expired"},
		{"other root", cert("b", other), chain, "CA certificate verification failed for P: " + NoTLSA},
		{"other key", key("c", other), chain, "CA certificate verification failed for P: " + NoTLSA},
		{"forged", cert("d", root), []*x509.Certificate{forged, root}, "CA certificate verification failed for P: " + NoTLSA},
		{"forged alone", key("e", root), []*x509.Certificate{forged}, "server certificate verification failed for P: " + NoTLSA},
	} {
		a, err := LoadAnchors(c.file)
		if err != nil {
			t.Fatal(err)
		}
		v := a.Verify(c.chain, 11, time.Now())
		if got := v.Message("server", "P"); got != c.want || v.Trusted() != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if v := (&Anchors{}).Verify(nil, 11, time.Now()); v.Trusted() {
		t.Error("no certificate is trusted")
	}
	if _, err := LoadAnchors(file("x", "CERTIFICATE", []byte("rubbish"))); err == nil {
		t.Error("rubbish was read")
	}
	if a, err := LoadAnchors(file("y", "PRIVATE KEY", []byte("x"))); err != nil || !a.Empty() {
		t.Errorf("other objects: %v", err)
	}
	if _, err := LoadAnchors(filepath.Join(dir, "none")); err == nil || err.Error() != "error opening trust anchor file: "+filepath.Join(dir, "none")+": No such file or directory" {
		t.Error(err)
	}
}
