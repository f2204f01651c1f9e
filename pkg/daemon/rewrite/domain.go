package rewrite

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// maxHostName and maxLabel are the limits of RFC 1035 §2.3.4.
const (
	maxHostName = 255
	maxLabel    = 63
)

// validHost checks the syntax of a host name: letters, digits, '-' and '_', not all
// numeric. With utf8 other characters are allowed if the name has an ASCII form.
func validHost(name string, utf8 bool) bool {
	if name == "" || len(name) > maxHostName {
		return false
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			if !utf8 {
				return false
			}
			ascii, err := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false)).ToASCII(name)
			return err == nil && validHost(ascii, false)
		}
	}
	numeric := true
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			switch c := label[i]; {
			case '0' <= c && c <= '9':
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
				numeric = false
			default:
				return false
			}
		}
	}
	return !numeric
}

// bareIP reports whether a domain is an IP address without brackets, and gives the
// bracketed form.
func bareIP(domain string) (string, bool) {
	addr, err := netip.ParseAddr(domain)
	return "[" + domain + "]", err == nil && addr.Zone() == ""
}
