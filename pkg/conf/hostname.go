package conf

import (
	"errors"
	"strconv"
)

// CheckHostname says what is wrong with a host or domain name, in the words of
// Postfix's warning "valid_hostname: REASON: NAME", or returns nil.
func CheckHostname(name string) error {
	bad := func(reason string) error { return errors.New("valid_hostname: " + reason + ": " + name) }
	if name == "" {
		return bad("empty hostname")
	}
	label, numeric := 0, true
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
			if label++; label > 63 {
				return bad("hostname label too long")
			}
			if c > '9' {
				numeric = false
			}
		case c == '.':
			if label == 0 || i+1 == len(name) {
				return bad("misplaced delimiter")
			}
			label = 0
		case c == '-':
			numeric = false
			if label++; label == 1 || i+1 == len(name) || name[i+1] == '.' {
				return bad("misplaced hyphen")
			}
		default:
			return bad("invalid character " + strconv.Itoa(int(c)) + "(decimal)")
		}
	}
	switch {
	case numeric:
		return bad("numeric hostname")
	case len(name) > 255:
		return bad("bad length " + strconv.Itoa(len(name)) + " for")
	}
	return nil
}
