package mailtls

import (
	"crypto/x509"
	"fmt"
	"time"
)

// dane judges a chain by TLSA records alone (RFC 7672 §3). Records of the
// server's own certificate ask for nothing else; with one of a trust anchor
// the chain must lead to it, be valid below it, and be for the right name.
func (j *Judge) dane(chain []*x509.Certificate, peer string, now time.Time) Judgement {
	digests := j.Digests
	if digests == nil {
		digests = StandardDigests()
	}
	good, _ := digests.Usable(j.TLSA)
	if len(good) == 0 {
		return Judgement{Trust: Untrusted, Name: nameOf(chain[0], j.Match, j.Wildcards), Problem: certFailed + peer + ": num=1:unspecified certificate verification error"}
	}
	good = digests.best(good)
	if t, ok := digests.own(good, chain[0]); ok {
		return Judgement{Trust: j.matched(), Name: SubjectCN(chain[0]), ByTLSA: fmt.Sprintf("DANE EE certificate at depth 0: %s", t), Trace: []string{trace(0, true, chain[0])}}
	}
	return j.anchored(digests.anchor(good, chain), chain, peer, now)
}

// matched is the word for a certificate that is the right one: by way of an
// insecure MX record nothing is verified.
func (j *Judge) matched() Trust {
	if j.Level == LevelHalfDane {
		return Trusted
	}
	return Verified
}

func trace(depth int, good bool, c *x509.Certificate) string {
	verify := 0
	if good {
		verify = 1
	}
	return fmt.Sprintf("depth=%d verify=%d subject=%s", depth, verify, DistinguishedName(c.Subject))
}

// own finds the record of a server's own certificate.
func (d TLSADigests) own(records []TLSA, c *x509.Certificate) (TLSA, bool) {
	for _, t := range records {
		if t.Usage == UsageEndEntity && d.matches(t, c) {
			return t, true
		}
	}
	return TLSA{}, false
}

// tlsaAnchor is where a chain meets a TLSA record of usage 2.
type tlsaAnchor struct {
	path   []*x509.Certificate // from the server's up to, and with, the anchor
	record TLSA
	key    bool // the anchor is a bare key; path ends with what it signed
	found  bool
	asked  bool // there are records of usage 2
}

// anchor follows a chain up to the first certificate that a record vouches
// for. The issuers are what the server sent and what the records hold whole.
func (d TLSADigests) anchor(records []TLSA, chain []*x509.Certificate) (a tlsaAnchor) {
	known := chain[1:len(chain):len(chain)]
	for _, t := range records {
		if t.Usage != UsageTrustAnchor {
			continue
		}
		a.asked = true
		if t.MatchType == matchFull && t.Selector == selectCert {
			if c, err := x509.ParseCertificate(t.Data); err == nil {
				known = append(known, c)
			}
		}
	}
	a.path = chain[:1:1]
	for a.asked && len(a.path) < maxPath {
		top := a.path[len(a.path)-1]
		if len(a.path) > 1 {
			for _, t := range records {
				if t.Usage == UsageTrustAnchor && d.matches(t, top) {
					a.record, a.found = t, true
					return a
				}
			}
		}
		next := issuerOf(top, known)
		if next == nil || isSelfSigned(top) {
			a.byKey(records, top)
			return a
		}
		a.path = append(a.path, next)
	}
	return a
}

// byKey looks for a bare key that signed the end of the path.
func (a *tlsaAnchor) byKey(records []TLSA, top *x509.Certificate) {
	for _, t := range records {
		if t.Usage != UsageTrustAnchor || t.Selector != selectKey || t.MatchType != matchFull {
			continue
		}
		if key, err := x509.ParsePKIXPublicKey(t.Data); err == nil && signedBy(top, key) {
			a.record, a.key, a.found = t, true, true
			return
		}
	}
}

func (a *tlsaAnchor) String() string {
	what := "TA certificate"
	if a.key {
		what = "TA public key verified certificate"
	}
	return fmt.Sprintf("DANE %s at depth %d: %s", what, len(a.path)-1, a.record)
}

// root is the anchor as crypto/x509 wants it. An anchor is good because the
// domain's owner says so: its own dates do not matter. Of a bare key a
// certificate is made that could have signed the end of the path.
func (a *tlsaAnchor) root(now time.Time) *x509.Certificate {
	top := a.path[len(a.path)-1]
	root := *top
	if a.key {
		key, _ := x509.ParsePKIXPublicKey(a.record.Data)
		root = x509.Certificate{Raw: a.record.Data, RawSubject: top.RawIssuer, Subject: top.Issuer, PublicKey: key, PublicKeyAlgorithm: keyAlgorithm(key),
			Version: 3, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	}
	root.NotBefore, root.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
	return &root
}

// anchored is the verdict on a chain that needs a trust anchor.
func (j *Judge) anchored(a tlsaAnchor, chain []*x509.Certificate, peer string, now time.Time) Judgement {
	if !a.found {
		return j.missing(a, chain[0], peer)
	}
	out := Judgement{Trust: Untrusted, Name: nameOf(chain[0], j.Match, j.Wildcards)}
	matched, _, named := MatchNames(chain[0], j.Match, j.Wildcards)
	v := (&Verifier{Roots: NewRoots(a.root(now)), Depth: j.Depth, Usage: x509.ExtKeyUsageServerAuth}).Verify(a.path, now)
	if last := len(v.Path) - 1; last > 0 && v.reason != tooLong && !isSelfSigned(v.Path[last]) {
		v.Path = v.Path[:last]
	}
	out.Trace = v.Trace()
	switch {
	case !named && !v.WrongUsage():
		out.Problem = certFailed + peer + ": num=62:hostname mismatch"
		out.Trace = []string{trace(0, false, chain[0]), trace(0, true, chain[0])}
	case !v.Trusted():
		out.Problem = v.Message("server", peer)
	default:
		out.Trust, out.Matched, out.ByTLSA = j.matched(), matched, a.String()
	}
	if v.reason == tooLong && len(out.Trace) > 0 {
		out.Trace = append(out.Trace[:1:1], out.Trace...)
	}
	return out
}

// missing is the verdict on a chain to which no record belongs. OpenSSL tells
// of the end of the path more than once.
func (j *Judge) missing(a tlsaAnchor, c *x509.Certificate, peer string) Judgement {
	last := len(a.path) - 1
	top, role := a.path[last], "server"
	out := Judgement{Trust: Untrusted, Name: SubjectCN(c), Trace: []string{trace(last, false, top)}}
	if last > 0 {
		role = "CA"
	}
	out.Problem = role + " certificate verification failed for " + peer + ": " + NoTLSA
	if !a.asked {
		return out
	}
	out.Name = nameOf(c, j.Match, j.Wildcards)
	out.Trace = append(out.Trace, out.Trace[0])
	if last == 0 && !isSelfSigned(top) {
		out.Trace = append(out.Trace, out.Trace[0])
	}
	for depth := last; depth >= 0; depth-- {
		out.Trace = append(out.Trace, trace(depth, true, a.path[depth]))
	}
	return out
}
