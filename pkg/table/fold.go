package table

import (
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// Fold folds a key for comparison: ASCII letters to lower case and, in UTF-8
// mode, other letters by Unicode full case folding (config.md 3.4).
func Fold(key string, utf8Mode bool) string {
	ascii, upper := true, false
	for i := 0; i < len(key); i++ {
		c := key[i]
		ascii = ascii && c < utf8.RuneSelf
		upper = upper || 'A' <= c && c <= 'Z'
	}
	if !ascii && utf8Mode {
		return cases.Fold().String(key)
	}
	if !upper {
		return key
	}
	b := []byte(key)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}
