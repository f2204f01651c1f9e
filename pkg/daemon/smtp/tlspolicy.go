package smtp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/dsn"
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
	tlsa      []mailtls.TLSA // at the levels of DANE
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
	for _, t := range p.tlsa { // all of the data: as text it is shortened
		words += fmt.Sprintf("\n%d %d %d %x", t.Usage, t.Selector, t.MatchType, t.Data)
	}
	sum := sha256.Sum256([]byte(words))
	return hex.EncodeToString(sum[:])
}

// policyError is the status of a server whose policy is invalid.
var policyError = dsn.Status{Code: "4.7.5", Reason: "client TLS configuration problem"}

// policyKey identifies a policy during a delivery. The server is without its
// address: what DNSSEC says of it counts, since that of a cached connection was
// found at another time.
type policyKey struct {
	dest   string
	server server
}

// policyResult is a policy or why there is none.
type policyResult struct {
	policy *tlsPolicy
	why    dsn.Status
}

// policy is the TLS policy for a server. It is looked up once a delivery.
func (r *request) policy(srv server) (*tlsPolicy, dsn.Status) {
	key := policyKey{r.dest.text, srv}
	key.server.addr, key.server.pref = netip.Addr{}, 0
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
	base := ""
	if p.level.IsDANE() {
		var why dsn.Status
		if base, why = r.dane(p, srv); why.Code != "" {
			return nil, why
		}
	}
	p, why := r.complete(p, &site, srv)
	if p != nil && p.level.IsDANE() {
		p.sni, p.match = base, daneNames(base, r.dest, srv)
	}
	return p, why
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
	switch {
	case p.level.MustMatch():
		exclude = append(exclude, "aNULL")
	case p.level.Mandatory():
		exclude = append(exclude, "eNULL")
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
			anchors, err := mailtls.LoadAnchors(p.tafiles...)
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
	return mailtls.References(list, r.dest.host, srv.host)
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

// tlsPolicyFor is the policy for a server, or false if it cannot be used.
func (r *request) tlsPolicyFor(srv server, cached bool) (*tlsPolicy, bool) {
	p, why := r.policy(srv)
	if p == nil {
		a, b, what := r.dest.text, srv.host, "TLS policy lookup"
		if cached || srv.path != "" {
			what = "TLS policy lookup error"
		}
		if srv.path != "" {
			a, b = srv.host, srv.path
		}
		r.d.log.Warn("%s for %s/%s: %s", what, a, b, why.Reason)
		r.why = why
		return nil, false
	}
	if usable(p, srv) != p && !cached {
		r.d.log.Warn("smtp_connect_local: opportunistic TLS encryption is not appropriate for unix-domain destinations.")
	}
	p = usable(p, srv)
	if r.d.tls.wrapper && !p.level.Mandatory() {
		r.d.log.Warn("%stls_wrappermode requires \"%stls_security_level = encrypt\" (or stronger)", r.d.prefix, r.d.prefix)
		return nil, false
	}
	return p, true
}

// usable is the policy for a server as it can be had: no opportunistic TLS on
// this machine.
func usable(p *tlsPolicy, srv server) *tlsPolicy {
	if srv.path != "" && p.level == mailtls.LevelMay {
		return plaintext
	}
	return p
}
