package smtpd

// tlsFacts is what policy servers, milters and restrictions are told about the
// TLS of a session (spec §4.11). Names are as in the certificate, not yet
// encoded for any protocol; they are empty without a client certificate.
type tlsFacts struct {
	Protocol, Cipher  string // "TLSv1.3", OpenSSL's name of the cipher
	Bits              int    // of the cipher
	Trusted           bool   // the client's certificate leads to one of our CAs
	Subject, Issuer   string // common names
	CertFingerprint   string // by smtpd_tls_fingerprint_digest
	PubkeyFingerprint string
}

// tlsFacts returns the facts of the session's TLS; ok is false without TLS.
func (s *session) tlsFacts() (facts tlsFacts, ok bool) {
	t := s.tls
	if t == nil {
		return tlsFacts{}, false
	}
	return tlsFacts{
		Protocol: t.Protocol, Cipher: t.Cipher, Bits: t.UseBits, Trusted: t.Trusted,
		Subject: t.Subject, Issuer: t.Issuer, CertFingerprint: t.Fingerprint, PubkeyFingerprint: t.KeyFingerprint,
	}, true
}
