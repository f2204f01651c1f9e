package mailtls

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// suite is a cipher suite of crypto/tls in OpenSSL's words. RC4 and triple DES
// are not among them: OpenSSL as Debian builds it has not had them for years.
type suite struct {
	id       uint16
	name     string
	exchange string // kRSA, kECDHE
	auth     string // aRSA, aECDSA
	cipher   string // AES128, AES256, AESGCM with 128 or 256, CHACHA20
	mac      string // SHA1, SHA256, SHA384, AEAD
	bits     int
	version  string // the oldest protocol that has it
}

// suites in the order of OpenSSL's list "HIGH".
var suites = [...]suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", "kECDHE", "aECDSA", "AESGCM", "AEAD", 256, "TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", "kECDHE", "aRSA", "AESGCM", "AEAD", 256, "TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", "kECDHE", "aECDSA", "CHACHA20", "AEAD", 256, "TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", "kECDHE", "aRSA", "CHACHA20", "AEAD", 256, "TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", "kECDHE", "aECDSA", "AES", "SHA1", 256, "TLSv1"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", "kECDHE", "aRSA", "AES", "SHA1", 256, "TLSv1"},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384", "kRSA", "aRSA", "AESGCM", "AEAD", 256, "TLSv1.2"},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA", "kRSA", "aRSA", "AES", "SHA1", 256, "SSLv3"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", "kECDHE", "aECDSA", "AESGCM", "AEAD", 128, "TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", "kECDHE", "aRSA", "AESGCM", "AEAD", 128, "TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, "ECDHE-ECDSA-AES128-SHA256", "kECDHE", "aECDSA", "AES", "SHA256", 128, "TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, "ECDHE-RSA-AES128-SHA256", "kECDHE", "aRSA", "AES", "SHA256", 128, "TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", "kECDHE", "aECDSA", "AES", "SHA1", 128, "TLSv1"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", "kECDHE", "aRSA", "AES", "SHA1", 128, "TLSv1"},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256", "kRSA", "aRSA", "AESGCM", "AEAD", 128, "TLSv1.2"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA256, "AES128-SHA256", "kRSA", "aRSA", "AES", "SHA256", 128, "TLSv1.2"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA", "kRSA", "aRSA", "AES", "SHA1", 128, "SSLv3"},
}

// suites13 are those of TLS 1.3, which no list chooses.
var suites13 = [...]suite{
	{id: tls.TLS_AES_128_GCM_SHA256, name: "TLS_AES_128_GCM_SHA256", bits: 128},
	{id: tls.TLS_AES_256_GCM_SHA384, name: "TLS_AES_256_GCM_SHA384", bits: 256},
	{id: tls.TLS_CHACHA20_POLY1305_SHA256, name: "TLS_CHACHA20_POLY1305_SHA256", bits: 256},
}

func suiteInfo(id uint16) (name string, use, alg int) {
	for _, list := range [][]suite{suites[:], suites13[:]} {
		for _, s := range list {
			if s.id == id {
				return s.name, s.bits, s.bits
			}
		}
	}
	return tls.CipherSuiteName(id), 0, 0
}

// CipherName is a suite in OpenSSL's words.
func CipherName(id uint16) string {
	name, _, _ := suiteInfo(id)
	return name
}

// Grades are the cipher lists of main.cf, in OpenSSL's syntax.
type Grades struct {
	High, Medium, Low, Export, Null string // tls_high_cipherlist, ...
}

// List makes the cipher list of a grade, less the exclusions (words separated
// by white space, comma or colon in each string). Errors are worded as the
// original's warnings, after "PEER: ": `invalid cipher grade: "X"`, `invalid
// unary '!+-@' in cipher exclusion: X`.
func (g Grades) List(grade string, exclusions ...string) (string, error) {
	lists := []struct{ name, list string }{{"high", g.High}, {"medium", g.Medium}, {"low", g.Low}, {"export", g.Export}, {"null", g.Null}}
	i := slices.IndexFunc(lists, func(l struct{ name, list string }) bool { return strings.EqualFold(l.name, grade) })
	if i < 0 {
		return "", fmt.Errorf("invalid cipher grade: \"%s\"", grade)
	}
	out := lists[i].list
	for _, words := range exclusions {
		for _, word := range strings.FieldsFunc(words, func(r rune) bool { return strings.ContainsRune(", \t\r\n:", r) }) {
			if strings.ContainsRune("!+-@", rune(word[0])) {
				return "", fmt.Errorf("invalid unary '!+-@' in cipher exclusion: %s", word)
			}
			out += ":!" + word
		}
	}
	return out, nil
}

// Suites evaluates a cipher list (the language of openssl-ciphers(1)) over the
// suites that crypto/tls has below TLS 1.3, for tls.Config's CipherSuites. The
// result may be empty; nil is never returned, as nil means "default" there.
// Words that stand for nothing crypto/tls has select nothing.
func Suites(list string) []uint16 {
	var chosen []suite
	killed := map[uint16]bool{}
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":, ;\t\r\n", r) }) {
		op := byte(0)
		if strings.IndexByte("!-+@", word[0]) >= 0 {
			op, word = word[0], word[1:]
		}
		if op == '@' {
			if strings.EqualFold(word, "STRENGTH") {
				slices.SortStableFunc(chosen, func(a, b suite) int { return b.bits - a.bits })
			}
			continue
		}
		matches := func(s suite) bool { return s.matches(word) }
		var moved []suite
		for _, s := range chosen {
			if matches(s) {
				moved = append(moved, s)
			}
		}
		switch op {
		case '!', '-':
			chosen = slices.DeleteFunc(chosen, matches)
			for _, s := range suites {
				killed[s.id] = killed[s.id] || op == '!' && matches(s)
			}
		case '+':
			chosen = append(slices.DeleteFunc(chosen, matches), moved...)
		default:
			for _, s := range suites {
				if matches(s) && !killed[s.id] && !slices.Contains(chosen, s) {
					chosen = append(chosen, s)
				}
			}
		}
	}
	out := []uint16{}
	for _, s := range chosen {
		out = append(out, s.id)
	}
	return out
}

// matches evaluates one word of a list: names of algorithms joined by "+", or
// the name of a suite.
func (s suite) matches(word string) bool {
	for _, part := range strings.Split(word, "+") {
		if !s.has(part) {
			return false
		}
	}
	return word != ""
}

// aliases are the words that mean several algorithms, or the same by another
// name.
var aliases = map[string][]string{
	"ALL": {"kECDHE", "kRSA"}, "DEFAULT": {"kECDHE", "kRSA"}, "COMPLEMENTOFDEFAULT": {}, "HIGH": {"kECDHE", "kRSA"},
	"ECDHE": {"kECDHE"}, "EECDH": {"kECDHE"}, "kEECDH": {"kECDHE"}, "ECDH": {"kECDHE"}, "RSA": {"kRSA"},
	"ECDSA": {"aECDSA"}, "SHA": {"SHA1"}, "FIPS": {"AES", "AESGCM"},
}

func (s suite) has(word string) bool {
	if word == s.name || word == s.exchange || word == s.auth || word == s.version || s.mac == word && word != "AEAD" {
		return true
	}
	switch word {
	case "AES":
		return s.cipher == "AES" || s.cipher == "AESGCM"
	case "AES128", "AES256":
		return s.cipher != "CHACHA20" && s.bits == map[string]int{"AES128": 128, "AES256": 256}[word]
	case "AESGCM", "CHACHA20":
		return s.cipher == word
	case "TLSv1.0":
		return s.version == "TLSv1"
	case "RSA": // key exchange or authentication, as OpenSSL has it: both
		return s.exchange == "kRSA"
	}
	for _, a := range aliases[word] {
		if a == s.exchange || a == s.auth || a == s.mac || a == s.cipher {
			return true
		}
	}
	return false
}

// Curves reads a list of curves in OpenSSL's words (tls_eecdh_auto_curves),
// for tls.Config's CurvePreferences; names that crypto/tls does not have are
// left out. The result is empty if it has none of them.
func Curves(list string) []tls.CurveID {
	names := map[string]tls.CurveID{"x25519": tls.X25519, "prime256v1": tls.CurveP256, "p-256": tls.CurveP256, "secp256r1": tls.CurveP256,
		"secp384r1": tls.CurveP384, "p-384": tls.CurveP384, "secp521r1": tls.CurveP521, "p-521": tls.CurveP521, "x25519mlkem768": tls.X25519MLKEM768}
	var out []tls.CurveID
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":, \t\r\n", r) }) {
		if id, ok := names[strings.ToLower(word)]; ok && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
