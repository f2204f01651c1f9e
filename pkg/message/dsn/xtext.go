package dsn

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrXtext is returned for text that is not xtext or unitext.
var ErrXtext = errors.New("bad xtext")

const hexDigits = "0123456789ABCDEF"

// XtextEncode writes +XX for bytes outside 33..126, '+' and those in special
// (RFC 3461 §4: '+' and '=').
func XtextEncode(text, special string) string {
	b := make([]byte, 0, len(text)+8)
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c > ' ' && c < 0x7f && c != '+' && strings.IndexByte(special, c) < 0 {
			b = append(b, c)
		} else {
			b = append(b, '+', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

// XtextDecode undoes XtextEncode. Other bytes pass as they are; a + that is not
// followed by two hexadecimal digits is an error.
func XtextDecode(text string) (string, error) {
	if strings.IndexByte(text, '+') < 0 {
		return text, nil
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '+' {
			b = append(b, text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", ErrXtext
		}
		v, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil || text[i+1] == '+' {
			return "", ErrXtext
		}
		b = append(b, byte(v))
		i += 2
	}
	return string(b), nil
}

// UnitextDecode decodes the address of a utf-8 ORCPT (RFC 6533 §3): \x{HEX}
// stands for a code point, all else passes.
func UnitextDecode(text string) (string, error) {
	var b strings.Builder
	for {
		head, rest, found := strings.Cut(text, `\x{`)
		b.WriteString(head)
		if !found {
			return b.String(), nil
		}
		digits, tail, found := strings.Cut(rest, "}")
		v, err := strconv.ParseUint(digits, 16, 32)
		if !found || err != nil || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
			return "", ErrXtext
		}
		b.WriteRune(rune(v))
		text = tail
	}
}

// UnitextEncode writes the address of a utf-8 ORCPT: with utf8ok as unitext
// (non-ASCII kept), else all non-ASCII as \x{HEX}.
func UnitextEncode(text string, utf8ok bool) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r > ' ' && r < 0x7f && r != '+' && r != '=' && r != '\\', utf8ok && r >= 0x80:
			b.WriteRune(r)
		default:
			b.WriteString(`\x{` + strings.ToUpper(strconv.FormatUint(uint64(r), 16)) + `}`)
		}
	}
	return b.String()
}
