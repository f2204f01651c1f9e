package mailtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
)

// Summary is what log lines and Received: headers tell about a session.
type Summary struct {
	Protocol         string // "TLSv1.3"
	Cipher           string // OpenSSL's name
	UseBits, AlgBits int

	// The rest is for TLS 1.3 only, as older suites have it in their name.
	Exchange      string // "X25519", "ECDHE", "X25519MLKEM768"
	ExchangeCurve string // "P-256"
	Server        Signature
	Client        Signature // empty: no certificate was used
}

// Signature is how one side proved that it has its key. The zero value is
// none, or not known.
type Signature struct {
	Name   string // "RSA-PSS", "ECDSA", "ED25519"
	Curve  string // of an elliptic key: "P-256"
	Bits   int    // of an RSA key
	Digest string // "SHA256"; "" for ED25519
}

func (g Signature) text(side string) string {
	if g.Name == "" {
		return ""
	}
	out := side + "-signature " + g.Name
	switch {
	case g.Curve != "":
		out += " (" + g.Curve + ")"
	case g.Bits > 0:
		out += fmt.Sprintf(" (%d bits)", g.Bits)
	}
	if g.Digest != "" {
		out += " " + side + "-digest " + g.Digest
	}
	return out
}

func (s Summary) exchange() string {
	if s.Exchange == "" {
		return ""
	}
	out := "key-exchange " + s.Exchange
	if s.ExchangeCurve != "" {
		out += " (" + s.ExchangeCurve + ")"
	}
	return out
}

func (s Summary) cipher() string {
	return fmt.Sprintf("%s with cipher %s (%d/%d bits)", s.Protocol, s.Cipher, s.UseBits, s.AlgBits)
}

// String is the part of the log line after the peer's name: "TLSv1.3 with
// cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519
// server-signature ...".
func (s Summary) String() string {
	out := s.cipher()
	for _, part := range []string{s.exchange(), s.Server.text("server"), s.Client.text("client")} {
		if part != "" {
			out += " " + part
		}
	}
	return out
}

// HeaderLines are the lines of a Received: header about the session without
// the white space they are folded with: "(using TLSv1.3 ...)", one to three of
// them (smtpd.md §6.2).
func (s Summary) HeaderLines() []string {
	lines := []string{"(using " + s.cipher()}
	second := s.exchange()
	if server := s.Server.text("server"); second != "" && server != "" {
		second += " " + server
	} else {
		second += server
	}
	for _, part := range []string{second, s.Client.text("client")} {
		if part != "" {
			lines = append(lines, part)
		}
	}
	lines[len(lines)-1] += ")"
	return lines
}

// Trust is the first word of the log line.
type Trust string

// The words in ascending order of trust.
const (
	Anonymous Trust = "Anonymous" // the peer showed no certificate
	Untrusted Trust = "Untrusted" // no valid chain
	Trusted   Trust = "Trusted"   // a valid chain
	Verified  Trust = "Verified"  // and the required name or digest
)

// Line is the whole log line: trust, what happened ("established from",
// "established to", "reused to"), the peer, and for a server the name the
// client asked for ("" is none).
func (s Summary) Line(trust Trust, what, peer, sni string) string {
	if sni != "" {
		peer += " to " + sni
	}
	return fmt.Sprintf("%s TLS connection %s %s: %s", trust, what, peer, s)
}

// Side is a side of a connection.
type Side int

const (
	ServerSide Side = iota
	ClientSide
)

// Describe makes the summary of a connection on whose given side we are.
//
// crypto/tls does not tell with which algorithm the two sides signed. Our own
// signature is exact when the certificate was wrapped by a Recorder. The
// peer's is derived: RSA keys sign with RSA-PSS and SHA-256, the first scheme
// that crypto/tls offers and the first choice of OpenSSL; an elliptic key
// signs, in TLS 1.3, with the digest that belongs to its curve. When a session
// was resumed nothing is signed, and only key exchange and cipher are told.
func Describe(state *tls.ConnectionState, side Side, own *Recorder) Summary {
	s := Summary{Protocol: VersionName(state.Version)}
	s.Cipher, s.UseBits, s.AlgBits = suiteInfo(state.CipherSuite)
	if state.Version < tls.VersionTLS13 {
		return s
	}
	s.Exchange, s.ExchangeCurve = exchangeName(state.CurveID)
	if state.DidResume {
		return s
	}
	mine, theirs := &s.Server, &s.Client
	if side == ClientSide {
		mine, theirs = theirs, mine
	}
	if own != nil {
		*mine = own.Signature()
	}
	if len(state.PeerCertificates) > 0 {
		*theirs = keySignature(state.PeerCertificates[0])
	}
	return s
}

// curveNames are the NIST curves as OpenSSL 3 shows them.
var curveNames = map[tls.CurveID]string{tls.CurveP256: "P-256", tls.CurveP384: "P-384", tls.CurveP521: "P-521"}

func exchangeName(id tls.CurveID) (name, curve string) {
	if curve, ok := curveNames[id]; ok {
		return "ECDHE", curve
	}
	if id == 0 {
		return "", ""
	}
	return id.String(), ""
}

// ecCurves are the names of elliptic curves in OpenSSL's words and the digest
// with which TLS 1.3 uses them.
var ecCurves = map[string]struct{ name, digest string }{
	"P-224": {"secp224r1", "SHA224"}, "P-256": {"prime256v1", "SHA256"},
	"P-384": {"secp384r1", "SHA384"}, "P-521": {"secp521r1", "SHA512"},
}

func keySignature(leaf *x509.Certificate) Signature {
	return describeSignature(leaf.PublicKey, crypto.SHA256, leaf.PublicKeyAlgorithm == x509.RSA)
}

// describeSignature names a signature made with a key; the digest of an
// elliptic key follows from its curve if hash is 0.
func describeSignature(key crypto.PublicKey, hash crypto.Hash, pss bool) Signature {
	digest := strings.ReplaceAll(hash.String(), "-", "")
	switch key := key.(type) {
	case *rsa.PublicKey:
		name := "RSA"
		if pss {
			name = "RSA-PSS"
		}
		return Signature{Name: name, Bits: key.N.BitLen(), Digest: digest}
	case *ecdsa.PublicKey:
		c := ecCurves[key.Curve.Params().Name]
		return Signature{Name: "ECDSA", Curve: c.name, Digest: c.digest}
	case ed25519.PublicKey:
		return Signature{Name: "ED25519"}
	}
	return Signature{}
}
