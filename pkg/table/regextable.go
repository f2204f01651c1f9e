package table

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"posthaste/pkg/sys/maillog"
)

// regexTable is a regexp or pcre table (config.md 3.10).
type regexTable struct {
	log   *maillog.Logger
	typ   string
	name  string
	rules []regexRule
	owned Owner
}

type regexRule struct {
	block
	conditions []condition // all must hold; groups are those of the first
	result     []piece
}

type condition struct {
	negate bool
	re     *regex
}

// piece is a part of a result: text, or a group when group > 0.
type piece struct {
	text  string
	group int
}

// dialect is what differs between regexp and pcre.
type dialect struct {
	second      bool // "/a/!/b/" is allowed
	noDelimiter string
	outOfRange  string
	compile     func(p *ruleParser, pattern, flags string) (*regex, error)
}

func openRegexp(env Env, req Request) (Backend, error) {
	return openRegex(env, req, dialect{
		second: true, noDelimiter: "skipping this rule", outOfRange: "out-of-range", compile: (*ruleParser).regexp,
	})
}

func openPCRE(env Env, req Request) (Backend, error) {
	return openRegex(env, req, dialect{
		noDelimiter: "ignoring this rule", outOfRange: "out of range", compile: (*ruleParser).pcre,
	})
}

func openRegex(env Env, req Request, d dialect) (Backend, error) {
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	lines, owned, err := ruleSource(env, req)
	if err != nil {
		return nil, err
	}
	t := &regexTable{log: env.Log, typ: req.Type, name: req.Name, owned: owned}
	var open nesting
	for _, l := range lines {
		p := &ruleParser{t: t, line: l.line, d: d, flags: req.Flags, open: &open}
		if err := p.rule(l.text); err != nil {
			p.warn("%s", err)
		}
	}
	for _, i := range open.open {
		t.warn(t.rules[i].line, "IF has no matching ENDIF")
		t.rules[i].end = len(t.rules)
	}
	return t, nil
}

func (t *regexTable) warn(line int, format string, args ...any) {
	t.log.Warn("%s map %s, line %d: %s", t.typ, t.name, line, fmt.Sprintf(format, args...))
}

// ruleParser reads one rule.
type ruleParser struct {
	t     *regexTable
	d     dialect
	line  int
	flags Flags
	open  *nesting
}

func (p *ruleParser) warn(format string, args ...any) { p.t.warn(p.line, format, args...) }

// errSkip ends a rule for which a warning was given already.
var errSkip = errors.New("bad replacement syntax: skipping this rule")

// rule parses one logical line; an error is the warning text.
func (p *ruleParser) rule(text string) error {
	r := regexRule{block: block{line: p.line}}
	if text == "" {
		return nil
	}
	if alnum(text[0]) {
		kind, rest, ok := keyword(text)
		if !ok {
			return errors.New("ignoring unrecognized request")
		}
		if kind == endifRule {
			return p.endif(rest)
		}
		r.kind, text = ifRule, rest
	}
	rest, err := p.conditions(&r, text)
	if err != nil {
		return err
	}
	if r.kind == ifRule {
		if rest != "" {
			p.warn("ignoring extra text after IF statement: \"%s\"", rest)
			p.warn("do not prepend whitespace to statements between IF and ENDIF")
		}
		p.open.open = append(p.open.open, len(p.t.rules))
	} else if err := p.result(&r, rest); err != nil {
		return err
	}
	p.t.rules = append(p.t.rules, r)
	return nil
}

func (p *ruleParser) endif(rest string) error {
	i, ok := p.open.close()
	if !ok {
		return errors.New("ignoring ENDIF without matching IF")
	}
	if rest != "" {
		p.warn("ignoring extra text after ENDIF")
	}
	p.t.rules = append(p.t.rules, regexRule{block: block{kind: endifRule, line: p.line}})
	p.t.rules[i].end = len(p.t.rules)
	return nil
}

// conditions parses the pattern, or two, and gives the rest of the line.
func (p *ruleParser) conditions(r *regexRule, text string) (rest string, err error) {
	for {
		var c condition
		var pattern, flags string
		text, c.negate = negation(text)
		if text == "" {
			return "", errors.New("no regexp: skipping this rule")
		}
		pattern, text, err = p.delimited(text)
		if err != nil {
			return "", err
		}
		end := strings.IndexAny(text, space+"!")
		if end < 0 || text[end] == '!' && !p.d.second {
			end = strings.IndexAny(text, space)
		}
		if end < 0 {
			end = len(text)
		}
		flags, text = text[:end], text[end:]
		if c.re, err = p.d.compile(p, pattern, flags); err != nil {
			return "", err
		}
		r.conditions = append(r.conditions, c)
		if len(r.conditions) == 2 || !strings.HasPrefix(text, "!") {
			return strings.TrimLeft(text, space), nil
		}
	}
}

// delimited takes the pattern between delimiters off text.
func (p *ruleParser) delimited(text string) (pattern, rest string, err error) {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case text[i] == text[0]:
			return text[1:i], text[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("no closing regexp delimiter \"%c\": %s", text[0], p.d.noDelimiter)
}

func (p *ruleParser) regexp(pattern, flags string) (*regex, error) {
	o := posixOptions{ignoreCase: true, extended: true}
	for i := range len(flags) {
		switch flags[i] {
		case 'i':
			o.ignoreCase = !o.ignoreCase
		case 'm':
			o.newline = !o.newline
		case 'x':
			o.extended = !o.extended
		default:
			return nil, unknownOption(flags[i])
		}
	}
	return compilePOSIX(pattern, o)
}

func (p *ruleParser) pcre(pattern, flags string) (*regex, error) {
	o := pcreOptions{ignoreCase: true, dotAll: true}
	options := map[byte]*bool{
		'i': &o.ignoreCase, 's': &o.dotAll, 'm': &o.multiline, 'x': &o.extended,
		'A': &o.anchored, 'E': &o.dollarEndOnly, 'U': &o.ungreedy,
	}
	for i := range len(flags) {
		on, ok := options[flags[i]]
		switch {
		case ok:
			*on = !*on
		case flags[i] == 'X':
			p.warn("ignoring obsolete regexp option \"X\"")
		default:
			return nil, unknownOption(flags[i])
		}
	}
	return compilePCRE(pattern, o)
}

func unknownOption(c byte) error {
	return fmt.Errorf("unknown regexp option \"%c\": skipping this rule", c)
}

// result parses the text with its $number references.
func (p *ruleParser) result(r *regexRule, text string) error {
	if text == "" {
		p.warn("no replacement text: using empty string")
	}
	if p.flags&SrcRHSIsFile != 0 {
		value, err := FileValue(text)
		if err != nil {
			return fmt.Errorf("%w: skipping this rule", err)
		}
		text = value
	}
	var plain strings.Builder
	first := r.conditions[0]
	for i := 0; i < len(text); i++ {
		if text[i] != '$' {
			plain.WriteByte(text[i])
			continue
		}
		name, length, err := reference(text[i:])
		if err != nil {
			p.t.log.Warn("%s", err)
			return errSkip
		}
		i += length - 1
		if name == "$" {
			plain.WriteByte('$')
			continue
		}
		long, err := strconv.ParseInt(name, 10, 64)
		n := int(int32(long))
		switch {
		case name == "" || strings.Trim(name, "0123456789") != "":
			p.warn("non-numeric replacement index \"%s\"", name)
			return errSkip
		case err != nil || n < 1:
			p.warn("%s replacement index \"%s\"", p.d.outOfRange, name)
			return errSkip
		case p.flags&NoRegsub != 0:
			return errors.New("regular expression substitution is not allowed: skipping this rule")
		case first.negate:
			return errors.New("$number found in negative match replacement text: skipping this rule")
		case n > first.re.groups:
			return fmt.Errorf("out of range replacement index \"%d\": skipping this rule", n)
		}
		r.result = append(r.result, piece{text: plain.String()}, piece{group: n})
		plain.Reset()
	}
	r.result = append(r.result, piece{text: plain.String()})
	return nil
}

// reference reads $$, $name, ${name} or $(name) at the start of text.
func reference(text string) (name string, length int, err error) {
	if len(text) > 1 && text[1] == '$' {
		return "$", 2, nil
	}
	if len(text) > 1 && (text[1] == '{' || text[1] == '(') {
		closing := byte('}')
		if text[1] == '(' {
			closing = ')'
		}
		end := strings.IndexByte(text, closing)
		if end < 0 {
			return "", 0, fmt.Errorf("truncated macro reference: \"%s\"", text)
		}
		return strings.Trim(text[2:end], space), end + 1, nil
	}
	end := 1
	for end < len(text) && (alnum(text[end]) || text[end] == '_') {
		end++
	}
	if end == 1 {
		return "", 0, fmt.Errorf("empty macro name: \"%s\"", text)
	}
	return text[1:end], end, nil
}

func (t *regexTable) Get(_ context.Context, key string) (string, bool, error) {
	for i := 0; i < len(t.rules); i++ {
		r := &t.rules[i]
		if r.kind == endifRule {
			continue
		}
		groups, ok := t.holds(r, key)
		switch {
		case r.kind == ifRule && !ok:
			i = r.end - 1
		case r.kind == matchRule && ok:
			return r.expand(groups), true, nil
		}
	}
	return "", false, nil
}

// holds tells whether all conditions of a rule are met. A failed match engine
// means no, also for a negated pattern.
func (t *regexTable) holds(r *regexRule, key string) (groups []string, ok bool) {
	for i, c := range r.conditions {
		sub, err := c.re.match(key)
		if err != nil {
			t.warn(r.line, "%s", err)
			return nil, false
		}
		if (sub != nil) == c.negate {
			return nil, false
		}
		if i == 0 {
			groups = sub
		}
	}
	return groups, true
}

func (r *regexRule) expand(groups []string) string {
	if len(r.result) == 1 {
		return r.result[0].text
	}
	var b strings.Builder
	for _, p := range r.result {
		if p.group > 0 && p.group < len(groups) {
			b.WriteString(groups[p.group])
		}
		b.WriteString(p.text)
	}
	return b.String()
}

func (t *regexTable) Flags() Flags { return Pattern }
func (t *regexTable) Close() error { return nil }
func (t *regexTable) Owner() Owner { return t.owned }
