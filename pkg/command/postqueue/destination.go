package postqueue

import (
	"net/netip"
	"strings"
)

// validDestination reports whether site is a host name, or an address in
// brackets.
func validDestination(site string) bool {
	if literal, ok := strings.CutPrefix(site, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		if !ok {
			return false
		}
		if v6, tagged := cutPrefixFold(literal, "ipv6:"); tagged {
			a, err := netip.ParseAddr(v6)
			return err == nil && a.Is6() && a.Zone() == ""
		}
		a, err := netip.ParseAddr(literal)
		return err == nil && a.Is4()
	}
	return validHostname(site)
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// validHostname allows letters, digits, '-' inside and '_' in labels of 1 to 63
// bytes, 255 in all, not only digits; bytes of UTF-8 pass.
func validHostname(name string) bool {
	if name == "" || len(name) > 255 || strings.Trim(name, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c >= 0x80) {
				return false
			}
		}
	}
	return true
}
