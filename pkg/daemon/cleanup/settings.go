package cleanup

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/wire/milter"
)

// settings are the parameters that cleanup uses, typed, read once at the start.
type settings struct {
	myhostname, myorigin   string
	emptyRecipient         string
	longIDs, origRecipient bool
	externalLog            bool
	extensions             address.Extensions
	propagateCanonical     bool
	propagateVirtual       bool

	lineLimit       int
	headerLimit     int
	tokenLimit      int
	attrLimit       int
	hopLimit        int
	dupLimit        int
	messageLimit    int64
	bodyCheckLimit  int64
	expansionLimit  int
	recursionLimit  int
	addrLengthLimit int
	delayWarning    time.Duration

	canonicalClasses, senderCanonicalClasses, recipientCanonicalClasses, masqueradeClasses classes

	masqueradeDomains []string
	alwaysBCC         string
	remoteDomain      string
	alwaysMissing     bool
	undisclosed       string
	obsoleteFrom      bool
	dropHeaders       header.DropSet
	replaceCRLF       bool
	detect8bit        bool
	smtputf8          bool
	rejectChars       *byteSet
	stripChars        *byteSet
	mime              mime.Options
	verpFilter        string
	disableVERP       bool
	milters           string
	milter            milter.Config
	milterDaemon      string
	milterV           string
	localIPv6         bool
	traceService      string
	bounceService     string
	queueService      string
}

// classes is a set of what canonical and masquerade apply to.
type classes uint8

const (
	envelopeSender classes = 1 << iota
	envelopeRecipient
	headerSender
	headerRecipient
)

var classNames = map[string]classes{
	"envelope_sender": envelopeSender, "envelope_recipient": envelopeRecipient,
	"header_sender": headerSender, "header_recipient": headerRecipient,
}

type byteSet [256]bool

func readSettings(c *conf.Config) (*settings, error) {
	s := &settings{
		myhostname:     c.String("myhostname"),
		myorigin:       c.String("myorigin"),
		emptyRecipient: c.String("empty_address_recipient"),
		longIDs:        c.Bool("enable_long_queue_ids"),
		origRecipient:  c.Bool("enable_original_recipient"),
		externalLog:    !strings.EqualFold(c.String("info_log_address_format"), "internal"),
		extensions: address.Extensions{
			Delimiters:   c.String("recipient_delimiter"),
			DoubleBounce: localPart(c.String("double_bounce_sender")),
			OwnerRequest: c.Bool("owner_request_special"),
		},
		lineLimit:         c.Int("line_length_limit"),
		headerLimit:       c.Int("header_size_limit"),
		tokenLimit:        c.Int("header_address_token_limit"),
		attrLimit:         c.Int("queue_file_attribute_count_limit"),
		hopLimit:          c.Int("hopcount_limit"),
		dupLimit:          c.Int("duplicate_filter_limit"),
		messageLimit:      c.Int64("message_size_limit"),
		bodyCheckLimit:    int64(c.Int("body_checks_size_limit")),
		expansionLimit:    c.Int("virtual_alias_expansion_limit"),
		recursionLimit:    c.Int("virtual_alias_recursion_limit"),
		addrLengthLimit:   c.Int("virtual_alias_address_length_limit"),
		delayWarning:      c.Duration("delay_warning_time"),
		masqueradeDomains: c.List("masquerade_domains"),
		alwaysBCC:         c.String("always_bcc"),
		remoteDomain:      c.String("remote_header_rewrite_domain"),
		alwaysMissing:     c.Bool("always_add_missing_headers"),
		undisclosed:       c.String("undisclosed_recipients_header"),
		dropHeaders:       header.NewDropSet(c.List("message_drop_headers")),
		replaceCRLF:       c.Bool("cleanup_replace_stray_cr_lf"),
		detect8bit:        c.Bool("detect_8bit_encoding_header"),
		smtputf8:          c.Bool("smtputf8_enable"),
		verpFilter:        c.String("verp_delimiter_filter"),
		disableVERP:       c.Bool("disable_verp_bounces"),
		milters:           c.String("non_smtpd_milters"),
		milterDaemon:      c.String("milter_macro_daemon_name"),
		milterV:           c.String("milter_macro_v"),
		traceService:      c.String("trace_service_name"),
		bounceService:     c.String("bounce_service_name"),
		queueService:      c.String("queue_service_name"),
		rejectChars:       charSet(c.String("message_reject_characters")),
		stripChars:        charSet(c.String("message_strip_characters")),
	}
	if err := s.readFromFormat(c.String("header_from_format")); err != nil {
		return nil, err
	}
	propagate := c.List("propagate_unmatched_extensions")
	s.propagateCanonical = slices.Contains(propagate, "canonical")
	s.propagateVirtual = slices.Contains(propagate, "virtual")
	for _, p := range []struct {
		name string
		set  *classes
	}{
		{"canonical_classes", &s.canonicalClasses},
		{"sender_canonical_classes", &s.senderCanonicalClasses},
		{"recipient_canonical_classes", &s.recipientCanonicalClasses},
		{"masquerade_classes", &s.masqueradeClasses},
	} {
		for _, word := range c.List(p.name) {
			class, ok := classNames[strings.ToLower(word)]
			if !ok {
				return nil, fmt.Errorf("unknown %s value \"%s\" in \"%s\"", p.name, word, c.String(p.name))
			}
			*p.set |= class
		}
	}
	s.readMIME(c)
	return s, s.readMilters(c)
}

func (s *settings) readFromFormat(format string) error {
	switch {
	case strings.EqualFold(format, "standard"):
	case strings.EqualFold(format, "obsolete"):
		s.obsoleteFrom = true
	default:
		return fmt.Errorf("invalid setting: \"header_from_format = %s\"", format)
	}
	return nil
}

// readMilters reads what non_smtpd_milters and Milters handed over need.
func (s *settings) readMilters(c *conf.Config) (err error) {
	if s.milter, err = milter.Configuration(c, nil); err != nil {
		return err
	}
	protocols := c.List("inet_protocols")
	s.localIPv6 = len(protocols) > 0 && strings.EqualFold(protocols[0], "ipv6")
	_, err = milter.New(s.milters, s.milter)
	return err
}

// readMIME sets the options of the MIME machine; which problems are reported
// is routing.md §1.8.
func (s *settings) readMIME(c *conf.Config) {
	s.mime = mime.Options{
		Parse:           !c.Bool("disable_mime_input_processing"),
		HeaderSizeLimit: s.headerLimit,
		BoundaryLimit:   c.Int("mime_boundary_length_limit"),
		NestingLimit:    c.Int("mime_nesting_limit"),
	}
	if !s.mime.Parse {
		return
	}
	all := c.Bool("strict_8bitmime")
	head, body, domain := c.Bool("strict_7bit_headers"), c.Bool("strict_8bitmime_body"), c.Bool("strict_mime_encoding_domain")
	report := &s.mime.Report
	if all || head {
		*report |= mime.EightBitHeader
	}
	if all || body {
		*report |= mime.EightBitBody
	}
	if domain {
		*report |= mime.EncodingDomain
	}
	if *report != 0 || c.String("header_checks") != "" || c.String("mime_header_checks") != "" || c.String("nested_header_checks") != "" {
		*report |= mime.Nesting
	}
}

func localPart(addr string) string {
	local, _ := address.Split(addr)
	return local
}

// charSet decodes C escapes into a set of bytes; nil for none.
func charSet(text string) *byteSet {
	if text == "" {
		return nil
	}
	set := new(byteSet)
	for _, c := range []byte(conf.Unescape(text)) {
		set[c] = true
	}
	return set
}
