package table

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// matchTimeLimit bounds one match of the backtracking engine.
const matchTimeLimit = 2 * time.Second

// regex is a compiled pattern over bytes. Bytes above 127 become private-use
// runes in pattern and subject, so that no engine folds or classifies them. What the
// standard library's linear-time engine can express runs there; the rest (back
// references, look-around, atomic groups) runs in the backtracking engine with a time limit.
type regex struct {
	source  string // in the common syntax of both engines
	groups  int
	fast    *regexp.Regexp
	dollar  bool // has a "$" that also matches before a final newline
	once    sync.Once
	slow    *regexp2.Regexp
	slowErr error
}

// errSyntax is a pattern that neither engine takes.
var errSyntax = errors.New("Invalid regular expression")

// compile takes a translated pattern.
func compile(source string, groups int, longest, dollar bool) (*regex, error) {
	r := &regex{source: source, groups: groups, dollar: dollar}
	fast, err := regexp.Compile(source)
	if err == nil {
		if longest {
			fast.Longest()
		}
		r.fast = fast
		return r, nil
	}
	if r.backtracker(); r.slowErr != nil {
		return nil, r.slowErr
	}
	return r, nil
}

func (r *regex) backtracker() {
	r.once.Do(func() {
		defer func() { // regexp2's parser is not ours to trust with every input
			if recover() != nil {
				r.slow, r.slowErr = nil, errSyntax
			}
		}()
		r.slow, r.slowErr = regexp2.Compile(r.source, regexp2.None)
		if r.slowErr == nil {
			r.slow.MatchTimeout = matchTimeLimit
		}
	})
}

// match gives the groups of the first match ("" for one that took no part), nil for none.
func (r *regex) match(subject string) ([]string, error) {
	wide := widen(subject)
	if r.fast != nil && !(r.dollar && strings.HasSuffix(subject, "\n")) {
		if r.groups == 0 {
			if r.fast.MatchString(wide) {
				return []string{""}, nil
			}
			return nil, nil
		}
		sub := r.fast.FindStringSubmatch(wide)
		for i := range sub {
			sub[i] = narrow(sub[i])
		}
		return sub, nil
	}
	if r.backtracker(); r.slowErr != nil {
		return nil, r.slowErr
	}
	m, err := r.slow.FindStringMatch(wide)
	if err != nil || m == nil {
		if err != nil {
			err = errors.New("match limit exceeded")
		}
		return nil, err
	}
	sub := make([]string, r.groups+1)
	for i := range sub {
		if g := m.GroupByNumber(i); g != nil {
			sub[i] = narrow(g.String())
		}
	}
	return sub, nil
}

// privateUse is where byte 0 would be.
const privateUse = 0xE000

func byteRune(c byte) rune {
	if c < utf8.RuneSelf {
		return rune(c)
	}
	return privateUse + rune(c)
}

// widen maps bytes above 127 to private-use runes.
func widen(s string) string {
	i := 0
	for i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for ; i < len(s); i++ {
		b.WriteRune(byteRune(s[i]))
	}
	return b.String()
}

// narrow undoes widen.
func narrow(s string) string {
	i := 0
	for i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	if i == len(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r&0xff))
	}
	return string(b)
}

// literal writes one byte so that both engines take it literally.
func literal(b *strings.Builder, c byte) {
	if c < utf8.RuneSelf && !alnum(c) && c > ' ' && c != 0x7f && c != '_' {
		b.WriteByte('\\')
	}
	b.WriteRune(byteRune(c))
}

// byteSet is a set of bytes: how bracket expressions and classes are written for the engines.
type byteSet [256]bool

func (s *byteSet) addRange(low, high byte) {
	for c := int(low); c <= int(high); c++ {
		s[c] = true
	}
}

func (s *byteSet) addFunc(negate bool, f func(c byte) bool) {
	for c := range 256 {
		if f(byte(c)) != negate {
			s[c] = true
		}
	}
}

// foldCase adds the other case of each ASCII letter; needed before a negation.
func (s *byteSet) foldCase() {
	for c := byte('a'); c <= 'z'; c++ {
		if s[c] || s[c-32] {
			s[c], s[c-32] = true, true
		}
	}
}

func (s *byteSet) invert() {
	for c := range s {
		s[c] = !s[c]
	}
}

// write gives the set as a class both engines read alike.
func (s *byteSet) write(b *strings.Builder) {
	b.WriteByte('[')
	empty := true
	for c := 0; c < 256; c++ {
		if !s[c] {
			continue
		}
		empty = false
		end := c
		for end < 255 && s[end+1] && (end+1 < utf8.RuneSelf || c >= utf8.RuneSelf) {
			end++
		}
		classByte(b, byte(c))
		if end > c {
			b.WriteByte('-')
			classByte(b, byte(end))
		}
		c = end
	}
	if empty {
		b.WriteString("\uF8FF") // never in a subject
	}
	b.WriteByte(']')
}

func classByte(b *strings.Builder, c byte) {
	if c < utf8.RuneSelf && !alnum(c) {
		const hex = "0123456789ABCDEF"
		b.WriteString(`\x`)
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
		return
	}
	b.WriteRune(byteRune(c))
}

// classNamed gives the test of a POSIX class of the C locale.
func classNamed(name string) (func(c byte) bool, bool) {
	between := func(pairs string) func(byte) bool {
		return func(c byte) bool {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] <= c && c <= pairs[i+1] {
					return true
				}
			}
			return false
		}
	}
	ranges, ok := map[string]string{
		"alpha": "AZaz", "digit": "09", "alnum": "09AZaz", "upper": "AZ", "lower": "az",
		"space": "\t\r  ", "blank": "\t\t  ", "punct": "!/:@[`{~", "print": " ~", "graph": "!~",
		"cntrl": "\x00\x1f\x7f\x7f", "xdigit": "09AFaf", "word": "09AZaz__", "ascii": "\x00\x7f",
	}[name]
	return between(ranges), ok
}
