package smtpd

import (
	"net/netip"

	"posthaste/pkg/conf"
)

// legacy are the backwards-compatible defaults of low compatibility levels
// that are in force; the log tells when one of them made the difference, so
// that an administrator knows what to set before raising the level (spec
// smtpd.md §2.5, §4.10).
type legacy struct {
	networks bool // mynetworks: whole subnets, from mynetworks_style
	relay    bool // relay_domains: $mydestination
	utf8     bool // smtputf8_enable: no
}

func legacyDefaults(c *conf.Config) legacy {
	return legacy{
		networks: c.LegacyDefault("mynetworks", 2, 0) && c.LegacyDefault("mynetworks_style", 2, 0),
		relay:    c.LegacyDefault("relay_domains", 2, 0),
		utf8:     c.LegacyDefault("smtputf8_enable", 1, 0),
	}
}

// noteNetworks is for a client permitted by mynetworks: as one of our own
// addresses it would be with any style.
func (s *session) noteNetworks() {
	if !s.srv.legacy.networks {
		return
	}
	if a, err := netip.ParseAddr(s.peer.addr); err == nil && !s.srv.local.Owns(a) {
		s.log.Info("using backwards-compatible default setting mynetworks_style=subnet to permit request from client \"%s\"", s.peer.namaddr)
	}
}

// noteUTF8 is for an address of a MAIL or RCPT command; role is sender or
// recipient.
func (s *session) noteUTF8(role, addr string) {
	if s.srv.legacy.utf8 && !isASCII(addr) {
		s.log.Info("using backwards-compatible default setting smtputf8_enable=no to accept non-ASCII %s address \"%s\" from %s", role, addr, s.peer.namaddr)
	}
}

// noteRelay is for a recipient accepted because its domain is in relay_domains.
func (s *session) noteRelay(domain string) {
	if s.srv.legacy.relay {
		s.log.Info("using backwards-compatible default setting relay_domains=$mydestination to accept mail for domain \"%s\"", domain)
	}
}
