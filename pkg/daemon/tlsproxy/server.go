package tlsproxy

import (
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/tlsmgr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	mailtls "posthaste/pkg/wire/tls"
)

// serverRole is TLS with clients of the network.
type serverRole struct {
	acceptor *mailtls.Acceptor // nil: not to be had
}

// load reads parameters, certificates and keys.
func (r *serverRole) load(c *conf.Config, log *maillog.Logger) error {
	use, enforce, err := r.level(c, log)
	if err != nil {
		return err
	}
	if !use {
		log.Warn("TLS server role is disabled with tlsproxy_tls_security_level or tlsproxy_use_tls")
		return nil
	}
	str := func(name string) string { return c.String("tlsproxy_tls_" + name) }
	set := mailtls.AcceptorSettings{
		Files: mailtls.Files{Chain: str("chain_files"), Cert: str("cert_file"), Key: str("key_file"),
			DCert: str("dcert_file"), DKey: str("dkey_file"), ECCert: str("eccert_file"), ECKey: str("eckey_file")},
		CAFile: str("CAfile"), CAPath: str("CApath"), SystemCAs: c.Bool("tls_append_default_CA"), Depth: c.Int("tlsproxy_tls_ccert_verifydepth"),
		Protocols: str("protocols"), Grade: str("ciphers"), Exclusions: []string{str("exclude_ciphers")}, Grades: grades(c),
		EECDH: str("eecdh_grade"), Digest: str("fingerprint_digest"), AskCert: c.Bool("tlsproxy_tls_ask_ccert"), ReqCert: c.Bool("tlsproxy_tls_req_ccert"),
	}
	if enforce {
		set.Protocols, set.Grade = str("mandatory_protocols"), str("mandatory_ciphers")
		set.Exclusions = append(set.Exclusions, str("mandatory_exclude_ciphers"))
	}
	if set.Log, err = mailtls.ParseLogLevel("tlsproxy_tls_loglevel", str("loglevel")); err != nil {
		log.Warn("%v", err)
	}
	for _, p := range [][2]string{{"auto", "tls_eecdh_auto_curves"}, {"strong", "tls_eecdh_strong_curve"}, {"ultra", "tls_eecdh_ultra_curve"}} {
		if _, explicit := c.Explicit(p[1]); set.EECDH == p[0] && (explicit || p[0] != "auto") {
			set.Curves = c.String(p[1])
		}
	}
	if c.String("tls_session_ticket_cipher") != "" {
		set.TicketLife = c.Duration("smtpd_tls_session_cache_timeout")
	}
	if set.ReqCert && !enforce {
		log.Warn("Can't require client certs unless TLS is required")
		set.ReqCert = false
	}
	if w := set.Files.Conflict("tlsproxy_tls"); w != "" {
		log.Warn("%s", w)
	}
	named, anonymous := set.Files.HasCertificate()
	if !named && (set.AskCert || set.ReqCert) {
		log.Warn("Need a server cert to request client certs")
		anonymous = false
	}
	if !named && !anonymous {
		log.Warn("No server certs available. TLS can't be enabled")
		return nil
	}
	r.acceptor = mailtls.NewAcceptor(set, log)
	return r.names(c, log)
}

// level finds out whether TLS is used and enforced.
func (r *serverRole) level(c *conf.Config, log *maillog.Logger) (use, enforce bool, err error) {
	use, enforce = c.Bool("tlsproxy_use_tls"), c.Bool("tlsproxy_enforce_tls")
	if name := c.String("tlsproxy_tls_security_level"); name != "" {
		level, err := mailtls.ParseLevel(name)
		if err != nil {
			return false, false, err
		}
		if level.MustMatch() {
			log.Warn("tlsproxy_tls_security_level: unsupported TLS level \"%s\", using \"encrypt\"", name)
		}
		use, enforce = level > mailtls.LevelNone, level.Mandatory()
	}
	return use || enforce, enforce, nil
}

// names opens tls_server_sni_maps.
func (r *serverRole) names(c *conf.Config, log *maillog.Logger) error {
	const name = "tls_server_sni_maps"
	list := c.String(name)
	if r.acceptor == nil || strings.TrimSpace(list) == "" {
		return nil
	}
	maps, err := table.OpenMaps(table.Env{Config: c, Log: log, Daemon: true}, name, list, table.FoldFix|table.SrcRHSIsFile)
	if err == nil {
		r.acceptor.Names = maps
	}
	return err
}

// shareTickets has the keys of session tickets in common with other servers.
func (r *serverRole) shareTickets(rt *service.Runtime) {
	if r.acceptor != nil && r.acceptor.Tickets != nil {
		r.acceptor.Tickets.Source = tlsmgr.Tickets(rt.Config.String("tlsmgr_service_name"), rt.Log)
	}
}

func grades(c *conf.Config) mailtls.Grades {
	return mailtls.Grades{High: c.String("tls_high_cipherlist"), Medium: c.String("tls_medium_cipherlist"), Low: c.String("tls_low_cipherlist"),
		Export: c.String("tls_export_cipherlist"), Null: c.String("tls_null_cipherlist")}
}
