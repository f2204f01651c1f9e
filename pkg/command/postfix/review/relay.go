package review

import (
	"net/netip"
	"slices"
	"strings"

	"posthaste/pkg/conf"
)

// stages are the lists of restrictions in the order in which smtpd goes
// through them; a message is taken if none of them refuses it.
var stages = []string{"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions"}

// relay finds smtpd services that take mail of anybody for anybody.
func (r *reviewer) relay() {
	told := map[string]bool{}
	for _, s := range r.services {
		if s.program != "smtpd" || s.typ != "inet" && s.typ != "pass" {
			continue
		}
		p := place{r, s}
		open, why := p.open()
		if !open {
			continue
		}
		if why == "" {
			why = "smtpd_relay_restrictions"
		}
		if _, ok := s.lines[why]; !ok && told[why] {
			continue // main.cf's fault, told already
		}
		told[why] = true
		if why == "mynetworks" {
			p.add(KindRelay, why, "service %s relays mail for strangers: mynetworks holds every address", s)
			continue
		}
		p.add(KindRelay, why, "service %s relays mail for strangers: nothing in smtpd_relay_restrictions and smtpd_recipient_restrictions refuses them", s)
	}
}

// open tells whether a stranger may send to a stranger, and the parameter
// that lets him.
func (p place) open() (open bool, why string) {
	for _, stage := range stages {
		verdict, by := p.judge(stage, p.value(stage), maxNesting)
		if verdict == refused {
			return false, ""
		}
		if verdict == permitted && (why == "" || by == "mynetworks") {
			why = by
		}
	}
	return true, why
}

// verdict is what a list of restrictions does with a stranger's message.
type verdict int

const (
	undecided verdict = iota
	permitted
	refused
)

// refusing are the restrictions that refuse every stranger's message to a
// stranger; what comes after them does not matter.
var refusing = []string{"reject", "defer", "defer_if_permit", "reject_unauth_destination", "defer_unauth_destination", "check_relay_domains"}

// permittingStatic are tables that permit everybody.
var permittingStatic = []string{"static:ok", "static:permit", "static:{ok}", "static:{permit}"}

// judge goes through a list of restrictions. Those that depend on the message
// are taken to say nothing.
func (p place) judge(parameter, value string, depth int) (verdict, string) {
	if depth == 0 {
		return undecided, ""
	}
	classes := conf.Fields(p.value("smtpd_restriction_classes"))
	for _, word := range conf.FieldsBraced(value) {
		lower := strings.ToLower(word)
		switch {
		case slices.Contains(refusing, lower):
			return refused, ""
		case lower == "permit" || slices.Contains(permittingStatic, lower):
			return permitted, parameter
		case lower == "permit_mynetworks" && p.everybody():
			return permitted, "mynetworks"
		case slices.Contains(classes, word):
			if v, by := p.judge(parameter, p.value(word), depth-1); v != undecided {
				return v, by
			}
		case strings.HasPrefix(word, "{"):
			inner, err := conf.Unbrace(word)
			if err != nil {
				continue
			}
			if v, by := p.judge(parameter, inner, depth-1); v != undecided {
				return v, by
			}
		}
	}
	return undecided, ""
}

// everybody tells whether mynetworks holds all of IPv4 or IPv6.
func (p place) everybody() bool {
	for _, word := range conf.FieldsBraced(p.value("mynetworks")) {
		if strings.EqualFold(word, "static:all") || strings.EqualFold(word, "static:ok") {
			return true
		}
		address, bits, ok := strings.Cut(word, "/")
		if !ok || bits != "0" {
			continue
		}
		if _, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
			return true
		}
	}
	return false
}

// domainClasses are the parameters that list domains, of which every domain
// should be in one only.
var domainClasses = []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"}

// domains finds domains of two classes. Only lists that main.cf sets are
// looked at, and only what stands in them and in files that they name.
func (r *reviewer) domains() {
	p := place{r, nil}
	in := map[string]string{}
	for _, class := range domainClasses {
		text, _ := r.config.Text(class)
		if class != "mydestination" && !r.config.IsSet(class) || class == "relay_domains" && strings.Contains(text, "mydestination") {
			continue // relay_domains = $mydestination was the default for long, and does no harm
		}
		for _, domain := range listed(p.value(class)) {
			other, ok := in[domain]
			if !ok {
				in[domain] = class
				continue
			}
			if other != class {
				p.add(KindDomain, class, "domain %s is listed in both %s and %s", domain, other, class)
			}
		}
	}
}

// listed returns the domains of a list, in lower case.
func listed(value string) []string {
	var list []string
	for _, word := range conf.FieldsBraced(value) {
		switch {
		case strings.HasPrefix(word, "/"):
			if text, err := readSmall(word); err == nil {
				for line := range strings.Lines(string(text)) {
					if fields := conf.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
						list = append(list, strings.ToLower(fields[0]))
					}
				}
			}
		case strings.HasPrefix(word, "!"), strings.ContainsAny(word, ":{"):
		default:
			list = append(list, strings.ToLower(word))
		}
	}
	return list
}
