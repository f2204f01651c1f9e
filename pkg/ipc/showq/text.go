package showq

import "unicode/utf8"

// Printable replaces control characters by '?', and so everything that is not
// ASCII or, with keepUTF8 (smtputf8_enable), not valid UTF-8.
func Printable(s string, keepUTF8 bool) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= ' ' && s[i] < 0x7f
	}
	if clean {
		return s
	}
	b := []byte(s)
	for i := 0; i < len(b); {
		c, size := utf8.DecodeRune(b[i:])
		if c < ' ' || c == 0x7f || c == utf8.RuneError && size <= 1 {
			b[i] = '?'
		} else if size > 1 && !keepUTF8 {
			for j := range size {
				b[i+j] = '?'
			}
		}
		i += size
	}
	return string(b)
}
