package mailtls

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/wire/dns"
)

// Judge compares a server's certificate with what a client wants of it
// (delivery.md §2.11).
type Judge struct {
	Level     Level
	Match     []string // names, or digests at level fingerprint
	Wildcards bool     // tls_wildcard_matches_multiple_labels
	Digest    Digest
	Roots     *Roots
	Anchors   *Anchors // the only ones to trust, if there are any
	Depth     int
	// TLSA are, at the levels of DANE, all there is to trust; at others they are
	// Anchors that came as records, from a program that has TLS done for it.
	TLSA    []TLSA
	Digests TLSADigests
}

// Judgement is the outcome.
type Judgement struct {
	Trust   Trust
	Matched string // the name or digest by which the certificate is the right one
	Name    string // what the log calls the certificate's subject
	ByTLSA  string // for the log: the TLSA record by which it is
	Problem string // for the log: what is wrong; "" is nothing
	Trace   []string
}

const certFailed = "server certificate verification failed for "

// Verdict judges a chain, the server's own certificate first. peer is the
// server's name in log lines.
func (j *Judge) Verdict(chain []*x509.Certificate, peer string, now time.Time) Judgement {
	if len(chain) == 0 {
		return Judgement{Trust: Anonymous}
	}
	if j.Level == LevelFingerprint {
		out := j.fingerprint(chain[0], peer)
		out.Name = SubjectCN(chain[0])
		return out
	}
	if j.Level.IsDANE() {
		return j.dane(chain, peer, now)
	}
	out, named := Judgement{Trust: Untrusted, Name: SubjectCN(chain[0])}, true
	if j.Level.MustMatch() {
		out.Matched, _, named = MatchNames(chain[0], j.Match, j.Wildcards)
		out.Name = nameOf(chain[0], j.Match, j.Wildcards)
	}
	anchors := j.Anchors
	if len(j.TLSA) > 0 {
		if _, ok := StandardDigests().own(j.TLSA, chain[0]); ok {
			return Judgement{Trust: Verified, Name: CommonName(chain[0])}
		}
		if anchors = anchorsOf(j.TLSA, chain); anchors.Empty() {
			out.Problem = certFailed + peer + ": " + NoTLSA
			return out
		}
	}
	var v Verdict
	if anchors.Empty() {
		v = (&Verifier{Roots: j.Roots, Depth: j.Depth, Usage: x509.ExtKeyUsageServerAuth}).Verify(chain, now)
	} else {
		v = anchors.Verify(chain, j.Depth, now)
	}
	out.Trace = v.Trace()
	switch {
	case !named && !v.WrongUsage():
		out.Problem = certFailed + peer + ": num=62:hostname mismatch"
	case !v.Trusted():
		out.Problem = v.Message("server", peer)
	case j.Level.MustMatch():
		out.Trust = Verified
		if !anchors.Empty() {
			out.ByTLSA = fmt.Sprintf("trust anchor at depth %d", max(len(v.Path)-1, 0))
		}
	default:
		out.Trust = Trusted
	}
	return out
}

// nameOf is what the log calls the subject of a certificate: its common name, or
// else the name that matches.
func nameOf(c *x509.Certificate, match []string, multi bool) string {
	if cn := SubjectCN(c); cn != "" {
		return cn
	}
	matched, _, _ := MatchNames(c, match, multi)
	return matched
}

func (j *Judge) fingerprint(c *x509.Certificate, peer string) Judgement {
	for _, want := range j.Match {
		if SameFingerprint(want, j.Digest.Cert(c)) || SameFingerprint(want, j.Digest.PublicKey(c)) {
			return Judgement{Trust: Verified, Matched: strings.ToUpper(strings.ReplaceAll(want, ":", ""))}
		}
	}
	for _, t := range j.TLSA {
		digest := map[int][]byte{0: c.Raw, 1: c.RawSubjectPublicKeyInfo}[t.Selector]
		if t.Usage == UsageEndEntity && t.MatchType == MatchPrivate && digest != nil && bytes.Equal(t.Data, j.Digest.Sum(digest)) {
			return Judgement{Trust: Verified, Matched: strings.ToUpper(hex.EncodeToString(t.Data))}
		}
	}
	return Judgement{Trust: Untrusted, Problem: certFailed + peer + ": " + NoTLSA}
}

// References turns the words of a match list (smtp_tls_secure_cert_match) into
// names: "nexthop", "dot-nexthop" and "hostname" are what they are called
// after, and all others are names, with a dot for what is below them.
func References(words []string, nexthop, host string) []string {
	var out []string
	for _, word := range words {
		name, dot := word, ""
		switch strings.ToLower(word) {
		case "nexthop":
			name = nexthop
		case "dot-nexthop":
			name, dot = nexthop, "."
		case "hostname":
			name = host
		default:
			if strings.HasPrefix(word, ".") {
				name, dot = word[1:], "."
			}
		}
		if ascii, ok := dns.ASCII(name); ok && ascii != "" {
			out = append(out, dot+ascii)
		}
	}
	return out
}
