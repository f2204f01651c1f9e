package smtp

import (
	"fmt"
	"slices"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/wire/dane"
	mailtls "posthaste/pkg/wire/tls"
)

// insecureMX reads *_tls_dane_insecure_mx_policy: the level of hosts that were
// found by MX records for which DNSSEC does not vouch.
func insecureMX(c *conf.Config, name string) (mailtls.Level, error) {
	word := c.String(name)
	levels := map[string]mailtls.Level{"may": mailtls.LevelMay, "encrypt": mailtls.LevelEncrypt, "dane": mailtls.LevelHalfDane}
	level, ok := levels[word]
	if !ok {
		return level, fmt.Errorf("invalid %s: \"%s\"", name, word)
	}
	return level, nil
}

// noDANE says why DANE cannot work with this configuration.
func (r *request) noDANE(level mailtls.Level) string {
	t := &r.d.tls
	switch {
	case t.daneLookups:
		return fmt.Sprintf("%s: %s configured with dnssec lookups disabled", r.dest.text, level)
	case t.daneMXErrors:
		return fmt.Sprintf("%s: %s configured with MX lookup errors ignored", r.dest.text, level)
	case t.daneOptions:
		return fmt.Sprintf("%s: dns resolver options incompatible with %s TLS", r.dest.text, level)
	}
	return ""
}

// dane completes a policy at a level of DANE: with the server's TLSA records,
// or with the level that takes its place without them. base is the name that
// they belong to; a status says that the server cannot be used.
func (r *request) dane(p *tlsPolicy, srv server) (base string, why dsn.Status) {
	if r.dest.unix != "" {
		r.d.log.Warn("%s: the \"%s\" security level is invalid for delivery via unix-domain sockets", r.dest.text, p.level)
		return "", policyError
	}
	only := p.level == mailtls.LevelDaneOnly
	if text := r.noDANE(p.level); text != "" {
		r.d.log.Warn("%s", text)
		if only {
			return "", policyError
		}
		p.level = mailtls.LevelMay
		return "", why
	}
	// instead is what there is to do without DANE.
	instead := func(level mailtls.Level, text string) (string, dsn.Status) {
		if only {
			return "", dsn.Status{Code: "4.7.5", Reason: text}
		}
		p.level = level
		return "", dsn.Status{}
	}
	t := &r.d.tls
	if srv.insecureMX && (only || t.daneInsecureMX == mailtls.LevelMay) {
		return instead(mailtls.LevelMay, "non DNSSEC destination")
	}
	finder := dane.Finder{Resolver: r.d.resolver, Force: t.daneForce, Log: r.d.log, Trace: t.log.Has(mailtls.LogVerbose | mailtls.LogDANE)}
	found, err := finder.Find(r.ctx, dane.Host{Name: srv.host, Actual: srv.actual, Secure: srv.secure, Port: srv.port})
	switch {
	case err != nil:
		return "", dsn.Status{Code: "4.7.5", Reason: fmt.Sprintf("TLSA lookup error for %s:%d", srv.host, srv.port)}
	case !found.Found:
		return instead(mailtls.LevelMay, "no TLSA records found")
	case len(found.Records) == 0:
		return instead(mailtls.LevelEncrypt, "TLSA records unusable")
	case srv.insecureMX:
		p.level = t.daneInsecureMX
	}
	if p.level.IsDANE() {
		p.tlsa = found.Records
	}
	return found.Base, why
}

// daneNames are the names of which a certificate below a trust anchor must have
// one.
func daneNames(base string, dest destination, srv server) []string {
	list := []string{base}
	if srv.domain != "" {
		list = append(list, srv.domain, dest.host)
	}
	return mailtls.References(slices.Compact(list), "", "")
}
