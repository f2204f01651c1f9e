package review

// deprecated are the names that releases after 3.7 give up (spec config.md §5),
// with what to set in their place.
var deprecated = map[string]string{
	"disable_dns_lookups":         "specify smtp_dns_support_level = disabled",
	"smtpd_use_tls":               "specify smtpd_tls_security_level = may",
	"smtpd_enforce_tls":           "specify smtpd_tls_security_level = encrypt",
	"smtp_use_tls":                "specify smtp_tls_security_level = may",
	"smtp_enforce_tls":            "specify smtp_tls_security_level = encrypt",
	"smtp_tls_enforce_peername":   "specify smtp_tls_security_level = verify",
	"smtp_tls_per_site":           "specify smtp_tls_policy_maps",
	"lmtp_use_tls":                "specify lmtp_tls_security_level = may",
	"lmtp_enforce_tls":            "specify lmtp_tls_security_level = encrypt",
	"lmtp_tls_enforce_peername":   "specify lmtp_tls_security_level = verify",
	"lmtp_tls_per_site":           "specify lmtp_tls_policy_maps",
	"postscreen_use_tls":          "specify postscreen_tls_security_level = may",
	"postscreen_enforce_tls":      "specify postscreen_tls_security_level = encrypt",
	"tlsproxy_use_tls":            "specify tlsproxy_tls_security_level = may",
	"tlsproxy_enforce_tls":        "specify tlsproxy_tls_security_level = encrypt",
	"tlsproxy_client_use_tls":     "specify tlsproxy_client_security_level = may",
	"tlsproxy_client_enforce_tls": "specify tlsproxy_client_security_level = encrypt",
	"tlsproxy_client_per_site":    "specify tlsproxy_client_policy_maps",
	"tlsproxy_client_level":       "specify tlsproxy_client_security_level",
	"tlsproxy_client_policy":      "specify tlsproxy_client_policy_maps",

	"smtpd_tls_dh1024_param_file":    "leave it at its default",
	"smtpd_tls_eecdh_grade":          "leave it at its default",
	"tlsproxy_tls_dh1024_param_file": "leave it at its default",
	"tlsproxy_tls_eecdh_grade":       "leave it at its default",

	"virtual_maps":                             "specify virtual_alias_maps and virtual_alias_domains",
	"fallback_relay":                           "specify smtp_fallback_relay",
	"authorized_verp_clients":                  "specify smtpd_authorized_verp_clients",
	"smtpd_client_connection_limit_exceptions": "specify smtpd_client_event_limit_exceptions",
	"postscreen_dnsbl_ttl":                     "specify postscreen_dnsbl_max_ttl",
	"postscreen_blacklist_action":              "specify postscreen_denylist_action",
	"postscreen_dnsbl_whitelist_threshold":     "specify postscreen_dnsbl_allowlist_threshold",
	"postscreen_whitelist_interfaces":          "specify postscreen_allowlist_interfaces",
	"lmtp_per_record_deadline":                 "specify lmtp_per_request_deadline",
	"smtp_per_record_deadline":                 "specify smtp_per_request_deadline",
	"smtpd_per_record_deadline":                "specify smtpd_per_request_deadline",
}

// deprecations tells of parameters that later releases do not have.
func (r *reviewer) deprecations() {
	for _, p := range r.places() {
		for _, name := range p.names() {
			if instead, ok := deprecated[name]; ok {
				p.add(KindDeprecated, name, "support for parameter %q will be removed; instead, %s", name, instead)
			}
		}
	}
}
