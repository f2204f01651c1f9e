package smtpd

import "strconv"

// tlsMacro is the value of a macro about the session's encryption.
func (s *session) tlsMacro(name string) (string, bool) {
	if s.tls == nil {
		return "", false
	}
	switch name {
	case "{tls_version}":
		return s.tls.protocol, true
	case "{cipher}":
		return s.tls.cipher, true
	case "{cipher_bits}":
		return strconv.Itoa(s.tls.bits), true
	}
	return "", false
}
