package mailtls

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"
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

// Selectors and the matching type that is no digest.
const (
	selectCert = 0
	selectKey  = 1
	matchFull  = 0
)

// MatchPrivate is the match type of a record that was made of a fingerprint: its
// data is the digest by the configured algorithm.
const MatchPrivate = 255

// shownData is how many octets of a record's data are shown: of what is longer,
// half of them from either end.
const shownData = 64

// String is the record as log lines show it: "3 1 1 E3B0C442...".
func (t TLSA) String() string {
	data := fmt.Sprintf("%X", t.Data)
	if len(t.Data) > shownData {
		data = data[:shownData] + "..." + data[len(data)-shownData:]
	}
	return fmt.Sprintf("%d %d %d %s", t.Usage, t.Selector, t.MatchType, data)
}

// TLSADigests are the digests that TLSA records may use, the best first.
type TLSADigests []tlsaDigest

type tlsaDigest struct {
	matchType int
	digest    Digest
}

// iana are the matching types of RFC 6698; no other digest may have their
// numbers.
var iana = map[string]int{"sha256": 1, "sha512": 2}

// ParseTLSADigests reads tls_dane_digests: names of digests, with "=NUMBER" the
// matching type of those that have none in RFC 6698. What is wrong with an
// element is told to warn, and it does not count.
func ParseTLSADigests(list string, warn Warn) TLSADigests {
	out := TLSADigests{}
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		if problem := out.add(word); problem != "" {
			warn("%s", problem)
		}
	}
	return out
}

func (d *TLSADigests) add(word string) (problem string) {
	name, number, _ := strings.Cut(word, "=")
	code, known := iana[strings.ToLower(name)]
	switch n, err := strconv.Atoi(number); {
	case name == "":
		return ""
	case number == "" && !known:
		return "tls_dane_digests: digest algorithm " + name + " needs an explicit number"
	case number == "":
	case err == nil && n == matchFull:
		return "Reserved matching type number in tls_dane_digests: " + word
	case err != nil || n < matchFull || n >= MatchPrivate:
		return "Invalid matching type number in tls_dane_digests: " + word
	default:
		code = n
	}
	for owner, of := range iana {
		if code == of && !strings.EqualFold(owner, name) {
			return fmt.Sprintf("tls_dane_digests: matching type %d can only be %s", code, owner)
		}
	}
	if _, _, twice := d.find(code); twice {
		return fmt.Sprintf("tls_dane_digests: matching type %d specified more than once", code)
	}
	digest, err := ParseDigest(name)
	if err != nil {
		return fmt.Sprintf("tls_dane_digests: digest algorithm \"%s\"(%d) unknown", name, code)
	}
	*d = append(*d, tlsaDigest{code, digest})
	return ""
}

// StandardDigests is tls_dane_digests as it is without being set.
func StandardDigests() TLSADigests { return ParseTLSADigests("sha512 sha256", func(string, ...any) {}) }

// find is the digest of a matching type and its rank, 0 the best.
func (d TLSADigests) find(matchType int) (digest Digest, rank int, ok bool) {
	for i, x := range d {
		if x.matchType == matchType {
			return x.digest, i, true
		}
	}
	return Digest{}, 0, false
}

// Usable divides records into those that can match a certificate and those
// that cannot: of unknown parameters, with a digest of the wrong length, or
// with something that is no certificate or key.
func (d TLSADigests) Usable(records []TLSA) (good, bad []TLSA) {
	for _, t := range records {
		if d.wellFormed(t) {
			good = append(good, t)
		} else {
			bad = append(bad, t)
		}
	}
	return good, bad
}

func (d TLSADigests) wellFormed(t TLSA) bool {
	if t.Usage != UsageTrustAnchor && t.Usage != UsageEndEntity || t.Selector != selectCert && t.Selector != selectKey || len(t.Data) == 0 {
		return false
	}
	if t.MatchType != matchFull {
		digest, _, ok := d.find(t.MatchType)
		return ok && len(t.Data) == digest.hash.Size()
	}
	if t.Selector == selectKey {
		var key struct {
			Algorithm pkix.AlgorithmIdentifier
			Bits      asn1.BitString
		}
		return shaped(t.Data, &key)
	}
	var cert struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	return shaped(t.Data, &cert) && cert.Body.Tag == asn1.TagSequence
}

// shaped reports whether data has the outward form of a certificate or a key. Of
// more that crypto/x509 wants nothing is asked: what it cannot read matches
// nothing it accepts, but if the record did not count, a server that has any
// other certificate would be taken for the right one, unverified.
func shaped(data []byte, form any) bool {
	rest, err := asn1.Unmarshal(data, form)
	return err == nil && len(rest) == 0
}

// best leaves of records that differ in nothing but their digest those with
// the best one (RFC 7671 §9).
func (d TLSADigests) best(records []TLSA) []TLSA {
	type kind struct{ usage, selector int }
	top := map[kind]int{}
	for _, t := range records {
		if _, rank, ok := d.find(t.MatchType); ok {
			k := kind{t.Usage, t.Selector}
			if old, seen := top[k]; !seen || rank < old {
				top[k] = rank
			}
		}
	}
	var out []TLSA
	for _, t := range records {
		_, rank, ok := d.find(t.MatchType)
		if t.MatchType == matchFull || ok && rank == top[kind{t.Usage, t.Selector}] {
			out = append(out, t)
		}
	}
	return out
}

// matches reports whether a certificate is the one of the record.
func (d TLSADigests) matches(t TLSA, c *x509.Certificate) bool {
	data := c.Raw
	if t.Selector == selectKey {
		data = c.RawSubjectPublicKeyInfo
	}
	if t.MatchType == matchFull {
		return bytes.Equal(data, t.Data)
	}
	digest, _, ok := d.find(t.MatchType)
	return ok && bytes.Equal(digest.Sum(data), t.Data)
}

// anchorsOf are the trust anchors that records hold: those of a chain that match,
// and those that are there whole.
func anchorsOf(records []TLSA, chain []*x509.Certificate) *Anchors {
	a, digests := &Anchors{}, StandardDigests()
	for _, t := range records {
		if t.Usage != UsageTrustAnchor {
			continue
		}
		for _, c := range chain {
			if digests.matches(t, c) {
				a.certs = append(a.certs, c)
			}
		}
		if t.MatchType != matchFull {
			continue
		}
		if c, err := x509.ParseCertificate(t.Data); err == nil && t.Selector == selectCert {
			a.certs = append(a.certs, c)
		}
		if key, err := x509.ParsePKIXPublicKey(t.Data); err == nil && t.Selector == selectKey {
			a.keys = append(a.keys, key)
		}
	}
	return a
}
