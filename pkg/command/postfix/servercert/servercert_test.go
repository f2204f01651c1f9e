package servercert

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestKeysAndCertificates(t *testing.T) {
	for _, c := range []struct {
		algorithm, size string
		parameters      bool
	}{{RSA, "2048", true}, {ECDSA, "secp256r1", true}, {ECDSA, "secp384r1", false}} {
		key, err := NewKey(c.algorithm, c.size)
		if err != nil {
			t.Fatal(err)
		}
		text, err := EncodeKey(key, c.parameters)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := SelfSigned(key, []string{"a.test", "b_.test"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		keyFile, certFile := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
		for path, data := range map[string][]byte{keyFile: text, certFile: append(cert, text...)} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		again, algorithm, err := LoadKey(keyFile)
		if err != nil || algorithm != c.algorithm {
			t.Fatal(c, algorithm, err)
		}
		loaded, err := LoadCert(certFile)
		if err != nil || !Belongs(loaded, again) || len(loaded.DNSNames) != 2 {
			t.Fatal(c, loaded, err)
		}
		if other, _ := NewKey(ECDSA, "secp256r1"); Belongs(loaded, other) {
			t.Error(c, "belongs to any key")
		}
		csr, err := Request(key, []string{"a.test"})
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(csr)
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || request.CheckSignature() != nil || len(request.DNSNames) != 1 {
			t.Error(c, request, err)
		}
	}
	if _, err := NewKey(ECDSA, "P-1"); err == nil {
		t.Error("a key on an unknown curve")
	}
	if _, err := NewKey(RSA, "100"); err == nil {
		t.Error("a short key")
	}
	if _, _, err := LoadKey(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a key of no file")
	}
}
