package table

import (
	"errors"
	"strconv"
	"strings"
)

// The texts of glibc's regerror.
var (
	errBracket   = errors.New("Unmatched [, [^, [:, [., or [=")
	errParen     = errors.New(`Unmatched ( or \(`)
	errBackslash = errors.New("Trailing backslash")
	errRange     = errors.New("Invalid range end")
	errClass     = errors.New("Invalid character class name")
	errCollate   = errors.New("Invalid collation character")
	errRepeat    = errors.New("Invalid preceding regular expression")
	errInterval  = errors.New(`Invalid content of \{\}`)
	errBrace     = errors.New(`Unmatched \{`)
	errBackref   = errors.New("Invalid back reference")
)

// posixOptions are the flags of a regexp table's pattern.
type posixOptions struct {
	ignoreCase bool
	newline    bool // newline ends lines; "." and [^x] do not match it
	extended   bool
}

// maxPattern bounds a pattern, in bytes.
const maxPattern = 1 << 20

// compilePOSIX compiles a regular expression in the dialect of glibc's regcomp,
// with leftmost-longest matches.
func compilePOSIX(pattern string, o posixOptions) (*regex, error) {
	if len(pattern) > maxPattern {
		return nil, errors.New("Regular expression too big")
	}
	t := posix{in: pattern, o: o, atom: -1}
	if o.ignoreCase {
		t.out.WriteString("(?i)")
	}
	if err := t.run(); err != nil {
		return nil, err
	}
	r, err := compile(t.out.String(), t.groups, true, false)
	if err != nil {
		return nil, errSyntax
	}
	return r, nil
}

// posix translates a pattern while it parses it.
type posix struct {
	in     string
	pos    int
	o      posixOptions
	out    strings.Builder
	atom   int   // where the last atom starts in out; -1 = nothing to repeat
	quant  bool  // the last atom has a quantifier already
	open   []int // starts of open groups in out
	groups int
	closed [10]bool // groups \1 ... \9 may refer to
	opened []int    // numbers of the open groups
}

func (t *posix) run() error {
	for t.pos < len(t.in) {
		c := t.in[t.pos]
		t.pos++
		var err error
		if c == '\\' {
			err = t.backslash()
		} else {
			err = t.char(c)
		}
		if err != nil {
			return err
		}
	}
	if len(t.open) > 0 {
		return errParen
	}
	return nil
}

func (t *posix) begin() {
	t.atom, t.quant = t.out.Len(), false
}

func (t *posix) literal(c byte) {
	t.begin()
	literal(&t.out, c)
}

// rest is what has not been read.
func (t *posix) rest() string { return t.in[t.pos:] }

func (t *posix) char(c byte) error {
	ext := t.o.extended
	switch {
	case c == '[':
		return t.bracket()
	case c == '.':
		t.begin()
		if t.o.newline {
			t.out.WriteString(`[^\n]`)
		} else {
			t.out.WriteString("(?s:.)")
		}
	case c == '^' && (ext || t.atStart()):
		t.anchor(`\A`, "(?m:^)")
	case c == '$' && (ext || t.atEnd()):
		t.anchor(`\z`, "(?m:$)")
	case c == '*' && (ext || t.atom >= 0):
		return t.repeat("*")
	case ext && c == '+', ext && c == '?':
		return t.repeat(string(c))
	case ext && c == '{':
		return t.interval("}")
	case ext && c == '(':
		t.group()
	case ext && c == ')' && len(t.open) > 0:
		t.endGroup()
	case ext && c == '|':
		t.alternative()
	default:
		t.literal(c)
	}
	return nil
}

func (t *posix) backslash() error {
	if t.pos == len(t.in) {
		return errBackslash
	}
	c := t.in[t.pos]
	t.pos++
	basic := !t.o.extended
	switch {
	case basic && c == '(':
		t.group()
	case basic && c == ')':
		if len(t.open) == 0 {
			return errors.New(`Unmatched ) or \)`)
		}
		t.endGroup()
	case basic && c == '|':
		t.alternative()
	case basic && c == '{':
		return t.interval(`\}`)
	case basic && (c == '+' || c == '?'):
		return t.repeat(string(c))
	case '1' <= c && c <= '9':
		if !t.closed[c-'0'] {
			return errBackref
		}
		t.begin()
		t.out.WriteString(`(?:\` + string(c) + ")")
	case c == 'w' || c == 'W' || c == 's' || c == 'S':
		var s byteSet
		name := "word"
		if c|0x20 == 's' {
			name = "space"
		}
		f, _ := classNamed(name)
		s.addFunc(c < 'a', f)
		t.begin()
		s.write(&t.out)
	case c == 'b' || c == '<' || c == '>':
		t.anchor(`\b`, `\b`)
	case c == 'B':
		t.anchor(`\B`, `\B`)
	case c == '`':
		t.anchor(`\A`, `\A`)
	case c == '\'':
		t.anchor(`\z`, `\z`)
	default:
		t.literal(c)
	}
	return nil
}

func (t *posix) anchor(plain, lines string) {
	if t.o.newline {
		plain = lines
	}
	t.out.WriteString(plain)
	t.atom = -1
}

// atStart: in a basic expression "^" is an anchor only here.
func (t *posix) atStart() bool {
	before := t.in[:t.pos-1]
	return before == "" || strings.HasSuffix(before, `\(`) || strings.HasSuffix(before, `\|`) ||
		t.o.newline && strings.HasSuffix(before, "\n")
}

func (t *posix) atEnd() bool {
	rest := t.rest()
	return rest == "" || strings.HasPrefix(rest, `\)`) || strings.HasPrefix(rest, `\|`) ||
		t.o.newline && strings.HasPrefix(rest, "\n")
}

func (t *posix) group() {
	t.open = append(t.open, t.out.Len())
	t.groups++
	t.opened = append(t.opened, t.groups)
	t.out.WriteByte('(')
	t.atom = -1
}

func (t *posix) endGroup() {
	last := len(t.open) - 1
	t.out.WriteByte(')')
	t.atom, t.quant = t.open[last], false
	if n := t.opened[last]; n < len(t.closed) {
		t.closed[n] = true
	}
	t.open, t.opened = t.open[:last], t.opened[:last]
}

func (t *posix) alternative() {
	t.out.WriteByte('|')
	t.atom = -1
}

// repeat puts a quantifier behind the last atom. One that has a quantifier
// becomes a group first: "a*?" is not a lazy "a*" here.
func (t *posix) repeat(quantifier string) error {
	if t.atom < 0 {
		return errRepeat
	}
	if t.quant {
		all := t.out.String()
		t.out.Reset()
		t.out.WriteString(all[:t.atom] + "(?:" + all[t.atom:] + ")")
	}
	t.out.WriteString(quantifier)
	t.quant = true
	return nil
}

// maxRepeat is RE_DUP_MAX of glibc.
const maxRepeat = 32767

func (t *posix) interval(end string) error {
	text, rest, ok := strings.Cut(t.rest(), end)
	if !ok {
		return errBrace
	}
	low, high, comma := strings.Cut(text, ",")
	number := func(s string) (int, error) {
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return 0, errInterval
		}
		n, err := strconv.Atoi(s)
		if err != nil || n > maxRepeat {
			return 0, errors.New("Regular expression too big")
		}
		return n, nil
	}
	if low == "" && comma {
		low = "0"
	}
	m, err := number(low)
	if err != nil {
		return err
	}
	if comma && high != "" {
		n, err := number(high)
		if err != nil {
			return err
		}
		if n < m {
			return errInterval
		}
	}
	if t.atom < 0 {
		return errRepeat
	}
	t.pos = len(t.in) - len(rest)
	if comma {
		return t.repeat("{" + low + "," + high + "}")
	}
	return t.repeat("{" + low + "}")
}

// bracket parses a bracket expression; "[" has been read.
func (t *posix) bracket() error {
	negate := strings.HasPrefix(t.rest(), "^")
	if negate {
		t.pos++
	}
	var set byteSet
	for first := true; ; first = false {
		if t.pos >= len(t.in) {
			if first {
				return errSyntax
			}
			return errBracket
		}
		if t.in[t.pos] == ']' && !first {
			t.pos++
			break
		}
		if strings.HasPrefix(t.rest(), "[:") {
			name, rest, ok := strings.Cut(t.in[t.pos+2:], ":]")
			if !ok {
				return errBracket
			}
			f, ok := classNamed(name)
			if !ok || name == "word" || name == "ascii" {
				return errClass
			}
			set.addFunc(false, f)
			t.pos = len(t.in) - len(rest)
			continue
		}
		low, err := t.element()
		if err != nil {
			return err
		}
		high := low
		if r := t.rest(); len(r) >= 2 && r[0] == '-' && r[1] != ']' {
			t.pos++
			if high, err = t.element(); err != nil {
				return err
			}
			if high < low {
				return errRange
			}
		}
		set.addRange(low, high)
	}
	if t.o.ignoreCase {
		set.foldCase()
	}
	if negate {
		if t.o.newline {
			set['\n'] = true
		}
		set.invert()
	}
	t.begin()
	set.write(&t.out)
	return nil
}

// element reads one character of a bracket expression, maybe as [.x.] or [=x=].
func (t *posix) element() (byte, error) {
	r := t.rest()
	if strings.HasPrefix(r, "[.") || strings.HasPrefix(r, "[=") {
		body, rest, ok := strings.Cut(r[2:], r[1:2]+"]")
		if !ok {
			return 0, errBracket
		}
		if len(body) != 1 {
			return 0, errCollate
		}
		t.pos = len(t.in) - len(rest)
		return body[0], nil
	}
	t.pos++
	return r[0], nil
}
