package table

import (
	"context"
	"net/netip"
	"strings"
)

// cidrRule is one rule of a cidr table.
type cidrRule struct {
	block
	negate bool
	net    network
	value  string
}

// cidrTable is a cidr table (config.md 3.11).
type cidrTable struct {
	rules []cidrRule
	owned Owner
}

func openCIDR(env Env, req Request) (Backend, error) {
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	lines, owned, err := ruleSource(env, req)
	if err != nil {
		return nil, err
	}
	t := &cidrTable{owned: owned}
	var open nesting
	for _, l := range lines {
		if reason := t.add(l, &open, req.Flags); reason != "" {
			env.Log.Warn("cidr map %s, line %d: %s: skipping this rule", req.Name, l.line, reason)
		}
	}
	for _, i := range open.open {
		env.Log.Warn("cidr map %s, line %d: IF has no matching ENDIF", req.Name, t.rules[i].line)
		t.rules[i].end = len(t.rules)
	}
	return t, nil
}

// add parses a rule; the result is the reason to skip it.
func (t *cidrTable) add(l ruleLine, open *nesting, flags Flags) string {
	r := cidrRule{block: block{line: l.line}}
	text := l.text
	kind, rest, isKeyword := keyword(text)
	if isKeyword && kind == endifRule {
		if rest != "" {
			return "garbage after ENDIF"
		}
		i, ok := open.close()
		if !ok {
			return "ENDIF without IF"
		}
		t.rules = append(t.rules, cidrRule{block: block{kind: endifRule, line: l.line}})
		t.rules[i].end = len(t.rules)
		return ""
	}
	if isKeyword {
		r.kind, text = ifRule, rest
	}
	text, r.negate = negation(text)
	pattern, value := text, ""
	if i := strings.IndexAny(text, space); i >= 0 && r.kind == matchRule {
		pattern, value = text[:i], strings.Trim(text[i:], space)
	}
	if pattern == "" {
		return "no address pattern"
	}
	if r.kind == matchRule && value == "" {
		return "no lookup result"
	}
	var err error
	if r.net, err = parseNetwork(pattern); err != nil {
		return err.Error()
	}
	r.value = value
	if flags&SrcRHSIsFile != 0 && r.kind == matchRule {
		if r.value, err = FileValue(value); err != nil {
			return err.Error()
		}
	}
	if r.kind == ifRule {
		open.open = append(open.open, len(t.rules))
	}
	t.rules = append(t.rules, r)
	return ""
}

func (t *cidrTable) Get(_ context.Context, key string) (string, bool, error) {
	a, ok := parseAddr(key)
	if !ok {
		return "", false, nil
	}
	for i := 0; i < len(t.rules); i++ {
		r := &t.rules[i]
		if r.kind == endifRule {
			continue
		}
		match := r.matches(a)
		switch {
		case r.kind == ifRule && !match:
			i = r.end - 1
		case r.kind == matchRule && match:
			return r.value, true, nil
		}
	}
	return "", false, nil
}

// matches: a negated rule holds for other addresses of its own family only.
func (r *cidrRule) matches(a netip.Addr) bool {
	return r.net.sameFamily(a) && r.net.prefix.Contains(a) != r.negate
}

func (t *cidrTable) Flags() Flags { return Pattern }
func (t *cidrTable) Close() error { return nil }
func (t *cidrTable) Owner() Owner { return t.owned }
