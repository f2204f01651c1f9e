package dns

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAddrPattern(t *testing.T) {
	for _, c := range []struct{ pattern, yes, no string }{
		{"127.0.0.2", "127.0.0.2", "127.0.0.3 126.0.0.2"},
		{"127.0.0.[2;4..6]", "127.0.0.2 127.0.0.4 127.0.0.5 127.0.0.6", "127.0.0.3 127.0.0.7 127.0.0.1"},
		{"[126..127].[0].[0..255].[10;20]", "127.0.0.10 126.0.99.20", "125.0.0.10 127.1.0.10 127.0.0.11"},
		{"127.0.0.002", "127.0.0.2", "127.0.0.3"},
		{"[1;2;3].[0..0].0.[255]", "3.0.0.255", "3.0.0.254"},
	} {
		p, err := ParseAddrPattern(c.pattern)
		if err != nil {
			t.Error(c.pattern, err)
			continue
		}
		for _, a := range strings.Fields(c.yes) {
			if !p.Matches(netip.MustParseAddr(a)) {
				t.Error(c.pattern, a)
			}
		}
		for _, a := range strings.Fields(c.no + " 2001:db8::1") {
			if p.Matches(netip.MustParseAddr(a)) {
				t.Error(c.pattern, a)
			}
		}
	}
	for _, bad := range []string{"", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.[", "1.2.3.[]", "1.2.3.[1", "1.2.3.[1;", "1.2.3.[1..]", "1.2.3.[5..1]", "1.2.3.[1,2]", "a.b.c.d", "1.2.3.4x", "1.2..3", "-1.2.3.4", "1.2.3.99999999999999999999", "[1;2.3.4.5"} {
		if _, err := ParseAddrPattern(bad); err == nil {
			t.Error(bad)
		}
	}
}

// What Debian's smtpd says about patterns before it ends.
func TestAddrPatternErrors(t *testing.T) {
	for pattern, want := range map[string]string{
		"127.0.0":        `need "." at "127.0.0><"`,
		"127.0.0.[":      `need decimal number 0..255 at "127.0.0.[><"`,
		"127.0.0.256":    `need decimal number 0..255 or "[" at "127.0.0.>256<"`,
		"127.0.0.[5..1]": `numeric range error at "127.0.0.[5..>1<]"`,
		"127.0.0.2x":     `garbage after pattern at "127.0.0.2>x<"`,
		"127.0.0.[]":     `need decimal number 0..255 at "127.0.0.[>]<"`,
		"127.0.0.[1":     `need ";" or "]" at "127.0.0.[1><"`,
		"x":              `need decimal number 0..255 or "[" at ">x<"`,
		"":               "empty address pattern",
		"127.0.0.[1;]":   `need decimal number 0..255 at "127.0.0.[1;>]<"`,
		"1.2.3.4.5":      `garbage after pattern at "1.2.3.4>.<5"`,
		"127.0.0.[1..]":  `numeric range error at "127.0.0.[1..>]<"`,
	} {
		if _, err := ParseAddrPattern(pattern); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", pattern, err, want)
		}
	}
}

func FuzzAddrPattern(f *testing.F) {
	for _, s := range []string{"127.0.0.2", "127.0.0.[2;4..6]", "[1..2].[3].4.5", "1.2.3.[", "..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseAddrPattern(text)
		if err != nil {
			return
		}
		for i, field := range p {
			n := 0
			for _, on := range field {
				if on {
					n++
				}
			}
			if n == 0 {
				t.Errorf("%q: field %d is empty", text, i)
			}
		}
		if strings.Trim(text, "0123456789.;[]") != "" {
			t.Errorf("%q is accepted", text)
		}
	})
}
