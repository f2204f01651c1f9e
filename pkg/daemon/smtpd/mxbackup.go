package smtpd

import (
	"strings"

	"posthaste/pkg/wire/dns"
)

// permitMXBackup permits recipients for whose domain this system is a mail
// server, but not the best one (spec §4.4). With permit_mx_backup_networks all
// addresses of the best ones have to be in those networks.
func permitMXBackup(e evaluation) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" {
		return dunno
	}
	if v := e.destination(rcpt); v != dunno {
		return v
	}
	r, v := e.resolve(rcpt)
	if v != dunno {
		return v
	}
	i := strings.LastIndexByte(r.Recipient, '@')
	domain := r.Recipient[i+1:]
	if i < 0 || domain == "" || domain[0] == '[' {
		return dunno
	}
	if strings.ContainsAny(r.Recipient[:i], "@%!") && !e.srv.set.allowRouting {
		return dunno
	}
	hosts, err := e.mxHosts(domain)
	switch dns.StatusOf(err) {
	case 0:
	case dns.Temporary, dns.Fail, dns.Invalid, dns.Policy:
		return e.backupTrouble(rcpt, "Unable to look up mail exchanger information: "+shortError(err))
	default:
		return dunno
	}
	best := 0
	for best < len(hosts) && hosts[best].Pref == hosts[0].Pref {
		best++
	}
	if !e.amAmong(hosts, rcpt) || e.amAmong(hosts[:best], rcpt) {
		return dunno
	}
	if !e.srv.backupNetworks.list.Empty() && !e.inBackupNetworks(hosts[:best], rcpt) {
		return dunno
	}
	return accept
}

func (e evaluation) backupTrouble(rcpt, text string) verdict {
	return e.deferIfReject(classPolicy, 450, "4.4.4", "<%s>: Recipient address rejected: %s", rcpt, text)
}

// amAmong reports whether one of the hosts is this system.
func (e evaluation) amAmong(hosts []dns.Record, rcpt string) bool {
	for _, h := range hosts {
		addrs, err := e.hostAddrs(h.Host)
		if err != nil {
			e.backupTrouble(rcpt, "Unable to look up mail exchanger host "+h.Host+": "+err.Error())
			continue
		}
		for _, a := range addrs {
			if e.srv.local.Owns(a) {
				return true
			}
		}
	}
	return false
}

// inBackupNetworks reports whether all addresses of the hosts are in
// permit_mx_backup_networks.
func (e evaluation) inBackupNetworks(hosts []dns.Record, rcpt string) bool {
	for _, h := range hosts {
		addrs, err := e.hostAddrs(h.Host)
		if err != nil {
			e.backupTrouble(rcpt, "Unable to look up host "+h.Host+" as mail exchanger: "+err.Error())
			return false
		}
		for _, a := range addrs {
			in, err := e.srv.backupNetworks.match(e.ctx, h.Host, a.String())
			if err != nil {
				e.backupTrouble(rcpt, "Unable to verify host "+h.Host+" as mail exchanger")
				return false
			}
			if !in {
				return false
			}
		}
	}
	return true
}
