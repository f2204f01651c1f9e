package smtpd

import "strconv"

// tlsMacro is the value of a macro about the session's encryption. The names
// in a certificate are told only if it can be trusted.
func (s *session) tlsMacro(name string) (string, bool) {
	facts, ok := s.tlsFacts()
	if !ok {
		return "", false
	}
	switch name {
	case "{tls_version}":
		return facts.Protocol, true
	case "{cipher}":
		return facts.Cipher, true
	case "{cipher_bits}":
		return strconv.Itoa(facts.Bits), true
	case "{cert_subject}":
		return facts.Subject, facts.Trusted
	case "{cert_issuer}":
		return facts.Issuer, facts.Trusted
	}
	return "", false
}
