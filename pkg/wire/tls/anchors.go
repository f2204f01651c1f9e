package mailtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Anchors are the trust anchors of one destination, which replace those of
// main.cf: certificates and bare public keys (delivery.md §2.11, "tafile=").
type Anchors struct {
	certs []*x509.Certificate
	keys  []crypto.PublicKey
}

// LoadAnchors reads PEM files with certificates and public keys. Other PEM
// objects are skipped, as the original does, so that the result may be empty.
// The error is worded as the original's warning.
func LoadAnchors(names ...string) (*Anchors, error) {
	a := &Anchors{}
	for _, name := range names {
		data, err := readBounded(name)
		if err != nil {
			return nil, fmt.Errorf("error opening trust anchor file: %s: %s", name, systemText(err))
		}
		if err := a.add(data); err != nil {
			return nil, fmt.Errorf("error reading: %s: %w", name, err)
		}
	}
	return a, nil
}

func (a *Anchors) add(data []byte) error {
	for _, block := range pemBlocks(data) {
		switch {
		case isCertificate(block.Type):
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return errors.New("malformed trust-anchor certificate")
			}
			a.certs = append(a.certs, c)
		case block.Type == "PUBLIC KEY":
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return errors.New("malformed trust-anchor public key")
			}
			a.keys = append(a.keys, key)
		}
	}
	return nil
}

// Empty reports whether there are none; nil is empty.
func (a *Anchors) Empty() bool { return a == nil || len(a.certs) == 0 && len(a.keys) == 0 }

// Verify judges a server's chain by the anchors alone. A certificate of the
// chain, the server's own too, is trusted when it is an anchor, has an
// anchor's key or is signed by one. The server's own is not asked for its
// dates then.
func (a *Anchors) Verify(chain []*x509.Certificate, depth int, now time.Time) Verdict {
	if len(chain) == 0 {
		return Verdict{reason: noCertificate}
	}
	for _, c := range a.certs {
		if c.Equal(chain[0]) {
			return Verdict{}
		}
	}
	for _, key := range a.keys {
		if sameKey(chain[0].PublicKey, key) {
			return Verdict{}
		}
	}
	roots := NewRoots(a.certs...)
	for i, c := range chain {
		if a.vouches(c, i == 0) {
			roots.add(c)
		}
	}
	v := &Verifier{Roots: roots, Depth: depth, Usage: x509.ExtKeyUsageServerAuth}
	verdict := v.Verify(chain, now)
	if verdict.reason == selfSigned || verdict.reason == unknownIssuer {
		verdict = Verdict{reason: otherReason, depth: len(chain) - 1, text: NoTLSA}
	}
	return verdict
}

// NoTLSA is the library text for a certificate that is none of those asked for.
const NoTLSA = "num=65:no matching DANE TLSA records"

// vouches reports whether one of the keys is that of c or signed c. What is not
// the server's own certificate and may not sign others is vouched for in vain.
func (a *Anchors) vouches(c *x509.Certificate, own bool) bool {
	signs := own || c.BasicConstraintsValid && c.IsCA
	for _, key := range a.keys {
		if sameKey(c.PublicKey, key) || signs && signedBy(c, key) {
			return true
		}
	}
	return false
}

// signedBy checks a signature by a key that comes without a certificate.
func signedBy(c *x509.Certificate, key crypto.PublicKey) bool {
	signer := &x509.Certificate{PublicKey: key, PublicKeyAlgorithm: keyAlgorithm(key), Version: 1}
	return signer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func keyAlgorithm(key crypto.PublicKey) x509.PublicKeyAlgorithm {
	switch key.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}

// KeyOnly is the signature of a server in a resumed session: its key is known,
// but nothing was signed.
func KeyOnly(c *x509.Certificate) Signature {
	s := keySignature(c)
	s.Digest = ""
	return s
}

// WrongUsage reports whether the certificate is for something else.
func (v Verdict) WrongUsage() bool { return v.reason == wrongUsage }
