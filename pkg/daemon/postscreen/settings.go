package postscreen

import (
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/conf"
	mailtls "posthaste/pkg/wire/tls"
)

// action is what is done about a client that has failed a test.
type action byte

const (
	ignore  action = iota // go on; it has not passed
	enforce               // refuse its recipients
	drop                  // refuse it
)

var actions = map[string]action{"ignore": ignore, "continue": ignore, "enforce": enforce, "drop": drop}

// pace is what changes under stress.
type pace struct {
	greetWait, commandLimit time.Duration
}

// settings is what the daemon takes from main.cf, read once at start.
type settings struct {
	hostname, banner, teaser string // teaser is the early half of the greeting; "" is no pregreet test
	smtpdService             string // as "private/smtpd"
	dnsblogService           string
	tlsproxyService          string
	ipv4, ipv6               bool
	proxy                    bool // a PROXY header comes first
	proxyTimeout             time.Duration

	preQueue, postQueue, perClient int // limits; perClient 0 is none
	paces                          [2]pace
	actions                        [testCount]action
	deny                           action
	enabled                        testSet
	ttl                            [testCount]time.Duration // of dnsbl, the least
	dnsblMaxTTL, dnsblTimeout      time.Duration
	threshold, allowThreshold      int // allowThreshold is active below 0
	leastTTL                       time.Duration

	commandCount, lineLimit   int
	heloRequired, disableVrfy bool
	useTLS, enforceTLS        bool
	utf8, softBounce          bool
	messageSize               int64
	discard                   string
	footer, filter            string
	respectful, oldWords      bool // oldWords: because of compatibility_level, which is said once
	delayResolution           int
}

func loadSettings(c *conf.Config) (*settings, error) {
	s := &settings{
		hostname: c.String("myhostname"), banner: c.String("smtpd_banner"), teaser: c.String("postscreen_greet_banner"),
		smtpdService: c.String("smtpd_service_name"), dnsblogService: c.String("dnsblog_service_name"), tlsproxyService: c.String("tlsproxy_service_name"),
		proxyTimeout: c.Duration("postscreen_upstream_proxy_timeout"),
		preQueue:     c.Int("postscreen_pre_queue_limit"), postQueue: c.Int("postscreen_post_queue_limit"), perClient: c.Int("postscreen_client_connection_count_limit"),
		ttl: [testCount]time.Duration{c.Duration("postscreen_greet_ttl"), c.Duration("postscreen_dnsbl_min_ttl"), c.Duration("postscreen_pipelining_ttl"),
			c.Duration("postscreen_non_smtp_command_ttl"), c.Duration("postscreen_bare_newline_ttl")},
		dnsblMaxTTL: c.Duration("postscreen_dnsbl_max_ttl"), dnsblTimeout: c.Duration("postscreen_dnsbl_timeout"),
		threshold: c.Int("postscreen_dnsbl_threshold"), allowThreshold: c.Int("postscreen_dnsbl_allowlist_threshold"),
		commandCount: c.Int("postscreen_command_count_limit"), lineLimit: c.Int("line_length_limit"),
		heloRequired: c.Bool("postscreen_helo_required"), disableVrfy: c.Bool("postscreen_disable_vrfy_command"),
		utf8: c.Bool("smtputf8_enable"), softBounce: c.Bool("soft_bounce"), messageSize: c.Int64("message_size_limit"),
		discard: c.String("postscreen_discard_ehlo_keywords"), footer: c.Raw("postscreen_reject_footer"),
		respectful: c.Bool("respectful_logging"), oldWords: c.LegacyDefault("respectful_logging", 3, 6), delayResolution: c.Int("delay_logging_resolution_limit"),
	}
	if s.footer == "$smtpd_reject_footer" {
		s.footer = c.Raw("smtpd_reject_footer")
	}
	if s.filter = c.Raw("postscreen_expansion_filter"); s.filter == "$smtpd_expansion_filter" {
		s.filter = c.Raw("smtpd_expansion_filter")
	}
	s.filter = conf.Unescape(s.filter)
	protocols := c.String("inet_protocols")
	s.ipv4 = protocols == "all" || strings.Contains(protocols, "ipv4")
	s.ipv6 = protocols == "all" || strings.Contains(protocols, "ipv6")
	for i, under := range []*conf.Config{c, c.With(conf.Settings{"stress": "yes"})} {
		s.paces[i] = pace{under.Duration("postscreen_greet_wait"), under.Duration("postscreen_command_time_limit")}
	}
	s.leastTTL = s.ttl[0]
	for _, ttl := range s.ttl {
		s.leastTTL = min(s.leastTTL, ttl)
	}
	if err := s.loadTests(c); err != nil {
		return nil, err
	}
	switch name := c.String("postscreen_upstream_proxy_protocol"); name {
	case "":
	case "haproxy":
		s.proxy = true
	default:
		return nil, fmt.Errorf("unsupported postscreen_upstream_proxy_protocol value: %s", name)
	}
	return s, s.loadTLS(c)
}

// loadTests finds out which tests are enabled and what their failure means.
func (s *settings) loadTests(c *conf.Config) error {
	for i, t := range tests {
		on := true
		switch {
		case t.enable != "":
			on = c.Bool(t.enable)
		case i == pregreet:
			on = s.teaser != ""
		case i == dnsbl:
			on = strings.TrimSpace(c.String("postscreen_dnsbl_sites")) != ""
		}
		if on {
			s.enabled |= 1 << i
		}
	}
	names := []string{"postscreen_denylist_action"}
	to := []*action{&s.deny}
	for i, t := range tests {
		names, to = append(names, t.action), append(to, &s.actions[i])
	}
	for i, name := range names {
		value := c.String(name)
		a, ok := actions[strings.ToLower(value)]
		if !ok {
			return fmt.Errorf("bad %s value: %s", name, value)
		}
		*to[i] = a
	}
	return nil
}

// loadTLS finds out whether TLS is offered and enforced.
func (s *settings) loadTLS(c *conf.Config) error {
	s.enforceTLS = c.Bool("postscreen_enforce_tls")
	s.useTLS = c.Bool("postscreen_use_tls") || s.enforceTLS
	name := c.String("postscreen_tls_security_level")
	if name == "" {
		return nil
	}
	level, err := mailtls.ParseLevel(name)
	if err != nil {
		return err
	}
	s.useTLS, s.enforceTLS = level > mailtls.LevelNone, level.Mandatory()
	return nil
}
