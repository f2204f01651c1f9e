package smtp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/address"
)

// settings are the parameters, read once. Those of smtp and lmtp differ in
// their prefix.
type settings struct {
	lmtp   bool
	prefix string // "smtp_" or "lmtp_"

	myhostname, heloName, tcpPort string
	relayhost, bestMX             string
	fallback                      []string
	assumeFinal                   bool

	dnsEnabled, dnssec                 bool
	hostDNS, hostNative                bool
	resolverSearch, resolverDefNames   bool
	ignoreMXError, deferNoAddress      bool
	cnameOverrides                     bool
	randomize, balance                 bool
	preference                         string // any, ipv4, ipv6
	ipv4, ipv6                         bool
	own                                map[netip.Addr]bool // inet_interfaces and proxy_interfaces
	bind4, bind6                       netip.Addr
	bindEnforce                        bool
	addressLimit, sessionLimit, window int
	knownPorts                         map[string]string

	connectTimeout, heloTimeout, startTLSTimeout, xforwardTimeout time.Duration
	mailTimeout, rcptTimeout, dataInitTimeout, dataXferTimeout    time.Duration
	dataDoneTimeout, rsetTimeout, quitTimeout                     time.Duration
	perRequest                                                    bool
	minRate                                                       int

	alwaysEHLO, neverEHLO, skip5xx, skipQuit bool
	discardKeywords, pixWorkarounds          string
	pixThreshold, pixDelay                   time.Duration
	sendXforward, quoteEnvelope, mimeConvert bool
	dummyAuth, verifyData                    bool
	lineLimit, replyLimit                    int
	mime                                     mimeLimits
	helpful, softBounce                      bool
	notify                                   map[string]bool
	errorNotice, doubleBounce, mailName      string
	headerFromObsolete                       bool
	cacheOnDemand                            bool
	cacheDestinations                        string
	cacheTime, reuseTime                     time.Duration
	reuseCount                               int
	extensions                               address.Extensions
	propagateGeneric                         bool
	myorigin                                 string
	minimalBackoff                           time.Duration

	tls  tlsSettings
	sasl saslSettings
}

type mimeLimits struct{ header, boundary, nesting, tokens int }

func newSettings(c *conf.Config, lmtp bool) (*settings, error) {
	s := &settings{lmtp: lmtp, prefix: "smtp_", myhostname: c.String("myhostname")}
	ehlo, helo := "smtp_discard_ehlo_", "smtp_helo_"
	if lmtp {
		s.prefix, ehlo, helo = "lmtp_", "lmtp_discard_lhlo_", "lmtp_lhlo_"
	}
	str := func(name string) string { return c.String(s.prefix + name) }
	yes := func(name string) bool { return c.Bool(s.prefix + name) }
	num := func(name string) int { return c.Int(s.prefix + name) }
	dur := func(name string) time.Duration { return c.Duration(s.prefix + name) }

	s.heloName, s.heloTimeout = c.String(helo+"name"), c.Duration(helo+"timeout")
	s.discardKeywords = c.String(ehlo + "keywords")
	s.tcpPort = str("tcp_port")
	s.relayhost, s.bestMX = c.String("relayhost"), c.String("best_mx_transport")
	s.fallback = c.List(s.prefix + "fallback_relay")
	s.assumeFinal = lmtp && c.Bool("lmtp_assume_final")

	switch level := str("dns_support_level"); level {
	case "":
		s.dnsEnabled = !c.Bool("disable_dns_lookups")
	case "disabled":
	case "enabled", "dnssec":
		s.dnsEnabled, s.dnssec = true, level == "dnssec"
	default:
		return nil, fmt.Errorf("invalid %sdns_support_level: \"%s\"", s.prefix, level)
	}
	for _, w := range c.List(s.prefix + "host_lookup") {
		switch strings.ToLower(w) {
		case "dns":
			s.hostDNS = true
		case "native":
			s.hostNative = true
		default:
			return nil, fmt.Errorf("unknown %shost_lookup value \"%s\" in \"%s\"", s.prefix, w, str("host_lookup"))
		}
	}
	if !s.dnsEnabled {
		s.hostDNS, s.hostNative = false, true
	}
	for _, w := range c.List(s.prefix + "dns_resolver_options") {
		switch strings.ToLower(w) {
		case "res_defnames":
			s.resolverDefNames = true
		case "res_dnsrch":
			s.resolverSearch = true
		default:
			return nil, fmt.Errorf("unknown %sdns_resolver_options value \"%s\" in \"%s\"", s.prefix, w, str("dns_resolver_options"))
		}
	}
	if !lmtp {
		s.ignoreMXError = c.Bool("ignore_mx_lookup_error")
		s.deferNoAddress = yes("defer_if_no_mx_address_found")
		s.alwaysEHLO, s.neverEHLO = yes("always_send_ehlo"), yes("never_send_ehlo")
	}
	s.cnameOverrides = yes("cname_overrides_servername")
	s.randomize, s.balance = yes("randomize_addresses"), yes("balance_inet_protocols")
	s.preference = str("address_preference")
	s.ipv4, s.ipv6 = c.Protocols()
	s.addressLimit, s.sessionLimit, s.window = num("mx_address_limit"), num("mx_session_limit"), c.Int("tcp_windowsize")
	s.knownPorts = c.KnownPorts()
	if err := s.addresses(c); err != nil {
		return nil, err
	}

	s.connectTimeout, s.startTLSTimeout, s.xforwardTimeout = dur("connect_timeout"), dur("starttls_timeout"), dur("xforward_timeout")
	s.mailTimeout, s.rcptTimeout, s.dataInitTimeout = dur("mail_timeout"), dur("rcpt_timeout"), dur("data_init_timeout")
	s.dataXferTimeout, s.dataDoneTimeout = dur("data_xfer_timeout"), dur("data_done_timeout")
	s.rsetTimeout, s.quitTimeout = dur("rset_timeout"), dur("quit_timeout")
	s.perRequest, s.minRate = yes("per_request_deadline"), num("min_data_rate")

	s.skip5xx, s.skipQuit = yes("skip_5xx_greeting"), yes("skip_quit_response")
	s.pixWorkarounds = str("pix_workarounds")
	s.pixThreshold, s.pixDelay = dur("pix_workaround_threshold_time"), dur("pix_workaround_delay_time")
	s.sendXforward, s.quoteEnvelope = yes("send_xforward_command"), yes("quote_rfc821_envelope")
	s.mimeConvert = !c.Bool("disable_mime_output_conversion")
	s.dummyAuth = yes("send_dummy_mail_auth")
	switch target := str("address_verify_target"); target {
	case "rcpt":
	case "data":
		s.verifyData = true
	default:
		return nil, fmt.Errorf("bad %saddress_verify_target value: %s", s.prefix, target)
	}
	s.lineLimit, s.replyLimit = num("line_length_limit"), c.Int("line_length_limit")
	s.mime = mimeLimits{c.Int("header_size_limit"), c.Int("mime_boundary_length_limit"), c.Int("mime_nesting_limit"), c.Int("header_address_token_limit")}
	s.helpful, s.softBounce = c.Bool("helpful_warnings"), c.Bool("soft_bounce")
	s.notify = make(map[string]bool)
	for _, w := range c.List("notify_classes") {
		s.notify[w] = true
	}
	s.errorNotice, s.doubleBounce, s.mailName = c.String("error_notice_recipient"), c.String("double_bounce_sender"), c.String("mail_name")
	s.headerFromObsolete = c.String("header_from_format") == "obsolete"
	s.cacheOnDemand, s.cacheDestinations = yes("connection_cache_on_demand"), str("connection_cache_destinations")
	s.cacheTime, s.reuseTime, s.reuseCount = dur("connection_cache_time_limit"), dur("connection_reuse_time_limit"), num("connection_reuse_count_limit")
	s.extensions = address.Extensions{Delimiters: c.String("recipient_delimiter"), DoubleBounce: s.doubleBounce, OwnerRequest: c.Bool("owner_request_special")}
	for _, w := range c.List("propagate_unmatched_extensions") {
		s.propagateGeneric = s.propagateGeneric || w == "generic"
	}
	s.myorigin = c.String("myorigin")
	s.minimalBackoff = c.Duration("minimal_backoff_time")

	if err := s.readSASL(c); err != nil {
		return nil, err
	}
	if err := s.tls.read(c, s.prefix); err != nil {
		return nil, err
	}
	s.tls.daneLookups = !s.dnssec || !s.hostDNS
	s.tls.daneMXErrors, s.tls.daneOptions = s.ignoreMXError, s.resolverSearch || s.resolverDefNames
	return s, nil
}

// addresses reads the own addresses and those to connect from.
func (s *settings) addresses(c *conf.Config) error {
	s.own = make(map[netip.Addr]bool)
	var one [2][]netip.Addr
	for _, p := range c.Addresses() {
		a := p.Addr().Unmap()
		s.own[a] = true
		i := 0
		if a.Is6() {
			i = 1
		}
		one[i] = append(one[i], a)
	}
	for _, w := range c.List("proxy_interfaces") {
		if a, err := netip.ParseAddr(strings.Trim(w, "[]")); err == nil {
			s.own[a.Unmap()] = true
		}
	}
	s.bindEnforce = c.Bool(s.prefix + "bind_address_enforce")
	all := strings.EqualFold(strings.TrimSpace(c.String("inet_interfaces")), "all")
	for i, f := range []struct {
		name string
		dst  *netip.Addr
	}{{"bind_address", &s.bind4}, {"bind_address6", &s.bind6}} {
		if text := c.String(s.prefix + f.name); text != "" {
			a, err := netip.ParseAddr(strings.TrimPrefix(strings.Trim(text, "[]"), "IPv6:"))
			if err != nil || a.Is4() != (i == 0) {
				return fmt.Errorf("bad %s%s parameter: %s", s.prefix, f.name, text)
			}
			*f.dst = a
		} else if !all && len(one[i]) == 1 && !one[i][0].IsLoopback() {
			*f.dst = one[i][0]
		}
	}
	return nil
}
