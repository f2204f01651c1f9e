package table

import (
	"fmt"
	"os"
	"strings"

	"posthaste/pkg/conf"
)

// ruleLine is one rule of a regexp, pcre or cidr table.
type ruleLine struct {
	text string
	line int
}

// ruleSource reads a file or the inline form { {rule}, {rule} ... }.
func ruleSource(env Env, req Request) (lines []ruleLine, owned Owner, err error) {
	if strings.HasPrefix(req.Name, "{") {
		lines, err = inlineRules(req)
		return lines, Owner{Known: true, Trusted: os.Getuid() == 0, UID: os.Getuid()}, err
	}
	f, err := os.Open(req.Name)
	if err != nil {
		return nil, owned, openError("open "+req.Name, err)
	}
	defer f.Close()
	r := NewLineReader(f, req.Name, env.Log)
	for {
		text, n, ok := r.Next()
		if !ok {
			break
		}
		lines = append(lines, ruleLine{strings.TrimRight(text, space), n})
	}
	if err := r.Err(); err != nil {
		return nil, owned, openError("read "+req.Name, err)
	}
	return lines, fileOwner(f), nil
}

func inlineRules(req Request) ([]ruleLine, error) {
	inside, err := conf.Unbrace(req.Name)
	if err != nil {
		return nil, fmt.Errorf("%s map: %w", req.Type, err)
	}
	var lines []ruleLine
	for i, item := range SplitList(inside) {
		rule, err := conf.Unbrace(item)
		if err != nil {
			return nil, fmt.Errorf("%s map: %w", req.Type, err)
		}
		if rule == "" || rule[0] == '#' {
			continue
		}
		lines = append(lines, ruleLine{rule, i + 1})
	}
	return lines, nil
}

// block is the if/endif structure common to all rule tables. A rule of kind
// ifRule whose condition fails continues behind its endif.
type block struct {
	kind ruleKind
	line int
	end  int // of ifRule: index behind its endif
}

type ruleKind byte

const (
	matchRule ruleKind = iota
	ifRule
	endifRule
)

// keyword splits "if rest" or "endif rest" off a rule.
func keyword(text string) (kind ruleKind, rest string, ok bool) {
	for _, k := range [...]struct {
		word string
		kind ruleKind
	}{{"if", ifRule}, {"endif", endifRule}} {
		n := len(k.word)
		if len(text) >= n && strings.EqualFold(text[:n], k.word) && (len(text) == n || !alnum(text[n])) {
			return k.kind, strings.TrimLeft(text[n:], space), true
		}
	}
	return 0, "", false
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// nesting pairs if and endif while rules are read.
type nesting struct{ open []int }

// close gives the index of the if that an endif ends.
func (n *nesting) close() (int, bool) {
	if len(n.open) == 0 {
		return 0, false
	}
	i := n.open[len(n.open)-1]
	n.open = n.open[:len(n.open)-1]
	return i, true
}

// negation counts leading "!" among blanks.
func negation(text string) (rest string, negate bool) {
	for text != "" && (text[0] == '!' || strings.IndexByte(space, text[0]) >= 0) {
		negate = negate != (text[0] == '!')
		text = text[1:]
	}
	return text, negate
}
