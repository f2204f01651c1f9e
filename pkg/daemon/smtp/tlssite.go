package smtp

import (
	"fmt"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
)

// sitePolicy reads an entry of the policy table: a level, then attributes.
type sitePolicy struct {
	*tlsPolicy
	where string // what the entry is, for warnings
	warn  func(format string, a ...any)
	seen  map[string]bool // attributes that were given
}

func (s *sitePolicy) problem(format string, a ...any) bool {
	s.warn("%s: %s", s.where, fmt.Sprintf(format, a...))
	return false
}

// policyAttribute is the rule of one attribute: whether it can be given once
// only, whether it needs a value, and what to do with it.
type policyAttribute struct {
	once, value bool
	set         func(s *sitePolicy, name, value string) bool
}

var policyAttributes = map[string]policyAttribute{
	"ciphers":          {once: true, value: true, set: func(s *sitePolicy, _, v string) bool { s.grade = v; return true }},
	"protocols":        {once: true, set: func(s *sitePolicy, _, v string) bool { s.protocols = v; return true }},
	"servername":       {once: true, set: (*sitePolicy).setServername},
	"match":            {value: true, set: (*sitePolicy).addMatch},
	"exclude":          {once: true, set: func(s *sitePolicy, _, v string) bool { s.exclude = v; return true }},
	"tafile":           {value: true, set: (*sitePolicy).addAnchors},
	"connection_reuse": {set: (*sitePolicy).setReuse},
}

// parse reads an entry; false means that it is invalid, which has been logged.
func (s *sitePolicy) parse(entry string) bool {
	words := conf.Fields(entry)
	if len(words) == 0 {
		return s.problem("invalid empty policy")
	}
	level, err := mailtls.ParseLevel(words[0])
	if err != nil {
		return s.problem("invalid security level \"%s\"", words[0])
	}
	s.level, s.seen = level, map[string]bool{}
	for _, word := range words[1:] {
		if level == mailtls.LevelNone {
			s.problem("ignoring attribute \"%s\" with TLS disabled", word)
			continue
		}
		if !s.attribute(word) {
			return false
		}
	}
	return true
}

func (s *sitePolicy) attribute(word string) bool {
	name, value, err := conf.SplitNameValue(word)
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), ": ")
		return s.problem("malformed attribute/value pair \"%s\": %s", word, text)
	}
	rule, known := policyAttributes[strings.ToLower(name)]
	seen := s.seen[strings.ToLower(name)]
	switch {
	case !known:
		return s.problem("invalid attribute name: \"%s\"", name)
	case rule.value && value == "":
		return s.problem("attribute \"%s\" has empty value", name)
	case rule.once && seen:
		return s.problem("attribute \"%s\" is specified multiple times", name)
	}
	s.seen[strings.ToLower(name)] = true
	return rule.set(s, name, value)
}

func (s *sitePolicy) wrongLevel(name string) bool {
	return s.problem("attribute \"%s\" invalid at security level \"%s\"", name, s.level)
}

func (s *sitePolicy) addMatch(name, value string) bool {
	var separator string
	switch s.level {
	case mailtls.LevelFingerprint:
		separator = "|"
	case mailtls.LevelVerify, mailtls.LevelSecure:
		separator = ":"
	default:
		return s.wrongLevel(name)
	}
	s.match = append(s.match, slices.DeleteFunc(strings.Split(value, separator), func(w string) bool { return w == "" })...)
	return true
}

func (s *sitePolicy) setServername(name, value string) bool {
	if !dns.ValidHostname(value) {
		return s.problem("\"%s=%s\" specifies an invalid hostname", name, value)
	}
	s.sni = value
	return true
}

func (s *sitePolicy) addAnchors(name, value string) bool {
	if s.level != mailtls.LevelVerify && s.level != mailtls.LevelSecure {
		return s.wrongLevel(name)
	}
	s.tafiles = append(s.tafiles, value)
	anchors, err := mailtls.LoadAnchors(s.tafiles...)
	if err != nil {
		s.warn("%v", err)
		return false
	}
	s.anchors = anchors
	return true
}

func (s *sitePolicy) setReuse(name, value string) bool {
	switch strings.ToLower(value) {
	case "yes":
		s.reuse = true
	case "no":
		s.reuse = false
	default:
		return s.problem("attribute \"%s\" has bad value: \"%s\"", name, value)
	}
	return true
}

// tlsTables opens the two tables of policies; the second is not used with the first.
func (t *tables) tlsTables(env table.Env, prefix string, policy, perSite string) error {
	const flags = table.Lock | table.FoldFix
	if policy != "" && perSite != "" {
		env.Log.Warn("%stls_per_site ignored when %stls_policy_maps is not empty.", prefix, prefix)
		perSite = ""
	}
	if err := t.add(env, &t.tlsPolicy, prefix+"tls_policy_maps", policy, flags|table.UTF8Request); err != nil {
		return err
	}
	return t.add(env, &t.tlsPerSite, prefix+"tls_per_site", perSite, flags|table.UTF8Request)
}
