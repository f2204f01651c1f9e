package sasl

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"strings"
)

// directives are the name=value pairs of DIGEST-MD5, by lower-case name.
type directives map[string][]string

func (d directives) get(name string) string {
	if v := d[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

var errDigest = errors.New("Parse error")

// maxDirectives bounds the pairs of a message; RFC 2831 knows a dozen.
const maxDirectives = 64

// parseDigest understands a challenge or response of DIGEST-MD5 (RFC 2831
// §7.1).
func parseDigest(s string) (directives, error) {
	d := make(directives)
	for n := 0; ; n++ {
		s = strings.TrimLeft(s, " \t\r\n,")
		if s == "" {
			return d, nil
		}
		name, rest, ok := strings.Cut(s, "=")
		name = strings.TrimRight(name, " \t\r\n")
		if !ok || name == "" || strings.ContainsAny(name, " \t\r\n,\"\\") || n >= maxDirectives {
			return nil, errDigest
		}
		var value string
		if value, s, ok = digestValue(strings.TrimLeft(rest, " \t\r\n")); !ok {
			return nil, errDigest
		}
		name = strings.ToLower(name)
		d[name] = append(d[name], value)
	}
}

// digestValue takes a token or a quoted string off the front.
func digestValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, "\"") {
		value, rest, _ = strings.Cut(s, ",")
		value = strings.TrimRight(value, " \t\r\n")
		return value, rest, !strings.ContainsAny(value, " \t\r\n\"")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			b.WriteByte(s[i])
		case '"':
			rest = strings.TrimLeft(s[i+1:], " \t\r\n")
			return b.String(), rest, rest == "" || rest[0] == ','
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// quoteDigest makes a quoted string.
func quoteDigest(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// digestInput is what the digest is made of.
type digestInput struct {
	user, realm, password, nonce, cnonce, count, qop, uri, authzid string
}

// response is the client's proof, or the server's (RFC 2831 §2.1.2.1, §2.1.3).
func (in digestInput) response(client bool) string {
	secret := md5.Sum([]byte(latin(in.user) + ":" + latin(in.realm) + ":" + in.password))
	a1 := string(secret[:]) + ":" + in.nonce + ":" + in.cnonce
	if in.authzid != "" {
		a1 += ":" + in.authzid
	}
	a2 := ":" + in.uri
	if client {
		a2 = "AUTHENTICATE" + a2
	}
	return hash5(hash5(a1) + ":" + in.nonce + ":" + in.count + ":" + in.cnonce + ":" + in.qop + ":" + hash5(a2))
}

func hash5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// latin is a name in ISO 8859-1 if it fits (RFC 2831 §2.1.2.1).
func latin(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return s
		}
		b = append(b, byte(r))
	}
	return string(b)
}
