package smtpd

import (
	"strings"

	"posthaste/pkg/table"
)

// digestWarning is logged for each use of certificate digests whose algorithm
// nobody has chosen.
const digestWarning = "using backwards-compatible default setting smtpd_tls_fingerprint_digest=md5 to compute certificate fingerprints"

func (e evaluation) warnDigest() {
	if e.srv.set.tls.digestByCompatibility {
		e.log.Info(digestWarning)
	}
}

// hasTrustedCert reports whether the client's certificate leads to one of our
// CAs.
func (s *session) hasTrustedCert() bool { return s.tls != nil && s.tls.Cert != nil && s.tls.Trusted }

// knownCert looks for the fingerprints of the client's certificate and public
// key in relay_clientcerts.
func (s *session) knownCert() (bool, error) {
	if s.tls == nil || s.tls.Cert == nil {
		return false, nil
	}
	for _, key := range []string{s.tls.Fingerprint, s.tls.KeyFingerprint} {
		_, found, err := s.srv.maps.clientCerts.Find(s.ctx, key)
		if err != nil {
			s.log.Warn("relay_clientcerts: lookup error for fingerprint '%s', pkey fingerprint %s", s.tls.Fingerprint, s.tls.KeyFingerprint)
		}
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// permitAnyCert permits clients whose certificate leads to one of our CAs, or
// is listed in relay_clientcerts.
func permitAnyCert(e evaluation) verdict {
	if e.hasTrustedCert() {
		return accept
	}
	return permitKnownCert(e)
}

// permitKnownCert permits clients that relay_clientcerts lists.
func permitKnownCert(e evaluation) verdict {
	if e.tls == nil || e.tls.Cert == nil {
		if e.tls != nil && !e.srv.set.tls.asks() {
			e.log.Warn("%s is requested, but \"smtpd_tls_ask_ccert = no\"", e.element.name)
		}
		return dunno
	}
	e.warnDigest()
	found, err := e.knownCert()
	switch {
	case err != nil:
		return e.reject(classData, 451, "4.3.0", "<%s>: Temporary lookup failure", e.subject)
	case found:
		return accept
	}
	return dunno
}

// rewriteForCert is permit_tls_clientcerts, with trusted also
// permit_tls_all_clientcerts, in local_header_rewrite_clients.
func rewriteForCert(trusted bool) func(evaluation) verdict {
	return func(e evaluation) verdict {
		if trusted && e.hasTrustedCert() {
			return accept
		}
		found, err := e.knownCert()
		switch {
		case err != nil:
			e.checks.reply = "451 4.3.0 Temporary lookup error"
			return reject
		case found:
			return accept
		}
		return dunno
	}
}

// checkCertAccess is check_ccert_access with the default search order.
func checkCertAccess(e evaluation) verdict {
	return e.certAccess("cert_fingerprint", "pubkey_fingerprint")
}

// certAccess looks for the client's certificate in an access table.
func (e evaluation) certAccess(order ...string) verdict {
	if e.tls == nil || e.tls.Cert == nil {
		if !e.srv.set.tls.asks() {
			e.log.Warn("check_ccert_access is requested, but \"smtpd_tls_ask_ccert = no\"")
		}
		return dunno
	}
	keys := map[string]string{"cert_fingerprint": e.tls.Fingerprint, "pubkey_fingerprint": e.tls.KeyFingerprint}
	for _, what := range order {
		e.warnDigest()
		l := e.lookup(e.tls.Subject, "Client certificate")
		l.datum = keys[what]
		if v, found := l.try(keys[what], false); found && v != dunno {
			return v
		}
	}
	return dunno
}

// certTable compiles the argument of check_ccert_access: a table, or
// "{ table, { search_order = WORDS } }".
func (c *compiler) certTable(el *element, run func(evaluation) verdict) func(evaluation) verdict {
	spec, order, ok := el.arg, []string(nil), true
	if strings.HasPrefix(spec, "{") {
		spec, order, ok = c.certOptions(el.arg)
	} else if !isTableSpec(spec) {
		return badTableArgument(el.name, el.arg)
	}
	if !ok {
		arg := el.arg
		return func(e evaluation) verdict {
			e.log.Warn("See earlier parsing error messages for '%s", arg)
			return e.serverError()
		}
	}
	t, problem := c.open(spec)
	if problem != nil {
		return problem
	}
	el.table, el.silent = t, true
	if len(order) > 0 {
		return func(e evaluation) verdict { return e.certAccess(order...) }
	}
	return run
}

func (c *compiler) certOptions(arg string) (spec string, order []string, ok bool) {
	inner := strings.TrimSpace(strings.TrimSuffix(arg[1:], "}"))
	words := table.SplitList(inner)
	if len(words) == 0 {
		c.srv.log.Warn("empty map specification: '%s'", arg)
		return "", nil, false
	}
	for _, option := range words[1:] {
		name, value, found := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(option, "{"), "}"), "=")
		name = strings.TrimSpace(name)
		if !found || name != "search_order" {
			c.srv.log.Warn("unknown map attribute in '%s': '%s'", arg, name)
			return "", nil, false
		}
		for _, word := range table.SplitList(value) {
			if word != "cert_fingerprint" && word != "pubkey_fingerprint" {
				c.srv.log.Warn("unknown search type '%s' in '%s'", word, arg)
				return "", nil, false
			}
			order = append(order, word)
		}
	}
	return words[0], order, true
}
