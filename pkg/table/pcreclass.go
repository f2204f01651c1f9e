package table

import (
	"strconv"
	"strings"
)

// shorthand gives the bytes of \d \w \s \h \v \N \R-less classes; lower case of
// the letter is the positive one.
func shorthand(c byte) (set byteSet, ok bool) {
	name := map[byte]string{'d': "digit", 'w': "word", 's': "space", 'h': "blank"}[c|0x20]
	switch {
	case name != "":
		f, _ := classNamed(name)
		set.addFunc(false, f)
		if name == "blank" {
			set[0xa0] = true
		}
	case c|0x20 == 'v':
		set.addRange('\n', '\r')
		set[0x85] = true
	case c == 'N':
		set['\n'] = true
	default:
		return set, false
	}
	if c < 'a' {
		set.invert()
	}
	return set, true
}

// simpleEscapes stand for one byte.
func simpleEscape(c byte) (byte, bool) {
	i := strings.IndexByte("aefnrt", c)
	if i < 0 {
		return 0, false
	}
	return "\a\x1b\f\n\r\t"[i], true
}

func (t *pcre) backslash() error {
	if t.pos == len(t.in) {
		return t.fail("\\ at end of pattern")
	}
	c := t.in[t.pos]
	t.pos++
	if set, ok := shorthand(c); ok {
		t.atom = t.out.Len()
		set.write(&t.out)
		return nil
	}
	switch {
	case c == 'Q':
		text, rest, _ := strings.Cut(t.rest(), `\E`)
		for i := range len(text) {
			t.literal(text[i])
		}
		t.pos = len(t.in) - len(rest)
	case c == 'E':
	case c == 'R':
		t.atom = t.out.Len()
		t.out.WriteString(`(?>\r\n|[\n\x0B\f\r` + string(byteRune(0x85)) + `])`)
	case strings.IndexByte("AzZGbB", c) >= 0:
		t.atom = t.out.Len()
		t.out.WriteString(`\` + string(c))
	case c == 'g' || c == 'k':
		return t.namedReference()
	case '1' <= c && c <= '9':
		return t.number(c)
	case strings.IndexByte("KXCPpLlUu", c) >= 0:
		return t.fail(`unsupported escape \` + string(c))
	default:
		b, err := t.escapedByte(c)
		if err != nil {
			return err
		}
		t.literal(b)
	}
	return nil
}

// escapedByte gives the byte that \c... stands for; c has been read.
func (t *pcre) escapedByte(c byte) (byte, error) {
	if b, ok := simpleEscape(c); ok {
		return b, nil
	}
	switch {
	case c == 'x':
		return t.hex()
	case '0' <= c && c <= '7':
		t.pos--
		n := 0
		for n < 3 && t.pos+n < len(t.in) && '0' <= t.in[t.pos+n] && t.in[t.pos+n] <= '7' {
			n++
		}
		v, _ := strconv.ParseUint(t.in[t.pos:t.pos+n], 8, 32)
		t.pos += n
		if v > 255 {
			return 0, t.fail("octal value is greater than \\377 in 8-bit non-UTF-8 mode")
		}
		return byte(v), nil
	case c == 'c' && t.pos < len(t.in):
		b := t.in[t.pos]
		t.pos++
		if 'a' <= b && b <= 'z' {
			b -= 32
		}
		return b ^ 64, nil
	case alnum(c):
		return 0, t.fail("unrecognized character follows \\")
	}
	return c, nil
}

func (t *pcre) hex() (byte, error) {
	digits := t.rest()
	if strings.HasPrefix(digits, "{") {
		body, _, ok := strings.Cut(digits[1:], "}")
		v, err := strconv.ParseUint(body, 16, 8)
		if !ok || err != nil {
			return 0, t.fail("character code point value in \\x{} or \\o{} is too large")
		}
		t.pos += len(body) + 2
		return byte(v), nil
	}
	n := 0
	for n < 2 && n < len(digits) && strings.IndexByte("0123456789abcdefABCDEF", digits[n]) >= 0 {
		n++
	}
	v, _ := strconv.ParseUint(digits[:n], 16, 8)
	t.pos += n
	return byte(v), nil
}

// number is a back reference if there can be such a group, else octal.
func (t *pcre) number(c byte) error {
	n := 1
	for t.pos-1+n < len(t.in) && '0' <= t.in[t.pos-1+n] && t.in[t.pos-1+n] <= '9' {
		n++
	}
	digits := t.in[t.pos-1 : t.pos-1+n]
	if v, err := strconv.Atoi(digits); err == nil && (v < 10 || v <= t.groups) {
		t.pos += n - 1
		return t.reference(digits)
	}
	if c >= '8' {
		t.literal(c)
		return nil
	}
	b, err := t.escapedByte(c)
	if err == nil {
		t.literal(b)
	}
	return err
}

// namedReference is \g1 \g{1} \g{-1} \g{name} \k<name> \k'name' \k{name}.
func (t *pcre) namedReference() error {
	r := t.rest()
	if r == "" {
		return t.fail("reference expected")
	}
	if closing, ok := map[byte]string{'{': "}", '<': ">", '\'': "'"}[r[0]]; ok {
		ref, _, ok := strings.Cut(r[1:], closing)
		if !ok || t.in[t.pos-1] == 'g' && r[0] != '{' {
			return t.fail("unsupported reference")
		}
		t.pos += len(ref) + 2
		return t.reference(ref)
	}
	n := 0
	for n < len(r) && ('0' <= r[n] && r[n] <= '9' || n == 0 && r[0] == '-') {
		n++
	}
	t.pos += n
	return t.reference(r[:n])
}

// class parses a character class; "[" has been read.
func (t *pcre) class() error {
	negate := strings.HasPrefix(t.rest(), "^")
	if negate {
		t.pos++
	}
	var set byteSet
	for first := true; ; first = false {
		if t.pos >= len(t.in) {
			return t.fail("missing terminating ] for character class")
		}
		if t.in[t.pos] == ']' && !first {
			t.pos++
			break
		}
		low, single, err := t.classItem(&set)
		if err != nil {
			return err
		}
		r := t.rest()
		if !single || len(r) < 2 || r[0] != '-' || r[1] == ']' {
			if single {
				set[low] = true
			}
			continue
		}
		t.pos++
		high, single, err := t.classItem(&set)
		if err != nil {
			return err
		}
		if !single { // [a-\d]: the hyphen is literal
			set[low], set['-'] = true, true
			continue
		}
		if high < low {
			t.pos--
			return t.fail("range out of order in character class")
		}
		set.addRange(low, high)
	}
	if t.o.ignoreCase {
		set.foldCase()
	}
	if negate {
		set.invert()
	}
	t.atom = t.out.Len()
	set.write(&t.out)
	return nil
}

// classItem reads one item: a single byte, or a class, which it adds to set.
func (t *pcre) classItem(set *byteSet) (b byte, single bool, err error) {
	r := t.rest()
	if strings.HasPrefix(r, "[:") {
		if name, _, ok := strings.Cut(r[2:], ":]"); ok && strings.Trim(name, "^abcdefghijklmnopqrstuvwxyz") == "" {
			bare := strings.TrimPrefix(name, "^")
			f, ok := classNamed(bare)
			if !ok {
				return 0, false, t.fail("unknown POSIX class name")
			}
			set.addFunc(bare != name, f)
			t.pos += len(name) + 4
			return 0, false, nil
		}
	}
	c := r[0]
	t.pos++
	if c != '\\' {
		return c, true, nil
	}
	if t.pos == len(t.in) {
		return 0, false, t.fail("\\ at end of pattern")
	}
	c = t.in[t.pos]
	t.pos++
	if c == 'b' {
		return '\b', true, nil
	}
	if s, ok := shorthand(c); ok && c != 'N' {
		for i := range s {
			set[i] = set[i] || s[i]
		}
		return 0, false, nil
	}
	b, err = t.escapedByte(c)
	return b, true, err
}
