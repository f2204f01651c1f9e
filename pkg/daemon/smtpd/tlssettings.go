package smtpd

import (
	"time"

	"posthaste/pkg/conf"
	mailtls "posthaste/pkg/wire/tls"
)

// tlsSettings are what TLS needs of main.cf (spec §7).
type tlsSettings struct {
	use, enforce, wrapper, authOnly bool
	askCert, reqCert, header        bool

	files                 mailtls.Files
	caFile, caPath        string
	systemCAs             bool
	depth                 int
	protocols             string // of the level in force, as are the next two
	grade                 string
	exclusions            []string
	grades                mailtls.Grades
	curves, eecdh         string // curves: "" is crypto/tls's own choice
	digest                string
	digestByCompatibility bool // the old default, about which lookups complain
	log                   mailtls.LogMask
	tickets               bool
	ticketLife            time.Duration
	warnings              []string // about the parameters themselves
}

// asks reports whether clients are asked for a certificate.
func (t *tlsSettings) asks() bool { return t.askCert || t.reqCert }

func (s *settings) loadTLS(c *conf.Config) error {
	t := &s.tls
	*t = tlsSettings{
		use: c.Bool("smtpd_use_tls"), enforce: c.Bool("smtpd_enforce_tls"), wrapper: c.Bool("smtpd_tls_wrappermode"),
		authOnly: c.Bool("smtpd_tls_auth_only"), askCert: c.Bool("smtpd_tls_ask_ccert"), reqCert: c.Bool("smtpd_tls_req_ccert"),
		header: c.Bool("smtpd_tls_received_header"),
		files: mailtls.Files{Chain: c.String("smtpd_tls_chain_files"),
			Cert: c.String("smtpd_tls_cert_file"), Key: c.String("smtpd_tls_key_file"),
			DCert: c.String("smtpd_tls_dcert_file"), DKey: c.String("smtpd_tls_dkey_file"),
			ECCert: c.String("smtpd_tls_eccert_file"), ECKey: c.String("smtpd_tls_eckey_file")},
		caFile: c.String("smtpd_tls_CAfile"), caPath: c.String("smtpd_tls_CApath"), systemCAs: c.Bool("tls_append_default_CA"),
		depth: c.Int("smtpd_tls_ccert_verifydepth"), digest: c.String("smtpd_tls_fingerprint_digest"),
		eecdh: c.String("smtpd_tls_eecdh_grade"),
		grades: mailtls.Grades{High: c.String("tls_high_cipherlist"), Medium: c.String("tls_medium_cipherlist"),
			Low: c.String("tls_low_cipherlist"), Export: c.String("tls_export_cipherlist"), Null: c.String("tls_null_cipherlist")},
		ticketLife: c.Duration("smtpd_tls_session_cache_timeout"),
	}
	if err := t.loadLevel(c); err != nil {
		return err
	}
	t.protocols, t.grade, t.exclusions = c.String("smtpd_tls_protocols"), c.String("smtpd_tls_ciphers"), []string{c.String("smtpd_tls_exclude_ciphers")}
	if t.enforce {
		t.protocols, t.grade = c.String("smtpd_tls_mandatory_protocols"), c.String("smtpd_tls_mandatory_ciphers")
		t.exclusions = append(t.exclusions, c.String("smtpd_tls_mandatory_exclude_ciphers"))
	}
	t.tickets = t.ticketLife > 0 && c.String("tls_session_ticket_cipher") != ""
	_, set := c.Explicit("smtpd_tls_fingerprint_digest")
	t.digestByCompatibility = !set && t.digest == "md5"
	for _, p := range []struct{ grade, name string }{{"auto", "tls_eecdh_auto_curves"}, {"strong", "tls_eecdh_strong_curve"}, {"ultra", "tls_eecdh_ultra_curve"}} {
		if _, set := c.Explicit(p.name); t.eecdh == p.grade && (set || p.grade != "auto") {
			t.curves = c.String(p.name)
		}
	}
	t.checkCertificates(c)
	return nil
}

// loadLevel finds out whether TLS is used and enforced.
func (t *tlsSettings) loadLevel(c *conf.Config) error {
	if name := c.String("smtpd_tls_security_level"); !t.wrapper && name != "" {
		level, err := mailtls.ParseLevel(name)
		if err != nil {
			return err
		}
		if level.MustMatch() {
			if level == mailtls.LevelDane || level == mailtls.LevelDaneOnly {
				return configError("Invalid TLS level \"%s\"", name)
			}
			t.warn("smtpd_tls_security_level: unsupported TLS level \"%s\", using \"encrypt\"", name)
		}
		t.use, t.enforce = level > mailtls.LevelNone, level.Mandatory()
	}
	if t.wrapper {
		t.enforce = true
	}
	if t.enforce {
		t.use, t.authOnly = true, true
	}
	return nil
}

func (t *tlsSettings) warn(format string, a ...any) {
	t.warnings = append(t.warnings, configError(format, a...).Error())
}

// checkCertificates checks what is wanted of clients against what we have.
func (t *tlsSettings) checkCertificates(c *conf.Config) {
	if !t.use {
		t.askCert, t.reqCert = false, false
		return
	}
	var err error
	if t.log, err = mailtls.ParseLogLevel("smtpd_tls_loglevel", c.String("smtpd_tls_loglevel")); err != nil {
		t.warn("%v", err)
	}
	if t.reqCert && !t.enforce {
		t.warn("Can't require client certs unless TLS is required")
		t.reqCert = false
	}
}
