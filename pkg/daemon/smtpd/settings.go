package smtpd

import (
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/wire/smtp"
)

// settings is what the daemon takes from main.cf, read once at start.
type settings struct {
	hostname, mailName, banner string
	doubleBounce               string
	version                    string
	commandDir                 string
	compatLevel1               bool // compatibility_level is at least 1
	ipv4, ipv6                 bool
	protocols                  string

	timeout, startTLSTimeout  time.Duration
	perRequest                bool
	minDataRate               int
	lineLimit                 int
	softErrors, hardErrors    int
	junkLimit                 int
	errorSleep                time.Duration
	recipientLimit            int
	overshootLimit            int
	messageSize, queueMinFree int64
	historyFlush              int
	notifyClasses             []string
	bounceNotice, errorNotice string

	heloRequired, disableVrfy, peernameLookup bool
	portLogging, softBounce, strictEnvelopes  bool
	strictUTF8, utf8                          bool
	logInternalForm                           bool
	delayReject, relayFirst                   bool
	relayUnset, relayOrderUnset               bool
	delayOpen                                 bool
	rejectUnlistedRcpt, rejectUnlistedSender  bool
	showTable                                 bool
	allowRouting                              bool
	forbidPipelining                          bool
	bareNewline                               smtp.BareNewline
	bareNewlineCode                           int

	discardKeywords string
	rejectFooter    string
	expansionFilter string
	recipientDelim  string
	nullKey         string
	verpFilter      string
	permitLog       []string
	overrides       []string
	contentFilter   string
	proxyFilter     string
	proxyEhlo       string
	proxyTimeout    time.Duration
	speedAdjust     bool
	milters         []string
	milterAction    string
	milterMaps      string
	upstreamProxy   string
	upstreamTimeout time.Duration
	saslEnable      bool
	defaultRBLReply string
	origin          string
	verifyService   string // address verification
	verifyPolls     int
	verifyDelay     time.Duration
	probeSender     string // address_verify_sender
	probeTTL        time.Duration
	stress          string

	limits   rateLimits
	codes    codes
	tempfail tempfailActions
	tls      tlsSettings
}

// rateLimits are the limits that anvil counts for; 0 is none.
type rateLimits struct {
	connections, connectionRate, messages, recipients, newTLS, auth int
}

func (l rateLimits) any() bool { return l != rateLimits{} }

// codes are the configurable SMTP reply codes.
type codes struct {
	reject, deferCode, relayDomains, accessReject, accessDefer                int
	unknownClient, invalidHostname, unknownHostname, nonFQDN, unknownAddress  int
	localRcpt, aliasRcpt, virtualRcpt, relayRcpt, multiBounce, rbl, plaintext int
}

// tempfailActions say for what a temporary lookup problem defers at once
// rather than only what would otherwise be permitted.
type tempfailActions struct {
	helo, address, sender, recipient bool // true: "defer"
}

func loadSettings(c *conf.Config) (*settings, error) {
	s := &settings{
		hostname: c.String("myhostname"), mailName: c.String("mail_name"), banner: c.String("smtpd_banner"),
		doubleBounce: c.String("double_bounce_sender"), commandDir: c.String("command_directory"),
		timeout: c.Duration("smtpd_timeout"), startTLSTimeout: c.Duration("smtpd_starttls_timeout"),
		perRequest: c.Bool("smtpd_per_request_deadline"), minDataRate: c.Int("smtpd_min_data_rate"),
		lineLimit: c.Int("line_length_limit"), softErrors: c.Int("smtpd_soft_error_limit"),
		hardErrors: c.Int("smtpd_hard_error_limit"), junkLimit: c.Int("smtpd_junk_command_limit"),
		errorSleep: c.Duration("smtpd_error_sleep_time"), recipientLimit: c.Int("smtpd_recipient_limit"),
		overshootLimit: c.Int("smtpd_recipient_overshoot_limit"), messageSize: c.Int64("message_size_limit"),
		queueMinFree: c.Int64("queue_minfree"), historyFlush: c.Int("smtpd_history_flush_threshold"),
		notifyClasses: c.List("notify_classes"), bounceNotice: c.String("bounce_notice_recipient"),
		errorNotice: c.String("error_notice_recipient"), heloRequired: c.Bool("smtpd_helo_required"),
		disableVrfy: c.Bool("disable_vrfy_command"), peernameLookup: c.Bool("smtpd_peername_lookup"),
		portLogging: c.Bool("smtpd_client_port_logging"), softBounce: c.Bool("soft_bounce"),
		strictEnvelopes: c.Bool("strict_rfc821_envelopes"), strictUTF8: c.Bool("strict_smtputf8"),
		utf8: c.Bool("smtputf8_enable"), logInternalForm: c.String("info_log_address_format") == "internal",
		delayReject: c.Bool("smtpd_delay_reject"), relayFirst: c.Bool("smtpd_relay_before_recipient_restrictions"),
		delayOpen: c.Bool("smtpd_delay_open_until_valid_rcpt"), rejectUnlistedRcpt: c.Bool("smtpd_reject_unlisted_recipient"),
		rejectUnlistedSender: c.Bool("smtpd_reject_unlisted_sender"), showTable: c.Bool("show_user_unknown_table_name"),
		allowRouting: c.Bool("allow_untrusted_routing"), forbidPipelining: c.Bool("smtpd_forbid_unauth_pipelining"),
		bareNewlineCode: c.Int("smtpd_forbid_bare_newline_reject_code"), discardKeywords: c.String("smtpd_discard_ehlo_keywords"),
		rejectFooter: c.Raw("smtpd_reject_footer"), expansionFilter: conf.Unescape(c.Raw("smtpd_expansion_filter")),
		recipientDelim: c.String("recipient_delimiter"), nullKey: c.String("smtpd_null_access_lookup_key"),
		verpFilter: c.String("verp_delimiter_filter"), permitLog: c.List("smtpd_log_access_permit_actions"),
		overrides: c.List("receive_override_options"), contentFilter: c.String("content_filter"),
		proxyFilter: c.String("smtpd_proxy_filter"), proxyEhlo: c.String("smtpd_proxy_ehlo"), proxyTimeout: c.Duration("smtpd_proxy_timeout"), milters: c.List("smtpd_milters"),
		milterAction: c.String("milter_default_action"), milterMaps: c.String("smtpd_milter_maps"),
		upstreamProxy: c.String("smtpd_upstream_proxy_protocol"), upstreamTimeout: c.Duration("smtpd_upstream_proxy_timeout"),
		saslEnable: c.Bool("smtpd_sasl_auth_enable"), stress: c.String("stress"), protocols: c.String("inet_protocols"),
		version: c.MailVersion(), defaultRBLReply: c.Raw("default_rbl_reply"), origin: c.String("myorigin"),
		verifyService: c.String("address_verify_service_name"), verifyPolls: c.Int("address_verify_poll_count"),
		verifyDelay: c.Duration("address_verify_poll_delay"), probeSender: c.String("address_verify_sender"),
		probeTTL: c.Duration("address_verify_sender_ttl"),
	}
	s.limits = rateLimits{
		c.Int("smtpd_client_connection_count_limit"), c.Int("smtpd_client_connection_rate_limit"),
		c.Int("smtpd_client_message_rate_limit"), c.Int("smtpd_client_recipient_rate_limit"),
		c.Int("smtpd_client_new_tls_session_rate_limit"), c.Int("smtpd_client_auth_rate_limit"),
	}
	s.codes = codes{
		c.Int("reject_code"), c.Int("defer_code"), c.Int("relay_domains_reject_code"), c.Int("access_map_reject_code"), c.Int("access_map_defer_code"),
		c.Int("unknown_client_reject_code"), c.Int("invalid_hostname_reject_code"), c.Int("unknown_hostname_reject_code"), c.Int("non_fqdn_reject_code"), c.Int("unknown_address_reject_code"),
		c.Int("unknown_local_recipient_reject_code"), c.Int("unknown_virtual_alias_reject_code"), c.Int("unknown_virtual_mailbox_reject_code"), c.Int("unknown_relay_recipient_reject_code"),
		c.Int("multi_recipient_bounce_reject_code"), c.Int("maps_rbl_reject_code"), c.Int("plaintext_reject_code"),
	}
	s.compatLevel1 = compatAtLeast(c, 1)
	_, set := c.Explicit("smtpd_relay_restrictions")
	s.relayUnset = !set && !s.compatLevel1
	_, set = c.Explicit("smtpd_relay_before_recipient_restrictions")
	s.relayOrderUnset = !set
	s.ipv4 = s.protocols == "all" || strings.Contains(s.protocols, "ipv4")
	s.ipv6 = s.protocols == "all" || strings.Contains(s.protocols, "ipv6")
	return s, s.loadChoices(c)
}

// loadChoices reads the parameters whose value is one of a few words.
func (s *settings) loadChoices(c *conf.Config) error {
	bare := "normalize" // the default of 3.9 (DESIGN §6)
	if _, set := c.Explicit("smtpd_forbid_bare_newline"); set {
		bare = c.String("smtpd_forbid_bare_newline")
	}
	var ok bool
	var err error
	if s.bareNewline, ok = map[string]smtp.BareNewline{"no": smtp.BareAllow, "yes": smtp.BareNormalize,
		"normalize": smtp.BareNormalize, "reject": smtp.BareReject}[strings.ToLower(bare)]; !ok {
		return configError("bad parameter value: 'smtpd_forbid_bare_newline = %s'", bare)
	}
	if _, set := c.Explicit("smtpd_forbid_unauth_pipelining"); !set {
		s.forbidPipelining = true // the default of 3.9
	}
	for _, p := range []struct {
		name string
		to   *bool
	}{{"unknown_helo_hostname_tempfail_action", &s.tempfail.helo}, {"unknown_address_tempfail_action", &s.tempfail.address},
		{"unverified_sender_tempfail_action", &s.tempfail.sender}, {"unverified_recipient_tempfail_action", &s.tempfail.recipient}} {
		switch v := c.String(p.name); strings.ToLower(v) {
		case "defer":
			*p.to = true
		case "defer_if_permit":
		default:
			return configError("bad configuration: %s = %s", p.name, v)
		}
	}
	if s.speedAdjust, err = proxyOptions(c.List("smtpd_proxy_options"), c.String("smtpd_proxy_options")); err != nil {
		return err
	}
	return s.loadTLS(c)
}

// compatAtLeast reports whether compatibility_level has at least that major
// number.
func compatAtLeast(c *conf.Config, major int) bool {
	n, seen := 0, false
	for _, ch := range c.String("compatibility_level") {
		if ch < '0' || ch > '9' {
			break
		}
		n, seen = n*10+int(ch-'0'), true
		if n > 1000 {
			break
		}
	}
	return seen && n >= major
}
