package mailtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"
)

// ladder makes a chain of n certificates below a root, whose names take turns:
// each has many namesakes.
func ladder(t *testing.T, n int) []*x509.Certificate {
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	var chain []*x509.Certificate
	for i := range n + 1 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: [...]string{"even", "odd"}[i%2]}, DNSNames: []string{"mx.test"},
			NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true}
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
		chain, parent, parentKey = append(chain, c), c, key
	}
	slices.Reverse(chain)
	return chain
}

// A peer's certificates do not make us check signatures by the thousand.
func TestNamesakes(t *testing.T) {
	chain := ladder(t, 4*maxNamesakes)
	if issuerOf(chain[0], chain[1:]) != chain[1] || issuerOf(chain[0], append(chain[3:2*maxNamesakes:2*maxNamesakes], chain[1])) != chain[1] {
		t.Error("the issuer is not found")
	}
	others := slices.Clone(chain[1:])
	slices.Reverse(others)
	if issuerOf(chain[0], others) != nil {
		t.Error("all namesakes were tried")
	}
}
