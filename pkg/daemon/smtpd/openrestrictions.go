package smtpd

import (
	"strings"

	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
)

// openRestrictions opens the tables and lists that single restrictions need,
// and puts smtpd_dns_reply_filter into the resolver.
func (srv *Server) openRestrictions() error {
	c := srv.conf
	for _, m := range []struct {
		to    **table.Maps
		param string
		flags table.Flags
	}{
		{&srv.rblReplies, "rbl_reply_maps", table.FoldFix | table.UTF8Request},
		{&srv.dnsFilter, "smtpd_dns_reply_filter", table.FoldFix},
	} {
		opened, err := table.OpenMaps(srv.env, m.param, c.String(m.param), m.flags)
		if err != nil {
			return err
		}
		*m.to = opened
	}
	if client, ok := srv.dns.(*dns.Client); ok {
		srv.filterReplies(client)
	}
	if text := c.String("permit_mx_backup_networks"); strings.TrimSpace(text) != "" {
		list, err := table.NewMatchList(srv.env, "permit_mx_backup_networks", text, table.MatchHostAddr, 0)
		if err != nil {
			return err
		}
		srv.backupNetworks.list = list
	}
	srv.verifySender, srv.verifyRcpt = srv.verifications()
	return nil
}

// filterReplies applies smtpd_dns_reply_filter to a resolver.
func (srv *Server) filterReplies(client *dns.Client) {
	if !srv.dnsFilter.Empty() {
		client.Filter = dns.TableFilter(srv.dnsFilter, "smtpd_dns_reply_filter", srv.log.Info, srv.log.Warn)
	}
}
