package mailtls

import (
	"crypto"
	_ "crypto/md5" // the digests of certificate fingerprints
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"strings"
)

// Digest is a message digest for fingerprints.
type Digest struct {
	name string
	hash crypto.Hash
}

var digests = []Digest{
	{"md5", crypto.MD5}, {"sha1", crypto.SHA1}, {"sha224", crypto.SHA224},
	{"sha256", crypto.SHA256}, {"sha384", crypto.SHA384}, {"sha512", crypto.SHA512},
}

// ParseDigest finds a digest by its name, with or without OpenSSL's hyphen
// ("sha-256"), in any case of letters. The error is worded as the original's
// warning: `Digest algorithm "X" not found`.
func ParseDigest(name string) (Digest, error) {
	plain := strings.ToLower(strings.Replace(strings.TrimPrefix(strings.ToLower(name), "rsa-"), "-", "", 1))
	for _, d := range digests {
		if d.name == plain {
			return d, nil
		}
	}
	return Digest{}, fmt.Errorf("Digest algorithm \"%s\" not found", name)
}

func (d Digest) String() string { return d.name }

// Sum is the raw digest of data.
func (d Digest) Sum(data []byte) []byte {
	h := d.hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// Fingerprint is the digest of data in upper-case hexadecimal pairs joined by
// colons, as logs and tables show it.
func (d Digest) Fingerprint(data []byte) string {
	const digits = "0123456789ABCDEF"
	sum := d.Sum(data)
	out := make([]byte, 0, 3*len(sum))
	for i, b := range sum {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, digits[b>>4], digits[b&15])
	}
	return string(out)
}

// Cert is the fingerprint of a certificate (its DER form).
func (d Digest) Cert(c *x509.Certificate) string { return d.Fingerprint(c.Raw) }

// PublicKey is the fingerprint of a certificate's public key, the DER form of
// its SubjectPublicKeyInfo.
func (d Digest) PublicKey(c *x509.Certificate) string {
	return d.Fingerprint(c.RawSubjectPublicKeyInfo)
}

// SameFingerprint compares fingerprints, written with colons or without, in
// any case of letters.
func SameFingerprint(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, ":", ""), strings.ReplaceAll(b, ":", ""))
}
