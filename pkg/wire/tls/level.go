// Package mailtls is what the mail system's TLS clients and servers share: the
// words of main.cf (levels, protocol lists, cipher grades, log levels), loading
// of certificates and trust anchors, digests and names of certificates, the
// verdict about a peer's chain, and the log's one-line summary of a session
// (spec smtpd.md §7, delivery.md §2.11). It speaks no SMTP, opens no
// connection and logs nothing itself: trouble is an error or goes to the
// function the caller gave.
//
// TLS is Go's crypto/tls, words are OpenSSL's: administrators have read
// "ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits)" in their logs for decades. What
// differs for this reason: crypto/tls orders cipher suites and curves itself,
// has no finite-field Diffie-Hellman and no DSA, no X448 and no Ed448, and its
// TLS 1.3 suites cannot be chosen.
package mailtls

import (
	"fmt"
	"strings"
)

// Level is a TLS security level; the order is that of delivery.md §2.11.
type Level int

const (
	LevelInvalid     Level = iota - 1
	LevelNone              // no TLS
	LevelMay               // opportunistic
	LevelEncrypt           // TLS or nothing
	LevelFingerprint       // a certificate or key that is known by its digest
	LevelHalfDane          // DANE by way of an insecure MX record; no configuration has it
	LevelDane
	LevelDaneOnly
	LevelVerify // a trusted chain and a name
	LevelSecure // the same, by names that DNS has no say in
)

var levelNames = [...]string{"none", "may", "encrypt", "fingerprint", "half-dane", "dane", "dane-only", "verify", "secure"}

// ParseLevel reads a level of a configuration, in any case of letters.
func ParseLevel(word string) (Level, error) {
	for i, name := range levelNames {
		if Level(i) != LevelHalfDane && strings.EqualFold(name, word) {
			return Level(i), nil
		}
	}
	return LevelInvalid, fmt.Errorf("Invalid TLS level \"%s\"", word)
}

func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return "invalid"
	}
	return levelNames[l]
}

// Mandatory reports whether the level needs TLS.
func (l Level) Mandatory() bool { return l > LevelMay }

// MustMatch reports whether the level needs a matching certificate.
func (l Level) MustMatch() bool { return l > LevelEncrypt }

// IsDANE reports whether the level asks for TLSA records.
func (l Level) IsDANE() bool { return l >= LevelHalfDane && l <= LevelDaneOnly }

// Satisfied reports whether a certificate so trusted is good enough.
func (l Level) Satisfied(trust Trust) bool {
	return !l.MustMatch() || trust == Verified || l == LevelHalfDane && trust == Trusted
}

// LogMask says what is logged about TLS.
type LogMask uint

const (
	LogSummary   LogMask = 1 << iota // one line a handshake
	LogUntrusted                     // why a peer is not trusted; no number includes it
	LogPeerCert                      // the names and digests of the peer's certificate
	LogCertMatch                     // which name or digest matched
	LogVerbose
	LogCache
	LogDANE
	LogDebug           // the steps of the handshake
	LogHandshakePacket // hexadecimal dumps
	LogSessionPacket
)

const (
	logRoutine   = LogSummary
	logDebug     = LogSummary | LogPeerCert | LogCertMatch | LogVerbose | LogCache | LogDANE
	logExpert    = logDebug | LogDebug | LogHandshakePacket
	logDeveloper = logExpert | LogSessionPacket
)

var logWords = []struct {
	name string
	mask LogMask
}{
	{"none", 0}, {"0", 0}, {"routine", logRoutine}, {"1", logRoutine}, {"debug", logDebug}, {"2", logDebug},
	{"ssl-expert", logExpert}, {"3", logExpert}, {"ssl-developer", logDeveloper}, {"4", logDeveloper},
	{"summary", LogSummary}, {"untrusted", LogUntrusted}, {"peercert", LogPeerCert}, {"certmatch", LogCertMatch},
	{"verbose", LogVerbose}, {"cache", LogCache}, {"dane", LogDANE}, {"ssl-debug", LogDebug},
	{"ssl-handshake-packet-dump", LogHandshakePacket}, {"ssl-session-packet-dump", LogSessionPacket},
}

// ParseLogLevel reads a *_tls_loglevel: numbers and words, separated by white
// space or comma; numbers above 4 mean 4. param is the parameter's name, for
// the error, which names the first word that means nothing; it is no more than
// a warning, and nothing is logged then.
func ParseLogLevel(param, text string) (mask LogMask, err error) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		bits, known := logWord(word)
		if !known {
			return 0, fmt.Errorf("unknown %s value \"%s\" in \"%s\"", param, word, text)
		}
		mask |= bits
	}
	return mask, nil
}

func logWord(word string) (LogMask, bool) {
	for _, w := range logWords {
		if strings.EqualFold(w.name, word) {
			return w.mask, true
		}
	}
	if strings.Trim(word, "0123456789") == "" {
		return logDeveloper, true
	}
	return 0, false
}

// Has reports whether one of the bits is set.
func (m LogMask) Has(bits LogMask) bool { return m&bits != 0 }
