package rewrite

import (
	"context"
	"errors"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/table/localdomain"
)

// Resolver has everything that rewriting and resolving need. It is immutable and
// safe for concurrent use.
type Resolver struct {
	log      *maillog.Logger
	syntax   Syntax
	contexts map[string]Context
	local    *localdomain.Set

	aliasDomains, mailboxDomains, relayDomains *table.MatchList
	relocated                                  *table.Maps
	normal, probe                              route
	keys, transportKeys                        table.AddressOptions

	configDir, myhostname, emptyRecipient string
	emptyTransportKey, emptyRelayhostKey  string
	errorService                          string
	dequote, nullDomain, numericDomain    bool
	allowMinus, showTable, helpful, utf8  bool
}

// Table options: request flags of spec config.md §4.2.
const (
	folded = table.Lock | table.FoldFix | table.UTF8Request
	plain  = folded | table.NoRegsub
)

// NewResolver opens the tables.
func NewResolver(c *conf.Config, log *maillog.Logger) (*Resolver, error) {
	env := table.Env{Config: c, Log: log, Daemon: true}
	remote := c.String("remote_header_rewrite_domain")
	r := &Resolver{
		log: log,
		syntax: Syntax{
			SwapBangPath: c.Bool("swap_bangpath"),
			PercentHack:  c.Bool("allow_percent_hack"),
			AppendOrigin: c.Bool("append_at_myorigin"),
			AppendDomain: c.Bool("append_dot_mydomain"),
		},
		contexts: map[string]Context{
			rewrite.Local:  {c.String("myorigin"), c.String("mydomain")},
			rewrite.Remote: {remote, remote},
		},
		configDir:         c.Dir(),
		myhostname:        c.String("myhostname"),
		emptyRecipient:    c.String("empty_address_recipient"),
		emptyTransportKey: c.String("empty_address_default_transport_maps_lookup_key"),
		emptyRelayhostKey: c.String("empty_address_relayhost_maps_lookup_key"),
		errorService:      c.String("error_service_name"),
		dequote:           c.Bool("resolve_dequoted_address"),
		nullDomain:        c.Bool("resolve_null_domain"),
		numericDomain:     c.Bool("resolve_numeric_domain"),
		allowMinus:        c.Bool("allow_min_user"),
		showTable:         c.Bool("show_user_unknown_table_name"),
		helpful:           c.Bool("helpful_warnings"),
		utf8:              c.Bool("smtputf8_enable"),
	}
	var err error
	list := func(name string, kind table.MatchKind) *table.MatchList {
		m, e := table.NewMatchList(env, name, c.String(name), kind, 0)
		err = errors.Join(err, e)
		return m
	}
	maps := func(name string, flags table.Flags) *table.Maps {
		m, e := table.OpenMaps(env, name, c.String(name), flags)
		err = errors.Join(err, e)
		return m
	}
	var e error
	r.local, e = localdomain.New(env)
	err = errors.Join(err, e)
	r.aliasDomains = list("virtual_alias_domains", table.MatchString)
	r.mailboxDomains = list("virtual_mailbox_domains", table.MatchString)
	r.relayDomains = list("relay_domains", table.MatchDomain)
	r.relocated = maps("relocated_maps", folded)
	set := func(prefix string) route {
		value := func(name string) setting { return setting{prefix + name, c.String(prefix + name)} }
		return route{
			local: value("local_transport"), virtual: value("virtual_transport"), relay: value("relay_transport"), deflt: value("default_transport"),
			relayhost:       c.String(prefix + "relayhost"),
			senderRelayhost: maps(prefix+"sender_dependent_relayhost_maps", plain),
			senderTransport: maps(prefix+"sender_dependent_default_transport_maps", plain),
			transport:       newTransportMaps(maps(prefix+"transport_maps", plain)),
		}
	}
	r.normal, r.probe = set(""), set("address_verify_")
	if err != nil {
		return nil, err
	}
	if _, set := c.Explicit("append_dot_mydomain"); !set && r.syntax.AppendDomain {
		r.syntax.Legacy = r.legacy
	}
	r.keys = table.AddressOptions{
		Form: table.FormExternalFirst, Delimiters: c.String("recipient_delimiter"), DoubleBounce: c.String("double_bounce_sender"),
		OwnerRequest: c.Bool("owner_request_special"), IsLocal: r.local.Bare,
	}
	r.transportKeys = r.keys
	r.transportKeys.Strategy = table.AddrTransport
	r.transportKeys.ParentSubdomains = table.ParentStyle(env, "transport_maps")
	return r, nil
}

// legacy mentions that an old default completes a domain.
func (r *Resolver) legacy(host, domain string) {
	hint := ""
	if table.Fold(host, false) == "localhost" {
		ctx := context.Background()
		if ok, err := r.local.Match(ctx, host); ok || err != nil {
			return
		}
		for _, l := range []*table.MatchList{r.aliasDomains, r.mailboxDomains, r.relayDomains} {
			if ok, err := l.Match(ctx, host); ok || err != nil {
				return
			}
		}
		hint = "; please add \"localhost\" to mydestination or other address class"
	}
	r.log.Info("using backwards-compatible default setting append_dot_mydomain=yes to rewrite \"%s\" to \"%s.%s\"%s", host, host, domain, hint)
}

// Rewrite returns the canonical form of an address in external form; ok is false for
// an unknown rule.
func (r *Resolver) Rewrite(rule, addr string) (result string, ok bool) {
	c, ok := r.contexts[rule]
	if !ok {
		return "", false
	}
	if addr == "" {
		r.log.Warn("rewrite_addr: null address")
		return "", true
	}
	return r.syntax.Canonical(c, addr), true
}

// Changed gives the name of a table that has changed since it was opened.
func (r *Resolver) Changed() (string, bool) {
	changed := []func() (string, bool){r.local.Changed, r.aliasDomains.Changed, r.mailboxDomains.Changed, r.relayDomains.Changed, r.relocated.Changed}
	for _, to := range []*route{&r.normal, &r.probe} {
		changed = append(changed, to.senderRelayhost.Changed, to.senderTransport.Changed, to.transport.Changed)
	}
	for _, f := range changed {
		if name, yes := f(); yes {
			return name, true
		}
	}
	return "", false
}
