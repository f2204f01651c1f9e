package mailtls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verifier judges a peer's certificate chain. It is used after the handshake
// (tls.Config with InsecureSkipVerify, or RequestClientCert), so that a bad
// certificate never aborts one: what follows from the verdict is the mail
// system's decision. It is safe for concurrent use.
type Verifier struct {
	Roots *Roots           // trust anchors; nil is none
	Depth int              // *_verifydepth: one intermediate certificate more than that is accepted, as by OpenSSL
	Usage x509.ExtKeyUsage // what the peer's certificate must be for
}

// Verdict is the outcome. The zero value is "trusted".
type Verdict struct {
	reason reason
	depth  int    // of the certificate that failed; 0 is the peer's own
	text   string // the issuer, or a library text
	limit  int

	// Path is the chain that was judged, the peer's certificate first: up to a
	// trust anchor, or as far as it could be followed.
	Path []*x509.Certificate
}

// Trace is what OpenSSL's verification tells step by step: the lines of log
// level "verbose" after "PEER: ". First comes, once or twice, the certificate
// for which there is no good chain, then the way down from the top.
func (v Verdict) Trace() []string {
	if len(v.Path) == 0 {
		return nil
	}
	var out []string
	line := func(depth, good int) {
		out = append(out, fmt.Sprintf("depth=%d verify=%d subject=%s", depth, good, DistinguishedName(v.Path[depth].Subject)))
	}
	top := len(v.Path) - 1
	selfSigned := isSelfSigned(v.Path[top])
	switch {
	case v.reason == tooLong:
		line(min(v.limit+1, top), 0)
		line(min(v.limit+1, top), 0)
		top = min(v.limit, top)
	case v.reason == unknownIssuer && top == 0 && !selfSigned:
		line(0, 0)
		line(0, 0)
	case v.reason == unknownIssuer && !selfSigned:
		line(top, 0)
		top--
	case v.reason != trusted && v.reason != expired && v.reason != notYetValid:
		line(v.depth, 0)
	}
	for depth := top; depth >= 0; depth-- {
		if depth == v.depth && (v.reason == expired || v.reason == notYetValid) {
			line(depth, 0)
		}
		line(depth, 1)
	}
	return out
}

type reason int

const (
	trusted reason = iota
	noCertificate
	selfSigned
	unknownIssuer
	notYetValid
	expired
	wrongUsage
	tooLong
	otherReason
)

// Trusted reports whether the chain leads to a trust anchor and is valid.
func (v Verdict) Trusted() bool { return v.reason == trusted }

// Message is the log line about a chain that is not trusted, "" if it is.
// peer is the name of the peer, role what it is: "client" or "server".
func (v Verdict) Message(role, peer string) string {
	direct := map[reason]string{
		selfSigned: "self-signed certificate", unknownIssuer: "untrusted issuer " + v.text,
		wrongUsage: "not designated for use as a " + role + " certificate",
		tooLong:    fmt.Sprintf("certificate chain longer than limit(%d)", v.limit),
	}
	if text, ok := direct[v.reason]; ok {
		return "certificate verification failed for " + peer + ": " + text
	}
	text := map[reason]string{notYetValid: "certificate not yet valid", expired: "certificate has expired", otherReason: v.text}[v.reason]
	if text == "" {
		return ""
	}
	if v.depth > 0 {
		role = "CA"
	}
	return role + " certificate verification failed for " + peer + ": " + text
}

func (v *Verifier) limit() int { return v.Depth + 1 }

// Verify judges a chain as it came from the peer, its own certificate first.
// No certificate is not trusted and has no message.
func (v *Verifier) Verify(chain []*x509.Certificate, now time.Time) Verdict {
	if len(chain) == 0 {
		return Verdict{reason: noCertificate}
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{v.Usage}}
	if v.Roots != nil {
		opts.Roots = v.Roots.pool
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	found, err := chain[0].Verify(opts)
	if err != nil {
		path, anchored := v.path(chain)
		verdict := v.classify(path, anchored, now, err)
		verdict.Path = path
		return verdict
	}
	for _, f := range found {
		if len(f)-2 <= v.limit() {
			return Verdict{Path: f}
		}
	}
	return Verdict{reason: tooLong, limit: v.limit(), Path: found[0]}
}

// classify finds the log's words for why a chain did not verify: it follows
// the chain upwards to the first certificate with something wrong, as OpenSSL
// reports it: first that the chain has no known end, then times, then usage.
func (v *Verifier) classify(path []*x509.Certificate, anchored bool, now time.Time, err error) Verdict {
	top := path[len(path)-1]
	switch {
	case !anchored && isSelfSigned(top) && len(path) == 1:
		return Verdict{reason: selfSigned}
	case !anchored:
		return Verdict{reason: unknownIssuer, depth: len(path) - 1, text: DistinguishedName(top.Issuer)}
	case len(path)-2 > v.limit():
		return Verdict{reason: tooLong, limit: v.limit()}
	}
	for depth := len(path) - 1; depth >= 0; depth-- {
		switch c := path[depth]; {
		case now.Before(c.NotBefore):
			return Verdict{reason: notYetValid, depth: depth}
		case now.After(c.NotAfter):
			return Verdict{reason: expired, depth: depth}
		}
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		switch invalid.Reason {
		case x509.IncompatibleUsage:
			return Verdict{reason: wrongUsage}
		case x509.TooManyIntermediates:
			return Verdict{reason: tooLong, limit: v.limit()}
		}
	}
	return Verdict{reason: otherReason, text: err.Error()}
}

// maxPath bounds the search for a chain; loops end there.
const maxPath = 100

// path follows issuers through what the peer sent and the trust anchors;
// anchored tells that it ends at one of these.
func (v *Verifier) path(chain []*x509.Certificate) (path []*x509.Certificate, anchored bool) {
	path = chain[:1:1]
	for len(path) < maxPath {
		c := path[len(path)-1]
		if v.Roots.has(c) {
			return path, true
		}
		if isSelfSigned(c) {
			return path, false
		}
		next := issuerOf(c, v.Roots.all())
		if next == nil {
			next = issuerOf(c, chain[1:])
		}
		if next == nil {
			return path, false
		}
		path = append(path, next)
	}
	return path, false
}

// maxNamesakes bounds the certificates of one name that are tried as the issuer
// of another: a peer may send hundreds, and a signature can take a millisecond.
const maxNamesakes = 16

func issuerOf(c *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	namesakes := 0
	for _, p := range among {
		if !bytes.Equal(p.RawSubject, c.RawIssuer) {
			continue
		}
		if p.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return p
		}
		if namesakes++; namesakes == maxNamesakes {
			return nil
		}
	}
	return nil
}

func isSelfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// Roots are trust anchors.
type Roots struct {
	pool  *x509.CertPool
	certs []*x509.Certificate
	told  int // so many of certs are of the CAfile, whose names clients are told
}

// NewRoots makes a set of trust anchors of certificates.
func NewRoots(certs ...*x509.Certificate) *Roots {
	r := &Roots{pool: x509.NewCertPool()}
	for _, c := range certs {
		r.add(c)
	}
	return r
}

func (r *Roots) add(c *x509.Certificate) {
	if !r.has(c) {
		r.pool.AddCert(c)
		r.certs = append(r.certs, c)
	}
}

func (r *Roots) all() []*x509.Certificate {
	if r == nil {
		return nil
	}
	return r.certs
}

func (r *Roots) has(c *x509.Certificate) bool {
	for _, x := range r.all() {
		if x.Equal(c) {
			return true
		}
	}
	return false
}

// WithIssuers adds the issuers that are among the trust anchors to a certificate
// that came without a chain of its own, up to the root: OpenSSL sends such a
// chain, so that a CAfile with the intermediate certificates is enough.
func (r *Roots) WithIssuers(c tls.Certificate) tls.Certificate {
	if len(c.Certificate) != 1 || c.Leaf == nil {
		return c
	}
	c.Certificate = slices.Clone(c.Certificate)
	for last := c.Leaf; !isSelfSigned(last) && len(c.Certificate) < maxPath; {
		if last = issuerOf(last, r.all()); last == nil {
			break
		}
		c.Certificate = append(c.Certificate, last.Raw)
	}
	return c
}
