package mailtls

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// version is a protocol version of the lists. Only those with built are
// spoken by crypto/tls; the others have a name so that they can be excluded.
type version struct {
	name  string
	id    uint16
	built bool
}

// versions in ascending order.
var versions = [...]version{
	{"SSLv2", 0x0002, false}, {"SSLv3", 0x0300, false},
	{"TLSv1", tls.VersionTLS10, true}, {"TLSv1.1", tls.VersionTLS11, true},
	{"TLSv1.2", tls.VersionTLS12, true}, {"TLSv1.3", tls.VersionTLS13, true},
}

// VersionName is a protocol version in OpenSSL's words, "TLSv1" to "TLSv1.3".
func VersionName(id uint16) string {
	for _, v := range versions {
		if v.id == id {
			return v.name
		}
	}
	return fmt.Sprintf("unknown (0x%04x)", id)
}

// Protocols is a set of TLS versions in ascending order.
type Protocols []uint16

// ParseProtocols reads a *_tls_protocols list (smtpd.md §7): elements are
// separated by comma, white space or colon; ">=V" and "<=V" bound the set with
// a name or a hexadecimal number (or "None"), "!NAME" takes a version out, and
// with bare names everything that is not named is out. An element that is none
// of these is an error, worded `Invalid TLS protocol list "LIST"`. The set may
// be empty: then no handshake can succeed, as with the original.
func ParseProtocols(list string) (Protocols, error) {
	bad := fmt.Errorf("Invalid TLS protocol list \"%s\"", list)
	var include, exclude []uint16
	low, high := uint16(0), uint16(0xffff)
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n:", r) }) {
		bound, ok := strings.CutPrefix(word, ">=")
		to := &low
		if !ok {
			bound, ok = strings.CutPrefix(word, "<=")
			to = &high
		}
		if ok {
			v, found := parseBound(bound)
			if !found {
				return nil, bad
			}
			if *to = v; v == 0 && to == &high {
				high = 0xffff
			}
			continue
		}
		name, out := strings.CutPrefix(word, "!")
		v, found := versionNamed(name)
		if !found {
			return nil, bad
		}
		if out {
			exclude = append(exclude, v)
		} else {
			include = append(include, v)
		}
	}
	set := Protocols{}
	for _, v := range versions {
		if v.built && v.id >= low && v.id <= high && (len(include) == 0 || slices.Contains(include, v.id)) && !slices.Contains(exclude, v.id) {
			set = append(set, v.id)
		}
	}
	return set, nil
}

func parseBound(text string) (uint16, bool) {
	if strings.EqualFold(text, "None") {
		return 0, true
	}
	if v, ok := versionNamed(text); ok && v != 0x0002 { // SSLv2 cannot be a bound
		return v, true
	}
	if len(text) > 2 && (strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0X")) {
		n, err := strconv.ParseUint(text[2:], 16, 16)
		return uint16(n), err == nil
	}
	return 0, false
}

func versionNamed(name string) (uint16, bool) {
	for _, v := range versions {
		if strings.EqualFold(v.name, name) {
			return v.id, true
		}
	}
	return 0, false
}

// Range is what a client can offer: the highest run of versions without a
// hole, for tls.Config's MinVersion and MaxVersion. ok is false when the set
// is empty. (A TLS client announces bounds, not sets; OpenSSL does the same.)
func (p Protocols) Range() (low, high uint16, ok bool) {
	if len(p) == 0 {
		return 0, 0, false
	}
	low, high = p[len(p)-1], p[len(p)-1]
	for i := len(p) - 2; i >= 0 && p[i] == low-1; i-- {
		low = p[i]
	}
	return low, high, true
}

// Choose is the highest version of the set that a client supports, 0 if none:
// what a server takes.
func (p Protocols) Choose(offered []uint16) uint16 {
	for i := len(p) - 1; i >= 0; i-- {
		if slices.Contains(offered, p[i]) {
			return p[i]
		}
	}
	return 0
}
