package table

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// MatchKind says how the patterns of a MatchList are compared.
type MatchKind int

// The kinds of pattern list (config.md 3.16).
const (
	MatchString   MatchKind = iota // equality
	MatchDomain                    // a host or domain name and, depending on the list, its subdomains
	MatchHostAddr                  // each pattern against the host name, then the address
	MatchAddr                      // an address against addresses and networks
)

// MatchFlags refine a MatchList.
type MatchFlags int

// ParentSubdomains makes a pattern d match x.d also; without it .d does.
// NewMatchList sets it by itself for lists named in parent_domain_matches_subdomains.
const ParentSubdomains MatchFlags = 1

// maxPatternFiles bounds the nesting of pattern files that name each other.
const maxPatternFiles = 100

// MatchList is a pattern list such as mynetworks. It is immutable; the tables
// in it are safe for concurrent use.
type MatchList struct {
	env      Env
	title    string
	kind     MatchKind
	parents  bool
	utf8     bool
	patterns []pattern
}

type pattern struct {
	negate bool
	text   string // folded literal
	table  Table
	net    *network
	bad    error // a network that does not parse
}

// NewMatchList parses patterns. title is the parameter's name, for messages and
// for parent_domain_matches_subdomains. An error is worded for "fatal: ".
func NewMatchList(env Env, title, patterns string, kind MatchKind, flags MatchFlags) (*MatchList, error) {
	l := &MatchList{env: env, title: title, kind: kind, parents: flags&ParentSubdomains != 0, utf8: env.smtputf8()}
	if !l.parents && env.Config != nil && (kind == MatchDomain || kind == MatchHostAddr) {
		l.parents = ParentStyle(env, title)
	}
	if err := l.parse(patterns, false, 0); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ParentStyle tells whether the list or feature called name is in
// parent_domain_matches_subdomains, itself a string list.
func ParentStyle(env Env, name string) bool {
	const parameter = "parent_domain_matches_subdomains"
	if env.Config == nil {
		return false
	}
	l, err := NewMatchList(env, parameter, env.Config.String(parameter), MatchString, 0)
	if err != nil {
		return false
	}
	defer l.Close()
	ok, _ := l.Match(context.Background(), name)
	return ok
}

func (l *MatchList) parse(text string, negate bool, depth int) error {
	items := SplitList(text)
	for i, item := range items {
		if strings.HasPrefix(item, "#") {
			l.env.Log.Warn("%s: comment at end of line is not supported: %s", l.title, strings.Join(items[i:], " "))
			return nil
		}
		p := pattern{negate: negate}
		for strings.HasPrefix(item, "!") {
			p.negate = !p.negate
			item = item[1:]
		}
		if item == "" {
			return fmt.Errorf("%s: no pattern after '!'", l.title)
		}
		switch {
		case item[0] == '/':
			if err := l.parseFile(item, p.negate, depth); err != nil {
				return err
			}
			continue
		case strings.Contains(item, ":") && item[0] != '[':
			t, err := Open(l.env, item, Lock|UTF8Request)
			if err != nil {
				return err
			}
			p.table = t
		default:
			p.text = Fold(item, l.utf8)
			l.prepareNetwork(&p)
		}
		l.patterns = append(l.patterns, p)
	}
	return nil
}

func (l *MatchList) parseFile(path string, negate bool, depth int) error {
	if depth >= maxPatternFiles {
		return fmt.Errorf("%s: %s: pattern files are nested too deeply", l.title, path)
	}
	f, err := os.Open(path)
	if err != nil {
		err = openError("open file "+path, err)
		if l.env.Strict {
			return err
		}
		l.env.Log.Error("%s", err)
		spec := "non-existent:" + path
		h := &handle{env: l.env, smtputf8: l.utf8, spec: spec, typ: "non-existent", name: path}
		h.b = &unavailable{log: l.env.Log, spec: spec, reason: err}
		l.patterns = append(l.patterns, pattern{negate: negate, table: h})
		return nil
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, readErr := r.ReadString('\n')
		if line != "" && line[0] != '#' {
			if err := l.parse(strings.TrimSuffix(line, "\n"), negate, depth+1); err != nil {
				return err
			}
		}
		if readErr != nil {
			return nil
		}
	}
}

// networkBytes is all that may occur in a network pattern.
const networkBytes = "0123456789abcdefABCDEF.:[]/"

func (l *MatchList) prepareNetwork(p *pattern) {
	if l.kind != MatchHostAddr && l.kind != MatchAddr {
		return
	}
	if !strings.ContainsAny(p.text, "/[") || strings.Trim(p.text, networkBytes) != "" {
		return
	}
	n, err := parseNetwork(p.text)
	if err != nil {
		p.bad = err
		return
	}
	p.net = &n
}

// Empty tells that there are no patterns.
func (l *MatchList) Empty() bool { return l == nil || len(l.patterns) == 0 }

// Title is the name given to NewMatchList.
func (l *MatchList) Title() string { return l.title }

// Match tells whether the first pattern that matches one of the keys (for
// MatchHostAddr: host name, address) is not negated. Trouble with a table or a
// bad network pattern ends the search with an error.
func (l *MatchList) Match(ctx context.Context, keys ...string) (bool, error) {
	if l == nil {
		return false, nil
	}
	subjects := make([]subject, len(keys))
	for i, key := range keys {
		subjects[i] = l.subject(key, i)
	}
	for i := range l.patterns {
		p := &l.patterns[i]
		for _, s := range subjects {
			ok, err := s.match(ctx, l, p)
			if err != nil {
				return false, err
			}
			if ok {
				return !p.negate, nil
			}
		}
	}
	return false, nil
}

// subject is a key made ready for comparison.
type subject struct {
	key  string
	how  MatchKind
	addr netip.Addr
}

func (l *MatchList) subject(key string, position int) subject {
	s := subject{key: Fold(key, l.utf8), how: l.kind}
	if l.kind == MatchHostAddr {
		s.how = MatchDomain
		if position > 0 {
			s.how = MatchAddr
		}
	}
	if s.how == MatchAddr {
		s.addr, _ = parseAddr(s.key)
	}
	return s
}

func (s subject) match(ctx context.Context, l *MatchList, p *pattern) (bool, error) {
	switch s.how {
	case MatchDomain:
		return s.matchDomain(ctx, l, p)
	case MatchAddr:
		return s.matchAddr(ctx, l, p)
	}
	if p.table != nil {
		return s.inTable(ctx, l, p, s.key)
	}
	return s.key == p.text, nil
}

func (s subject) inTable(ctx context.Context, l *MatchList, p *pattern, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	_, found, err := p.table.Lookup(ctx, key)
	if err != nil {
		l.env.Log.Warn("%s: %s: table lookup problem", l.title, MessageName(p.table))
	}
	return found, err
}

func (s subject) matchDomain(ctx context.Context, l *MatchList, p *pattern) (bool, error) {
	if p.table == nil {
		if s.key == p.text {
			return true, nil
		}
		suffix := p.text
		if l.parents {
			suffix = "." + suffix
		} else if !strings.HasPrefix(suffix, ".") {
			return false, nil
		}
		return len(s.key) > len(suffix) && strings.HasSuffix(s.key, suffix), nil
	}
	for key := s.key; key != ""; key = parent(key, l.parents) {
		found, err := s.inTable(ctx, l, p, key)
		if found || err != nil {
			return found, err
		}
		if p.table.Flags()&Fixed == 0 {
			return false, nil
		}
	}
	return false, nil
}

func (s subject) matchAddr(ctx context.Context, l *MatchList, p *pattern) (bool, error) {
	if s.key == "" || strings.Trim(s.key, "0123456789abcdefABCDEF.:") != "" {
		return false, nil
	}
	if p.table != nil {
		return s.inTable(ctx, l, p, s.key)
	}
	if s.key == p.text || p.text == "["+s.key+"]" {
		return true, nil
	}
	if p.bad != nil {
		if strings.Contains(p.text, ":") != strings.Contains(s.key, ":") {
			return false, nil
		}
		l.env.Log.Warn("%s: %s", l.title, p.bad)
		return false, &Error{Table: l.title, Temporary: true, Err: p.bad}
	}
	return p.net != nil && s.addr.IsValid() && p.net.contains(s.addr), nil
}

// Changed gives the registry name of a table in the list whose file changed.
func (l *MatchList) Changed() (name string, changed bool) {
	if l == nil {
		return "", false
	}
	for _, p := range l.patterns {
		if p.table != nil && Changed(p.table) {
			return RegistryName(p.table), true
		}
	}
	return "", false
}

// Close closes the tables in the list.
func (l *MatchList) Close() error {
	var all error
	for _, p := range l.patterns {
		if p.table != nil {
			all = errors.Join(all, p.table.Close())
		}
	}
	return all
}
