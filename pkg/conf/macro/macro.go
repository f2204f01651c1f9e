// Package macro expands the references $name, ${name?text:text} and
// ${{a} == {b} ? {x} : {y}}, and the calls ${function{text}}, that main.cf values, delivery commands and reply
// templates may contain (spec config.md 1.4).
//
// Every error is an *Error: its text is what Postfix logs as a warning, and
// the expansion as a whole has failed. Names that have no value are no error;
// a caller who wants to know of them records them in its lookup function.
package macro

import (
	"strconv"
	"strings"
)

// Limits on one call of Expand or Names. Depth is Postfix's own; the other two
// stop main.cf values that double in size with every level.
const (
	maxDepth      = 100
	maxReferences = 1 << 20
	maxOutput     = 16 << 20 // bytes
	restLength    = 20       // bytes of context shown after >>>
)

// Error is a failed expansion.
type Error struct {
	Text string // what is logged, without severity
	// Fatal says that Postfix ends the process with this text, where other
	// errors are a warning that is followed by "macro processing error".
	Fatal bool
}

func (e *Error) Error() string { return e.Text }

// Options changes how Expand works; the zero value substitutes values as they
// are.
type Options struct {
	// Filter holds the bytes a substituted value may contain, every other
	// byte becomes "_". Empty: values are not filtered.
	Filter string
	// Recurse expands the values of names too.
	Recurse bool
	// Depth is how many references led to the text; they count for the
	// limit of nesting.
	Depth int
}

// Expand returns text with its references replaced. A name for which lookup
// reports false expands to nothing.
func Expand(text string, lookup func(name string) (value string, ok bool), o Options) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	w := walker{lookup: lookup, opt: o}
	return w.text(text, o.Depth)
}

// Names calls visit for every name that text refers to, in both branches of
// conditionals, without evaluating anything. After a syntax error it stops;
// names before it have been visited.
func Names(text string, visit func(name string)) error {
	w := walker{scan: true, lookup: func(name string) (string, bool) {
		visit(name)
		return "", true
	}}
	_, err := w.text(text, 0)
	return err
}

type walker struct {
	lookup     func(string) (string, bool)
	opt        Options
	scan       bool // visit names in all branches, evaluate nothing
	references int
	output     int
}

func syntax(parts ...string) error { return &Error{Text: strings.Join(parts, "")} }

func at(what, before, rest string) error {
	return syntax(what, ` at: "...`, before, ">>>", rest[:min(len(rest), restLength)], `"`)
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func trimLeft(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	return s
}

// span returns how many bytes at the start of s satisfy ok.
func span(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

// Closing returns the index of the bracket that closes the one at s[0], "{" or
// "(", or -1. Only brackets of the same kind count.
func Closing(s string) int {
	closer := byte('}')
	if s[0] == '(' {
		closer = ')'
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case s[0]:
			depth++
		case closer:
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func (w *walker) text(s string, depth int) (string, error) {
	var out strings.Builder
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			i = len(rest)
		}
		out.WriteString(rest[:i])
		if rest = rest[i:]; rest == "" {
			break
		}
		rest = rest[1:]
		if strings.HasPrefix(rest, "$") {
			out.WriteByte('$')
			rest = rest[1:]
			continue
		}
		var body string
		if rest != "" && (rest[0] == '{' || rest[0] == '(') {
			end := Closing(rest)
			if end < 0 {
				return "", syntax(`truncated macro reference: "`, s, `"`)
			}
			body, rest = rest[1:end], rest[end+1:]
		} else {
			n := span(rest, isName)
			body, rest = rest[:n], rest[n:]
		}
		if body == "" {
			return "", syntax(`empty macro name: "`, s, `"`)
		}
		value, err := w.reference(body, depth+1)
		if err != nil {
			return "", err
		}
		if w.output += len(value); w.output > maxOutput {
			return "", syntax("unreasonable macro expansion size")
		}
		out.WriteString(value)
	}
	return out.String(), nil
}

// reference evaluates what stands inside ${...}, or after a bare $.
func (w *walker) reference(body string, depth int) (string, error) {
	if w.references++; w.references > maxReferences {
		return "", syntax("unreasonable number of macro references")
	}
	if start := trimLeft(body); strings.HasPrefix(start, "{") {
		if depth > maxDepth {
			return "", syntax(`unreasonable macro call nesting: "`, body, `"`)
		}
		return w.relation(start, depth)
	}
	blanks := span(body, isSpace)
	n := blanks + span(body[blanks:], isName)
	name := body[blanks:n]
	if depth > maxDepth {
		return "", syntax(`unreasonable macro call nesting: "`, name, `"`)
	}
	rest := trimLeft(body[n:])
	if call, ok := functions[name]; ok && strings.HasPrefix(rest, "{") {
		return w.call(call, rest, depth)
	}
	if rest != "" && rest[0] != '?' && rest[0] != ':' {
		return "", at("attribute name syntax error", body[:n], body[n:])
	}
	value, ok := w.lookup(name)
	if rest != "" {
		return w.choose(ok && value != "", rest, depth)
	}
	if !ok || w.scan {
		return "", nil
	}
	if w.opt.Recurse {
		var err error
		if value, err = w.text(value, depth); err != nil {
			return "", err
		}
	}
	return w.filtered(value), nil
}

func (w *walker) filtered(value string) string {
	if w.opt.Filter == "" {
		return value
	}
	b := []byte(value)
	for i, c := range b {
		if strings.IndexByte(w.opt.Filter, c) < 0 {
			b[i] = '_'
		}
	}
	return string(b)
}

// relation evaluates "{left} OP {right} ? then : else", s starting at the
// brace.
func (w *walker) relation(s string, depth int) (string, error) {
	end := Closing(s)
	if end < 0 {
		return "", syntax(`unbalanced {} in attribute expression: "`, s, `"`)
	}
	left, rest := s[1:end], trimLeft(s[end+1:])
	n := span(rest, func(c byte) bool { return strings.IndexByte("<>!=?+-*/~&|%", c) >= 0 })
	op := rest[:n]
	if !isComparison(op) {
		return "", at(`"==" or "!="" or "<"" or "<="" or ">="" or ">" expected`, left+"}", rest)
	}
	rest = rest[n:]
	suffix := rest[:span(rest, func(c byte) bool { return isName(c) && c != '_' })]
	if suffix != "" && suffix != "level" {
		return "", at("bad operator suffix", op, suffix)
	}
	rest = rest[len(suffix):]
	brace := trimLeft(rest)
	if !strings.HasPrefix(brace, "{") {
		return "", at(`"{expression}" expected`, "{"+left+"} "+op+suffix, rest)
	}
	if end = Closing(brace); end < 0 {
		return "", syntax(`unbalanced {} in attribute expression: "`, brace, `"`)
	}
	right, tail := brace[1:end], trimLeft(brace[end+1:])
	if tail != "" && tail[0] != '?' && tail[0] != ':' {
		return "", at(`"?" or ":" expected`, "}", tail)
	}
	leftValue, err := w.text(left, depth)
	if err != nil {
		return "", err
	}
	rightValue, err := w.text(right, depth)
	if err != nil {
		return "", err
	}
	var holds bool
	if !w.scan {
		if holds, err = compare(leftValue, op, suffix, rightValue); err != nil {
			return "", err
		}
	}
	if tail != "" {
		return w.choose(holds, tail, depth)
	}
	if holds {
		return "true", nil
	}
	return "", nil
}

// choose evaluates one branch of "?then", "?{then}:else" or ":else".
func (w *walker) choose(condition bool, s string, depth int) (string, error) {
	var yes, no string
	kind, rest := s[0], s[1:]
	if kind == '?' {
		then, tail, braced, err := branch(rest)
		if err != nil {
			return "", err
		}
		yes = then
		if braced && tail != "" {
			if tail[0] != ':' {
				return "", at(`":" expected`, then+"}", tail)
			}
			kind, rest = ':', tail[1:]
		}
	}
	if kind == ':' {
		other, tail, _, err := branch(rest)
		if err != nil {
			return "", err
		}
		if tail != "" {
			return "", at("unexpected input", other+"}", tail)
		}
		no = other
	}
	if w.scan {
		if _, err := w.text(yes, depth); err != nil {
			return "", err
		}
		return w.text(no, depth)
	}
	if condition {
		return w.text(yes, depth)
	}
	return w.text(no, depth)
}

// branch splits "{text} tail"; without a brace all of s is the text.
func branch(s string) (text, tail string, braced bool, err error) {
	start := trimLeft(s)
	if !strings.HasPrefix(start, "{") {
		return s, "", false, nil
	}
	end := Closing(start)
	if end < 0 {
		return "", "", false, syntax(`unbalanced {} in attribute expression: "`, start, `"`)
	}
	return start[1:end], trimLeft(start[end+1:]), true, nil
}

func isComparison(op string) bool {
	switch op {
	case "==", "!=", "<", "<=", ">=", ">":
		return true
	}
	return false
}

func compare(left, op, suffix, right string) (bool, error) {
	var order int
	switch {
	case suffix == "level":
		a, err := ParseLevel(left)
		if err != nil {
			return false, err
		}
		b, err := ParseLevel(right)
		if err != nil {
			return false, err
		}
		order = a.Compare(b)
	case allDigits(left) && allDigits(right):
		a, err := number(left)
		if err != nil {
			return false, err
		}
		b, err := number(right)
		if err != nil {
			return false, err
		}
		order = cmpInt(a, b)
	default:
		order = strings.Compare(left, right)
	}
	switch op {
	case "==":
		return order == 0, nil
	case "!=":
		return order != 0, nil
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">=":
		return order >= 0, nil
	}
	return order > 0, nil
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func allDigits(s string) bool {
	return s != "" && span(s, func(c byte) bool { return c >= '0' && c <= '9' }) == len(s)
}

func number(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, &Error{Text: "mac_exp_eval: bad conversion: " + s, Fatal: true}
	}
	return n, nil
}
