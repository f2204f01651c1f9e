package review

import (
	"slices"
	"strings"

	"posthaste/pkg/conf"
)

// restrictionLists are the parameters that hold restrictions.
var restrictionLists = lazily(`^smtpd_(client|helo|sender|relay|recipient|data|end_of_data|etrn)_restrictions$`)

// alone are the restrictions that take nothing behind them (spec smtpd.md §4.4).
var alone = strings.Fields(`permit reject defer defer_if_permit defer_if_reject warn_if_reject
	reject_unauth_pipelining reject_plaintext_session permit_mynetworks permit_inet_interfaces permit_sasl_authenticated
	permit_tls_clientcerts permit_tls_all_clientcerts permit_naked_ip_address
	reject_unknown_client_hostname reject_unknown_client reject_unknown_reverse_client_hostname
	reject_invalid_helo_hostname reject_invalid_hostname reject_non_fqdn_helo_hostname reject_non_fqdn_hostname
	reject_unknown_helo_hostname reject_unknown_hostname reject_non_fqdn_sender reject_non_fqdn_recipient
	reject_unknown_sender_domain reject_unknown_address reject_unknown_recipient_domain reject_unlisted_sender
	reject_unlisted_recipient check_recipient_maps reject_multi_recipient_bounce permit_auth_destination
	reject_unauth_destination defer_unauth_destination check_relay_domains reject_sender_login_mismatch
	reject_authenticated_sender_login_mismatch reject_unauthenticated_sender_login_mismatch reject_known_sender_login_mismatch
	permit_mx_backup reject_unverified_sender reject_unverified_recipient reject_maps_rbl`)

// before an argument stand these, and those that accessCheck matches.
var beforeArgument = strings.Fields(`sleep check_policy_service reject_rbl reject_rbl_client reject_rhsbl_client reject_rhsbl_reverse_client
	reject_rhsbl_helo reject_rhsbl_sender reject_rhsbl_recipient permit_dnswl_client permit_rhswl_client`)

// accessChecks are all that are followed by a table.
var accessChecks = strings.Fields(`check_client_access check_reverse_client_hostname_access check_helo_access check_sender_access
	check_recipient_access check_etrn_access check_sasl_access check_ccert_access
	check_client_mx_access check_client_ns_access check_client_a_access check_helo_mx_access check_helo_ns_access check_helo_a_access
	check_reverse_client_hostname_mx_access check_reverse_client_hostname_ns_access check_reverse_client_hostname_a_access
	check_sender_mx_access check_sender_ns_access check_sender_a_access
	check_recipient_mx_access check_recipient_ns_access check_recipient_a_access`)

// restrictions looks at the words of the lists: smtpd answers a client whose
// mail comes to one that it does not understand with a temporary error.
func (r *reviewer) restrictions() {
	for _, p := range r.places() {
		classes := conf.Fields(strings.ToLower(p.value("smtpd_restriction_classes")))
		for _, name := range p.names() {
			if restrictionLists().MatchString(name) || slices.Contains(classes, name) {
				p.restrictionsIn(name, conf.FieldsBraced(p.value(name)), classes)
			}
		}
	}
}

func (p place) restrictionsIn(name string, words, classes []string) {
	for i := 0; i < len(words); i++ {
		word := strings.ToLower(words[i])
		table := slices.Contains(accessChecks, word)
		switch {
		case strings.HasPrefix(word, "#"):
			return // comments tells
		case strings.ContainsAny(word, ":{"), slices.Contains(alone, word), slices.Contains(classes, word):
			continue
		case !table && !slices.Contains(beforeArgument, word):
			if near := nearest(word, slices.Concat(alone, beforeArgument, accessChecks)); near != "" {
				p.add(KindRestriction, name, "%s: unknown restriction %s; is %s meant?", name, words[i], near)
			} else {
				p.add(KindRestriction, name, "%s: unknown restriction %s", name, words[i])
			}
			continue
		}
		i++
		if i == len(words) {
			p.add(KindRestriction, name, "%s: %s needs an argument", name, words[i-1])
			return
		}
		switch arg := words[i]; {
		case table && !strings.ContainsAny(arg, ":{"):
			p.add(KindRestriction, name, "%s: %s must be followed by a table, type:name, not %s", name, word, arg)
		case word == "check_policy_service" && !strings.HasPrefix(arg, "inet:") && !strings.HasPrefix(arg, "unix:") && !strings.HasPrefix(arg, "{"):
			p.add(KindRestriction, name, "%s: %s must be followed by a server, inet:HOST:PORT or unix:PATH, not %s", name, word, arg)
		}
	}
}

// nearest returns the word that is most like the given one, or "".
func nearest(name string, words []string) string {
	best, least := "", max(2, len(name)/5)+1
	for _, word := range words {
		if d := distance(name, word, least); d < least {
			best, least = word, d
		}
	}
	return best
}
