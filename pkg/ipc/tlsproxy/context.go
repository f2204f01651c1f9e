package tlsproxy

import (
	"posthaste/pkg/ipc/attr"
	mailtls "posthaste/pkg/wire/tls"
)

// Bits of Context.Status.
const (
	CertPresent = 1 << iota
	NameFromAlternative
	CertTrusted
	CertMatched
	PolicySecured
)

// Context is what a handshake led to.
type Context struct {
	PeerCN, IssuerCN            string
	Fingerprint, KeyFingerprint string // of the peer's certificate
	Level                       mailtls.Level
	Status                      int
	mailtls.Summary
	NamAddr string
}

// fields are the attributes in order, for both directions.
func (c *Context) fields(level *int) []contextField {
	signature := func(side string, s *mailtls.Signature) []contextField {
		return []contextField{{side + "_signature", &s.Name, nil}, {side + "_signature_curve", &s.Curve, nil}, {side + "_signature_bits", nil, &s.Bits}, {side + "_signature_digest", &s.Digest, nil}}
	}
	noBits := new(int) // of the key exchange: for finite fields only
	out := []contextField{
		{"peer_CN", &c.PeerCN, nil}, {"issuer_CN", &c.IssuerCN, nil}, {"peer_fingerprint", &c.Fingerprint, nil}, {"peer_pubkey_fingerprint", &c.KeyFingerprint, nil},
		{"level", nil, level}, {"peer_status", nil, &c.Status}, {"cipher_protocol", &c.Protocol, nil}, {"cipher_name", &c.Cipher, nil},
		{"cipher_usebits", nil, &c.UseBits}, {"cipher_algbits", nil, &c.AlgBits}, {"key_exchange", &c.Exchange, nil}, {"key_exchange_curve", &c.ExchangeCurve, nil},
		{"key_exchange_bits", nil, noBits},
	}
	out = append(append(out, signature("clnt", &c.Client)...), signature("srvr", &c.Server)...)
	return append(out, contextField{"namaddr", &c.NamAddr, nil})
}

// contextField is an attribute that is a string or a number.
type contextField struct {
	name string
	str  *string
	num  *int
}

// Write sends the context.
func (c *Context) Write(out *attr.Writer) error {
	level := int(c.Level)
	for _, f := range c.fields(&level) {
		if f.str != nil {
			out.Str(f.name, *f.str)
		} else {
			out.Int(f.name, *f.num)
		}
	}
	return out.Send()
}

// ReadContext reads it.
func ReadContext(in *attr.Reader) (*Context, error) {
	c, level := &Context{}, 0
	var wanted []attr.Field
	for _, f := range c.fields(&level) {
		if f.str != nil {
			wanted = append(wanted, attr.Str(f.name, f.str))
		} else {
			wanted = append(wanted, attr.Int(f.name, f.num))
		}
	}
	err := in.Scan(wanted...)
	c.Level = mailtls.Level(level)
	return c, err
}
