package mailtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
)

// TLSA is a record that says what certificate a server has (RFC 6698).
type TLSA struct {
	Usage     int // 2: trust anchor, 3: the server's own; the others are of no use to mail (RFC 7672 §3.1.3)
	Selector  int // 0: the certificate, 1: its public key
	MatchType int // 0: all of it, 1: its SHA-256, 2: its SHA-512
	Data      []byte
}

// TLSA usages.
const (
	UsageTrustAnchor = 2
	UsageEndEntity   = 3
)

// MatchPrivate is the match type of a record that was made of a fingerprint: its
// data is the digest by the configured algorithm.
const MatchPrivate = 255

// matches reports whether a certificate is the one of the record.
func (t TLSA) matches(c *x509.Certificate) bool {
	data := c.Raw
	if t.Selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	} else if t.Selector != 0 {
		return false
	}
	switch t.MatchType {
	case 0:
		return bytes.Equal(data, t.Data)
	case 1:
		sum := sha256.Sum256(data)
		return bytes.Equal(sum[:], t.Data)
	case 2:
		sum := sha512.Sum512(data)
		return bytes.Equal(sum[:], t.Data)
	}
	return false
}

// isServer reports whether one of the records is the certificate as the
// server's own, which then needs neither names nor dates (RFC 7672 §3.1.1).
func isServer(records []TLSA, c *x509.Certificate) bool {
	for _, t := range records {
		if t.Usage == UsageEndEntity && t.matches(c) {
			return true
		}
	}
	return false
}

// anchorsOf are the trust anchors of the records: those of a chain that match,
// and those that the records hold whole.
func anchorsOf(records []TLSA, chain []*x509.Certificate) *Anchors {
	a := &Anchors{}
	for _, t := range records {
		if t.Usage != UsageTrustAnchor {
			continue
		}
		for _, c := range chain {
			if t.matches(c) {
				a.certs = append(a.certs, c)
			}
		}
		switch {
		case t.MatchType == 0 && t.Selector == 0:
			if c, err := x509.ParseCertificate(t.Data); err == nil {
				a.certs = append(a.certs, c)
			}
		case t.MatchType == 0 && t.Selector == 1:
			if key, err := x509.ParsePKIXPublicKey(t.Data); err == nil {
				a.keys = append(a.keys, key)
			}
		}
	}
	return a
}
