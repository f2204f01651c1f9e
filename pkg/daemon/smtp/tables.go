package smtp

import (
	"context"
	"fmt"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
)

// tables are the lookup tables; those not configured are nil.
type tables struct {
	generic, discardEHLO, pix, replyFilter, dnsFilter  *table.Maps
	headerChecks, mimeChecks, nestedChecks, bodyChecks *table.Maps
	tlsPolicy, tlsPerSite, password                    *table.Maps
	cacheDestinations, local, mechanisms               *table.MatchList
	authCache                                          table.Table // SASL failures; nil: none
	all                                                []*table.Maps
}

func (t *tables) open(s *settings, c *conf.Config, log *maillog.Logger) error {
	env := table.Env{Config: c, Log: log, Daemon: true}
	keywords := "discard_ehlo_keyword_address_maps"
	if s.lmtp {
		keywords = "discard_lhlo_keyword_address_maps"
	}
	const fold = table.Lock | table.FoldFix
	list := []struct {
		dst   **table.Maps
		name  string
		flags table.Flags
	}{
		{&t.generic, "generic_maps", fold | table.UTF8Request},
		{&t.discardEHLO, keywords, table.Lock},
		{&t.pix, "pix_workaround_maps", table.Lock},
		{&t.replyFilter, "reply_filter", fold},
		{&t.dnsFilter, "dns_reply_filter", fold},
		{&t.headerChecks, "header_checks", table.Lock},
		{&t.mimeChecks, "mime_header_checks", table.Lock},
		{&t.nestedChecks, "nested_header_checks", table.Lock},
		{&t.bodyChecks, "body_checks", table.Lock},
	}
	for _, e := range list {
		if err := t.add(env, e.dst, s.prefix+e.name, c.String(s.prefix+e.name), e.flags); err != nil {
			return err
		}
	}
	if err := t.tlsTables(env, s.prefix, s.tls.policyMaps, s.tls.perSite); err != nil {
		return err
	}
	err := t.openSASL(env, s, c)
	if err != nil {
		return err
	}
	if !t.generic.Empty() {
		if t.local, err = table.NewMatchList(env, "mydestination", c.String("mydestination"), table.MatchDomain, 0); err != nil {
			return err
		}
	}
	if s.cacheDestinations == "" {
		return nil
	}
	t.cacheDestinations, err = table.NewMatchList(env, s.prefix+"connection_cache_destinations", s.cacheDestinations, table.MatchString, 0)
	return err
}

func (t *tables) add(env table.Env, dst **table.Maps, title, specs string, flags table.Flags) error {
	if specs == "" {
		return nil
	}
	m, err := table.OpenMaps(env, title, specs, flags)
	if err != nil {
		return err
	}
	*dst = m
	t.all = append(t.all, m)
	return nil
}

func (t *tables) changed() (string, bool) {
	for _, m := range t.all {
		if name, changed := m.Changed(); changed {
			return name, true
		}
	}
	if t.cacheDestinations != nil {
		return t.cacheDestinations.Changed()
	}
	return "", false
}

// filterRecords is smtp_dns_reply_filter: each record is looked up in its
// textual form, and IGNORE removes it.
func (d *daemon) filterRecords(records []dns.Record) ([]dns.Record, error) {
	var kept []dns.Record
	for _, rr := range records {
		value, found, err := d.tables.dnsFilter.Find(context.Background(), rr.String())
		switch {
		case err != nil:
			return nil, err
		case !found:
			kept = append(kept, rr)
		case !strings.EqualFold(value, "IGNORE"):
			return nil, fmt.Errorf("unknown DNS filter action: \"%s\"", value)
		default:
			d.log.Info("ignoring DNS RR: %s", rr.String())
		}
	}
	return kept, nil
}

// myDomain reports whether a domain is local as mydestination says; address
// literals are not looked at here.
func (t *tables) myDomain(ctx context.Context, domain string) (bool, error) {
	if t.local == nil {
		return false, nil
	}
	return t.local.Match(ctx, domain)
}
