package smtp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
)

// tlsPolicy is what TLS must be on a connection to one server (delivery.md
// §2.11). It does not change once it is made.
type tlsPolicy struct {
	level     mailtls.Level
	protocols string
	grade     string   // of ciphers
	exclude   string   // ciphers not to use
	match     []string // names, or digests at level fingerprint
	sni       string
	anchors   *mailtls.Anchors // the only ones to trust, instead of CAfile and CApath
	tafiles   []string
	reuse     bool
}

// plaintext is the policy of a second try without TLS.
var plaintext = &tlsPolicy{}

// key is the same for policies that connections may share: those that came to
// be with the same words.
func (p *tlsPolicy) key() string {
	if p.level == mailtls.LevelNone {
		return "0"
	}
	words := fmt.Sprintf("%d\n%s\n%s\n%s\n%q\n%s\n%q", p.level, p.protocols, p.grade, p.exclude, p.match, p.sni, p.tafiles)
	sum := sha256.Sum256([]byte(words))
	return hex.EncodeToString(sum[:])
}

// policyError is the status of a server whose policy is invalid.
var policyError = dsn.Status{Code: "4.7.5", Reason: "client TLS configuration problem"}

// policyKey identifies a policy during a delivery.
type policyKey struct {
	dest, host string
	port       uint16
}

// policyResult is a policy or why there is none.
type policyResult struct {
	policy *tlsPolicy
	why    dsn.Status
}

// policy is the TLS policy for a server. It is looked up once a delivery.
func (r *request) policy(srv server) (*tlsPolicy, dsn.Status) {
	key := policyKey{r.dest.text, srv.host, srv.port}
	if found, ok := r.policies[key]; ok {
		return found.policy, found.why
	}
	p, why := r.newPolicy(srv)
	if r.policies == nil {
		r.policies = make(map[policyKey]policyResult)
	}
	r.policies[key] = policyResult{p, why}
	return p, why
}

// newPolicy makes the policy: a site's own, completed by main.cf.
func (r *request) newPolicy(srv server) (*tlsPolicy, dsn.Status) {
	p := &tlsPolicy{level: mailtls.LevelInvalid, reuse: r.d.tls.reuse}
	site := sitePolicy{tlsPolicy: p, warn: r.d.log.Warn}
	found := false
	switch {
	case !r.d.tables.tlsPolicy.Empty():
		var ok bool
		if found, ok = r.lookupPolicy(&site); !ok {
			return nil, policyError
		}
	case !r.d.tables.tlsPerSite.Empty():
		var why dsn.Status
		if found, why = r.perSite(p, srv); why.Code != "" {
			return nil, why
		}
	}
	if !found || r.d.tables.tlsPolicy.Empty() && p.level == mailtls.LevelMay && r.d.tls.level > mailtls.LevelMay {
		p.level = r.d.tls.level
	}
	if p.level == mailtls.LevelNone {
		return p, dsn.Status{}
	}
	if why := r.noDane(p); why.Code != "" {
		return nil, why
	}
	return r.complete(p, &site, srv)
}

// complete fills in what the site's entry does not say.
func (r *request) complete(p *tlsPolicy, site *sitePolicy, srv server) (*tlsPolicy, dsn.Status) {
	t := &r.d.tls
	exclude := []string{t.exclude}
	if p.level.Mandatory() {
		exclude = append(exclude, t.mandatoryExclude)
	}
	if site.seen["exclude"] {
		exclude = []string{p.exclude}
	}
	if p.level.Mandatory() {
		exclude = append(exclude, "eNULL")
	}
	if p.level.MustMatch() {
		exclude = append(exclude, "aNULL")
	}
	p.exclude = strings.Join(slices.DeleteFunc(exclude, func(s string) bool { return s == "" }), " ")
	if p.grade == "" {
		if p.grade = t.grade; p.level.Mandatory() {
			p.grade = t.mandatoryGrade
		}
	}
	if !site.seen["protocols"] {
		if p.protocols = t.protocols; p.level.Mandatory() {
			p.protocols = t.mandatoryProtocols
		}
	}
	if !site.seen["servername"] {
		p.sni = t.servername
		if p.sni != "" && !dns.ValidHostname(p.sni) {
			r.d.log.Warn("\"%stls_servername = %s\" specifies an invalid hostname", r.d.prefix, p.sni)
			return nil, policyError
		}
	}
	p.sni = r.serverName(p.sni, srv)
	switch p.level {
	case mailtls.LevelFingerprint:
		if len(p.match) == 0 {
			p.match = conf.Fields(t.fingerprintMatch)
		}
		if len(p.match) == 0 {
			r.d.log.Warn("nexthop domain %s: configured at fingerprint security level, but with no fingerprints to match.", r.dest.text)
			return nil, policyError
		}
	case mailtls.LevelVerify, mailtls.LevelSecure:
		if len(p.match) == 0 {
			list := t.verifyMatch
			if p.level == mailtls.LevelSecure {
				list = t.secureMatch
			}
			p.match = strings.FieldsFunc(list, isMatchSeparator)
		}
		p.match = r.references(p.match, srv)
		if len(p.tafiles) == 0 && t.anchorFile != "" {
			p.tafiles = []string{t.anchorFile}
			anchors, err := loadAnchors(p.tafiles)
			if err != nil {
				r.d.log.Warn("%v", err)
				return nil, policyError
			}
			p.anchors = anchors
		}
	}
	return p, dsn.Status{}
}

func isMatchSeparator(c rune) bool { return strings.ContainsRune(", \t\r\n:", c) }

// serverName is the SNI of a setting.
func (r *request) serverName(setting string, srv server) string {
	switch strings.ToLower(setting) {
	case "hostname":
		return srv.host
	case "nexthop":
		return r.dest.host
	}
	return setting
}

// references turns the words of a match list into names.
func (r *request) references(list []string, srv server) []string {
	var out []string
	for _, word := range list {
		name, dot := word, ""
		switch strings.ToLower(word) {
		case "nexthop":
			name = r.dest.host
		case "dot-nexthop":
			name, dot = r.dest.host, "."
		case "hostname":
			name = srv.host
		default:
			if strings.HasPrefix(word, ".") {
				name, dot = word[1:], "."
			}
		}
		if ascii, ok := dns.ASCII(name); ok && ascii != "" {
			out = append(out, dot+ascii)
		}
	}
	return out
}

// lookupPolicy finds the entry of smtp_tls_policy_maps for the destination as it
// is written or, if that is a plain host name, for a parent domain.
func (r *request) lookupPolicy(site *sitePolicy) (found, ok bool) {
	key := r.dest.text
	parents := r.dest.unix == "" && dns.ValidHostname(key)
	for {
		site.where = fmt.Sprintf("%stls_policy_maps, next-hop destination \"%s\"", r.d.prefix, key)
		value, found, err := r.d.tables.tlsPolicy.Find(r.ctx, key)
		if err != nil {
			site.problem("policy table lookup error")
			return true, false
		}
		if found {
			return true, site.parse(value)
		}
		i := strings.IndexByte(key[1:], '.')
		if !parents || i < 0 {
			return false, true
		}
		key = key[1+i:]
	}
}

// perSite applies smtp_tls_per_site, the predecessor of the policy maps.
// why is a status when that failed.
func (r *request) perSite(p *tlsPolicy, srv server) (found bool, why dsn.Status) {
	const name = "tls_per_site"
	for i, key := range []string{r.dest.text, srv.host} {
		kind := [...]string{"next-hop destination", "server hostname"}[i]
		value, hit, err := r.d.tables.tlsPerSite.Find(r.ctx, key)
		if err != nil {
			r.d.log.Warn("%s%s: %s \"%s\": per-site table lookup error", r.d.prefix, name, kind, key)
			return true, dsn.Status{Code: "4.3.0", Reason: "Temporary lookup error"}
		}
		if !hit {
			continue
		}
		at, known := perSiteLevels[strings.ToUpper(value)]
		if !known {
			r.d.log.Warn("%s%s: unknown TLS policy '%s' for %s %s", r.d.prefix, name, value, kind, key)
			return true, policyError
		}
		if at == mailtls.LevelNone && p.level <= mailtls.LevelMay || at == mailtls.LevelMay && p.level < mailtls.LevelNone || at > mailtls.LevelMay && at > p.level {
			p.level = at
		}
		found = true
	}
	return found, why
}

var perSiteLevels = map[string]mailtls.Level{"NONE": mailtls.LevelNone, "MAY": mailtls.LevelMay,
	"MUST_NOPEERMATCH": mailtls.LevelEncrypt, "MUST": mailtls.LevelVerify}

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
	anchors, err := loadAnchors(s.tafiles)
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
