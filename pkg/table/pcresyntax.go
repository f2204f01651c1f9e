package table

import (
	"fmt"
	"strconv"
	"strings"
)

// pcreOptions are the flags of a pcre table's pattern.
type pcreOptions struct {
	ignoreCase, dotAll, multiline, extended, anchored, dollarEndOnly, ungreedy bool
}

// patternError is a fault at an offset of a pattern.
type patternError struct {
	offset int
	text   string
}

func (e *patternError) Error() string {
	return fmt.Sprintf("error in regex at offset %d: %s", e.offset, e.text)
}

// compilePCRE compiles a Perl-compatible expression over bytes. Not supported, with an
// error: recursion and subroutine calls, verbs, callouts, \K, \X, \C and branch reset.
func compilePCRE(pattern string, o pcreOptions) (*regex, error) {
	if len(pattern) > maxPattern {
		return nil, &patternError{0, "regular expression is too large"}
	}
	t := pcre{in: pattern, o: o, atom: -1, names: make(map[string]int)}
	flags := ""
	for _, f := range [...]struct {
		on     bool
		letter string
	}{{o.ignoreCase, "i"}, {o.dotAll, "s"}, {o.multiline, "m"}} {
		if f.on {
			flags += f.letter
		}
	}
	if flags != "" {
		flags = "(?" + flags + ")"
	}
	t.scanNames()
	if err := t.run(); err != nil {
		return nil, err
	}
	source := flags + t.out.String()
	if o.anchored {
		source = flags + `\A(?:` + t.out.String() + ")"
	}
	r, err := compile(source, t.groups, false, t.dollar)
	if err != nil {
		text := err.Error()
		if text == "" {
			text = "syntax error"
		}
		return nil, &patternError{len(pattern), text}
	}
	return r, nil
}

// pcre rewrites a pattern into the syntax common to both engines, or, where one of its
// elements needs it, into that of the backtracking engine.
type pcre struct {
	in     string
	pos    int
	o      pcreOptions
	out    strings.Builder
	atom   int
	open   []int
	groups int
	names  map[string]int
	dollar bool
}

func (t *pcre) fail(text string) error { return &patternError{t.pos, text} }

// scanNames numbers named groups, since references may come before them.
func (t *pcre) scanNames() {
	class, n := false, 0
	for i := 0; i < len(t.in); i++ {
		switch c := t.in[i]; {
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
			if strings.HasPrefix(t.in[i+1:], "^]") {
				i += 2
			} else if strings.HasPrefix(t.in[i+1:], "]") {
				i++
			}
		case c == '(':
			name, _, kind := groupHead(t.in[i+1:])
			if kind == capturing {
				n++
				if name != "" {
					t.names[name] = n
				}
			}
		}
	}
}

type groupKind byte

const (
	capturing groupKind = iota
	special             // passed on
)

// groupHead looks at what follows "(": a name and the length of "?<name>".
func groupHead(text string) (name string, length int, kind groupKind) {
	if !strings.HasPrefix(text, "?") {
		if strings.HasPrefix(text, "*") {
			return "", 0, special
		}
		return "", 0, capturing
	}
	for _, form := range [...][2]string{{"?P<", ">"}, {"?<", ">"}, {"?'", "'"}} {
		if !strings.HasPrefix(text, form[0]) || strings.HasPrefix(text, "?<=") || strings.HasPrefix(text, "?<!") {
			continue
		}
		if name, _, ok := strings.Cut(text[len(form[0]):], form[1]); ok {
			return name, len(form[0]) + len(name) + 1, capturing
		}
	}
	return "", 0, special
}

func (t *pcre) rest() string { return t.in[t.pos:] }

func (t *pcre) run() error {
	for t.pos < len(t.in) {
		c := t.in[t.pos]
		t.pos++
		if err := t.char(c); err != nil {
			return err
		}
	}
	if len(t.open) > 0 {
		return t.fail("missing closing parenthesis")
	}
	return nil
}

func (t *pcre) char(c byte) error {
	switch {
	case t.o.extended && strings.IndexByte(space, c) >= 0:
	case t.o.extended && c == '#':
		if i := strings.IndexByte(t.rest(), '\n'); i >= 0 {
			t.pos += i + 1
		} else {
			t.pos = len(t.in)
		}
	case c == '\\':
		return t.backslash()
	case c == '[':
		return t.class()
	case c == '(':
		return t.group()
	case c == ')':
		if len(t.open) == 0 {
			t.pos--
			return t.fail("unmatched closing parenthesis")
		}
		t.out.WriteByte(')')
		t.atom = t.open[len(t.open)-1]
		t.open = t.open[:len(t.open)-1]
	case c == '|':
		t.out.WriteByte('|')
		t.atom = -1
	case c == '$':
		t.atom = t.out.Len()
		if t.o.dollarEndOnly && !t.o.multiline {
			t.out.WriteString(`\z`)
			break
		}
		t.dollar = true
		t.out.WriteByte('$')
	case c == '^' || c == '.':
		t.atom = t.out.Len()
		t.out.WriteByte(c)
	case c == '*' || c == '+' || c == '?':
		return t.repeat(string(c))
	case c == '{':
		if q := interval(t.rest()); q != "" {
			t.pos += len(q)
			return t.repeat("{" + q)
		}
		t.literal(c)
	default:
		t.literal(c)
	}
	return nil
}

func (t *pcre) literal(c byte) {
	t.atom = t.out.Len()
	literal(&t.out, c)
}

// interval gives "n}", "n,}" or "n,m}" if text starts with it.
func interval(text string) string {
	body, _, ok := strings.Cut(text, "}")
	low, high, _ := strings.Cut(body, ",")
	if !ok || low == "" || strings.Trim(low+high, "0123456789") != "" {
		return ""
	}
	return body + "}"
}

func (t *pcre) repeat(quantifier string) error {
	if t.atom < 0 {
		t.pos--
		return t.fail("quantifier does not follow a repeatable item")
	}
	lazy, possessive := false, false
	switch {
	case strings.HasPrefix(t.rest(), "?"):
		lazy = true
		t.pos++
	case strings.HasPrefix(t.rest(), "+"):
		possessive = true
		t.pos++
	}
	atom := t.out.String()[t.atom:]
	if possessive {
		before := t.out.String()[:t.atom]
		t.out.Reset()
		t.out.WriteString(before + "(?>" + atom + quantifier + ")")
		return nil
	}
	t.out.WriteString(quantifier)
	if lazy != t.o.ungreedy {
		t.out.WriteByte('?')
	}
	// A further quantifier would apply to the whole: it must follow an atom.
	all := t.out.String()
	t.out.Reset()
	t.out.WriteString(all[:t.atom] + "(?:" + all[t.atom:] + ")")
	return nil
}

func (t *pcre) group() error {
	r := t.rest()
	_, n, kind := groupHead(r)
	start := t.out.Len()
	if kind == capturing {
		t.pos += n
		t.groups++
		t.out.WriteByte('(')
		t.open, t.atom = append(t.open, start), -1
		return nil
	}
	for _, plain := range [...]string{"?:", "?=", "?!", "?<=", "?<!", "?>"} {
		if strings.HasPrefix(r, plain) {
			t.pos += len(plain)
			t.out.WriteString("(" + plain)
			t.open, t.atom = append(t.open, start), -1
			return nil
		}
	}
	switch {
	case strings.HasPrefix(r, "?#"):
		i := strings.IndexByte(r, ')')
		if i < 0 {
			return t.fail("missing ) after (?# comment")
		}
		t.pos += i + 1
		return nil
	case strings.HasPrefix(r, "?P="):
		if ref, _, ok := strings.Cut(r[3:], ")"); ok {
			t.pos += 3 + len(ref) + 1
			return t.reference(ref)
		}
	case strings.HasPrefix(r, "?("):
		if condition, _, ok := strings.Cut(r[2:], ")"); ok && !strings.HasPrefix(condition, "?") {
			return t.condition(condition)
		}
	}
	if flags, end, ok := inlineFlags(r); ok {
		t.pos += len(flags) + 2
		return t.setFlags(flags, end, start)
	}
	return t.fail("unrecognized or unsupported character sequence after (? or (*")
}

// condition handles (?(1)...) and (?(<name>)...).
func (t *pcre) condition(text string) error {
	ref := strings.Trim(text, "<>'")
	n, ok := t.names[ref]
	if !ok {
		var err error
		if n, err = strconv.Atoi(ref); err != nil {
			return t.fail("unsupported condition")
		}
	}
	t.pos += 2 + len(text) + 1
	t.open, t.atom = append(t.open, t.out.Len()), -1
	t.out.WriteString("(?(" + strconv.Itoa(n) + ")")
	return nil
}

// inlineFlags recognizes "?i-s)" and "?i-s:".
func inlineFlags(r string) (flags string, end byte, ok bool) {
	for i := 1; i < len(r); i++ {
		switch c := r[i]; {
		case c == ')' || c == ':':
			return r[1:i], c, i > 1
		case strings.IndexByte("imsxUJn-^", c) < 0:
			return "", 0, false
		}
	}
	return "", 0, false
}

func (t *pcre) setFlags(flags string, end byte, start int) error {
	on, pass := true, ""
	for i := 0; i < len(flags); i++ {
		switch flags[i] {
		case '-':
			on = false
			pass += "-"
		case 'x':
			t.o.extended = on
		case 'U':
			t.o.ungreedy = on
		case 'i', 'm', 's':
			switch flags[i] {
			case 'm':
				t.o.multiline = on
			case 'i':
				t.o.ignoreCase = on
			}
			pass += flags[i : i+1]
		default:
			return t.fail("unsupported option letter")
		}
	}
	pass = strings.TrimSuffix(pass, "-")
	if end == ':' {
		t.out.WriteString("(?" + pass + ":")
		t.open, t.atom = append(t.open, start), -1
	} else if pass != "" {
		t.out.WriteString("(?" + pass + ")")
		t.atom = -1
	}
	return nil
}

// reference writes a back reference by name or number.
func (t *pcre) reference(ref string) error {
	n, ok := t.names[ref]
	if !ok {
		var err error
		n, err = strconv.Atoi(ref)
		if n < 0 {
			n += t.groups + 1
		}
		if err != nil || n <= 0 {
			return t.fail("reference to non-existent subpattern")
		}
	}
	t.atom = t.out.Len()
	t.out.WriteString(`(?:\` + strconv.Itoa(n) + ")")
	return nil
}
