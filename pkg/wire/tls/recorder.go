package mailtls

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"
)

// Recorder learns how our side signed a handshake, which crypto/tls does not
// tell: it puts itself between the handshake and the private key. One Recorder
// belongs to one connection; it is used by one goroutine at a time.
type Recorder struct{ last Signature }

// Signature is the signature of the handshake, or none.
func (r *Recorder) Signature() Signature { return r.last }

// Wrap returns a certificate that signs as c does and tells the Recorder.
func (r *Recorder) Wrap(c tls.Certificate) tls.Certificate {
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return c
	}
	c.PrivateKey = recordingSigner{key, r}
	if d, ok := key.(crypto.Decrypter); ok { // RSA key exchange of TLS 1.2
		c.PrivateKey = recordingDecrypter{recordingSigner{key, r}, d}
	}
	return c
}

// WrapAll wraps each certificate.
func (r *Recorder) WrapAll(certs []tls.Certificate) []tls.Certificate {
	out := make([]tls.Certificate, len(certs))
	for i, c := range certs {
		out[i] = r.Wrap(c)
	}
	return out
}

type recordingSigner struct {
	crypto.Signer
	to *Recorder
}

func (s recordingSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, errors.New("no signature algorithm")
	}
	_, pss := opts.(*rsa.PSSOptions)
	s.to.last = describeSignature(s.Public(), opts.HashFunc(), pss)
	return s.Signer.Sign(rand, digest, opts)
}

type recordingDecrypter struct {
	recordingSigner
	decrypter crypto.Decrypter
}

func (d recordingDecrypter) Decrypt(rand io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return d.decrypter.Decrypt(rand, msg, opts)
}
