package dns

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// CheckHostname reports what is wrong with name as a host name: letters,
// digits, "-", "_", labels of 1 to 63, 255 in all, and not a number (spec
// smtpd.md §2.3). The error's text is what Postfix logs.
func CheckHostname(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("valid_hostname: empty hostname")
	case len(name) > 255:
		return fmt.Errorf("valid_hostname: bad length %d for %.100s...", len(name), name)
	}
	numeric, label := true, 0
	for i := 0; i < len(name); i++ {
		switch ch := name[i]; {
		case isAlnum(ch) || ch == '_':
			numeric = numeric && ch >= '0' && ch <= '9'
			if label++; label > 63 {
				return fmt.Errorf("valid_hostname: hostname label too long: %.100s", name)
			}
		case ch == '.':
			if label == 0 || i == len(name)-1 {
				return fmt.Errorf("valid_hostname: misplaced delimiter: %.100s", name)
			}
			label = 0
		case ch == '-':
			numeric = false
			label++
			if label == 1 || i == len(name)-1 || name[i+1] == '.' {
				return fmt.Errorf("valid_hostname: misplaced hyphen: %.100s", name)
			}
		default:
			return fmt.Errorf("valid_hostname: invalid character %d(decimal): %.100s", ch, name)
		}
	}
	if numeric {
		return fmt.Errorf("valid_hostname: numeric hostname: %.100s", name)
	}
	return nil
}

// ValidHostname reports whether name is a host name.
func ValidHostname(name string) bool { return CheckHostname(name) == nil }

func isAlnum(ch byte) bool {
	return ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9'
}

// ParseAddr reads an IPv4 or IPv6 address as mail programs accept it: dotted
// quad (octets may have leading zeros; the first is 0 only in 0.0.0.0) or
// IPv6 without zone.
func ParseAddr(s string) (netip.Addr, bool) {
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(s)
		return a, err == nil && a.Zone() == ""
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return netip.Addr{}, false
	}
	var b [4]byte
	for i, p := range parts {
		n := 0
		if p == "" || len(p) > 3 {
			return netip.Addr{}, false
		}
		for _, ch := range []byte(p) {
			if ch < '0' || ch > '9' {
				return netip.Addr{}, false
			}
			n = n*10 + int(ch-'0')
		}
		if n > 255 {
			return netip.Addr{}, false
		}
		b[i] = byte(n)
	}
	a := netip.AddrFrom4(b)
	return a, b[0] != 0 || a.IsUnspecified()
}

// ParseLiteral reads what stands between the brackets of an address literal:
// an IPv4 address, or an IPv6 address after "IPv6:" (any case).
func ParseLiteral(s string) (netip.Addr, bool) {
	if len(s) > 5 && strings.EqualFold(s[:5], "ipv6:") {
		a, ok := ParseAddr(s[5:])
		return a, ok && a.Is6()
	}
	a, ok := ParseAddr(s)
	return a, ok && a.Is4()
}

// ASCII returns the name with its non-ASCII labels as A-labels; ok is false
// when it cannot be converted.
func ASCII(name string) (ascii string, ok bool) {
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(name)
			return a, err == nil
		}
	}
	return name, true
}
