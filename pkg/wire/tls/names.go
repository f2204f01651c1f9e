package mailtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
)

// maxName bounds names taken from certificates, in bytes (a CN has at most 64
// characters, a host name 255).
const maxName = 1024

// first is the first attribute of that type in a distinguished name.
func first(name pkix.Name, oid asn1.ObjectIdentifier) string {
	for _, a := range name.Names {
		if text, ok := a.Value.(string); ok && a.Type.Equal(oid) && usable(text) {
			return text
		}
	}
	return ""
}

// usable refuses names that could deceive who reads or compares them: with a
// NUL or another control character, not UTF-8, or absurdly long.
func usable(name string) bool {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// SubjectCN is the first common name of a certificate's subject, "" if there is
// none: what a server calls its client.
func SubjectCN(c *x509.Certificate) string { return first(c.Subject, oidCommonName) }

// CommonName is SubjectCN, or else the first DNS name: what a client calls its
// server.
func CommonName(c *x509.Certificate) string {
	if cn := SubjectCN(c); cn != "" {
		return cn
	}
	if names := DNSNames(c); len(names) > 0 {
		return names[0]
	}
	return ""
}

// IssuerName is what a certificate's issuer is called: its first common name,
// or else its organization; "" if there is none.
func IssuerName(c *x509.Certificate) string {
	if cn := first(c.Issuer, oidCommonName); cn != "" {
		return cn
	}
	return first(c.Issuer, oidOrganization)
}

// DNSNames are the DNS names among a certificate's alternative names, without
// those that are not fit to be compared.
func DNSNames(c *x509.Certificate) []string {
	var out []string
	for _, n := range c.DNSNames {
		if n = strings.TrimSuffix(n, "."); usable(n) && !strings.Contains(n, " ") {
			out = append(out, n)
		}
	}
	return out
}

// MatchNames finds a reference name that a certificate is for (delivery.md
// §2.11): its DNS names, or its common name only if it has no DNS names.
// A reference ".example.com" stands for all names below example.com. A
// wildcard is a whole left-most label and stands for one label, or for any
// number with multi (tls_wildcard_matches_multiple_labels). All in A-label
// form. matched is the certificate's name.
func MatchNames(c *x509.Certificate, references []string, multi bool) (matched, reference string, ok bool) {
	names := DNSNames(c)
	if len(c.DNSNames) == 0 {
		if cn := first(c.Subject, oidCommonName); cn != "" {
			names = []string{cn}
		}
	}
	for _, name := range names {
		for _, ref := range references {
			if matchName(name, ref, multi) {
				return name, ref, true
			}
		}
	}
	return "", "", false
}

func matchName(name, ref string, multi bool) bool {
	name, ref = strings.ToLower(strings.TrimSuffix(name, ".")), strings.ToLower(strings.TrimSuffix(ref, "."))
	if name == "" || ref == "" || ref == "." {
		return false
	}
	if strings.HasPrefix(ref, ".") {
		return len(name) > len(ref) && strings.HasSuffix(name, ref)
	}
	domain, wild := strings.CutPrefix(name, "*.")
	if !wild {
		return name == ref
	}
	if domain == "" || strings.Contains(domain, "*") {
		return false
	}
	label, ok := strings.CutSuffix(ref, "."+domain)
	return ok && label != "" && (multi || !strings.Contains(label, "."))
}

// attributeNames are OpenSSL's short names of attribute types.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
	"2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.42": "GN",
	"1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// DistinguishedName is the one-line form of a name in OpenSSL's words,
// "/C=DE/O=Example/CN=mail.example". Characters outside printable ASCII are
// written \xHH.
func DistinguishedName(name pkix.Name) string {
	var b strings.Builder
	for _, a := range name.Names {
		kind, ok := attributeNames[a.Type.String()]
		if !ok {
			kind = a.Type.String()
		}
		text, ok := a.Value.(string)
		if !ok {
			text = fmt.Sprint(a.Value)
		}
		b.WriteString("/" + kind + "=")
		for i := 0; i < len(text) && i < maxName; i++ {
			if text[i] < ' ' || text[i] > '~' {
				b.WriteString("\\x" + strings.ToUpper(hex.EncodeToString([]byte{text[i]})))
			} else {
				b.WriteByte(text[i])
			}
		}
	}
	return b.String()
}
