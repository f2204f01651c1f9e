package smtp

import (
	"crypto/tls"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
	mailtls "posthaste/pkg/wire/tls"
)

// tlsSettings are the parameters about TLS (delivery.md §2.11).
type tlsSettings struct {
	level              mailtls.Level // of destinations without a policy of their own
	wrapper, noteOffer bool
	reuse, blockEarly  bool
	log                mailtls.LogMask

	protocols, mandatoryProtocols          string
	grade, mandatoryGrade                  string
	exclude, mandatoryExclude              string
	servername, anchorFile                 string
	verifyMatch, secureMatch               string
	fingerprintMatch, fingerprintDigest    string
	policyMaps, perSite                    string
	caFile, caPath                         string
	systemCA                               bool
	depth                                  int
	files                                  mailtls.Files
	grades                                 mailtls.Grades
	curves                                 []tls.CurveID
	sessions                               bool // a session cache is configured
	sessionTime                            time.Duration
	daneDigests                            string
	daneForce                              bool          // TLSA records of hosts with insecure addresses
	daneInsecureMX                         mailtls.Level // of hosts by way of insecure MX records
	daneLookups, daneMXErrors, daneOptions bool          // what stands in the way of DANE
}

func (t *tlsSettings) read(c *conf.Config, prefix string) error {
	str := func(name string) string { return c.String(prefix + "tls_" + name) }
	if err := t.readLevel(c, prefix, str("security_level")); err != nil {
		return err
	}
	var err error
	if t.log, err = mailtls.ParseLogLevel(prefix+"tls_loglevel", str("loglevel")); err != nil {
		return err
	}
	t.wrapper, t.noteOffer = c.Bool(prefix+"tls_wrappermode"), c.Bool(prefix+"tls_note_starttls_offer")
	t.reuse, t.blockEarly = c.Bool(prefix+"tls_connection_reuse"), c.Bool(prefix+"tls_block_early_mail_reply")
	t.protocols, t.mandatoryProtocols = str("protocols"), str("mandatory_protocols")
	t.grade, t.mandatoryGrade = str("ciphers"), str("mandatory_ciphers")
	t.exclude, t.mandatoryExclude = str("exclude_ciphers"), str("mandatory_exclude_ciphers")
	t.servername, t.anchorFile = str("servername"), str("trust_anchor_file")
	t.verifyMatch, t.secureMatch = str("verify_cert_match"), str("secure_cert_match")
	t.fingerprintMatch, t.fingerprintDigest = str("fingerprint_cert_match"), str("fingerprint_digest")
	t.policyMaps, t.perSite = str("policy_maps"), str("per_site")
	t.caFile, t.caPath, t.systemCA = str("CAfile"), str("CApath"), c.Bool("tls_append_default_CA")
	t.depth = c.Int(prefix + "tls_scert_verifydepth")
	t.files = mailtls.Files{Chain: str("chain_files"), Cert: str("cert_file"), Key: str("key_file"), DCert: str("dcert_file"), DKey: str("dkey_file"),
		ECCert: str("eccert_file"), ECKey: str("eckey_file")}
	t.grades = mailtls.Grades{High: c.String("tls_high_cipherlist"), Medium: c.String("tls_medium_cipherlist"), Low: c.String("tls_low_cipherlist"),
		Export: c.String("tls_export_cipherlist"), Null: c.String("tls_null_cipherlist")}
	t.curves = mailtls.Curves(c.String("tls_eecdh_auto_curves"))
	t.daneDigests, t.daneForce = c.String("tls_dane_digests"), c.Bool(prefix+"tls_force_insecure_host_tlsa_lookup")
	if prefix == "smtp_" {
		if t.daneInsecureMX, err = insecureMX(c, "smtp_tls_dane_insecure_mx_policy"); err != nil {
			return err
		}
	}
	t.sessions, t.sessionTime = str("session_cache_database") != "", c.Duration(prefix+"tls_session_cache_timeout")
	return nil
}

func (t *tlsSettings) readLevel(c *conf.Config, prefix, name string) (err error) {
	switch {
	case name != "":
		t.level, err = mailtls.ParseLevel(name)
	case c.Bool(prefix+"enforce_tls") && c.Bool(prefix+"tls_enforce_peername"):
		t.level = mailtls.LevelVerify
	case c.Bool(prefix + "enforce_tls"):
		t.level = mailtls.LevelEncrypt
	case c.Bool(prefix + "use_tls"):
		t.level = mailtls.LevelMay
	}
	return err
}

// used reports whether some destination may get TLS.
func (t *tlsSettings) used() bool {
	return t.level > mailtls.LevelNone || t.policyMaps != "" || t.perSite != ""
}

// newEngine loads certificates, keys and trust anchors: as root, at the start.
// It returns nil after trouble that it has logged: then there is no TLS.
func newEngine(t *tlsSettings, prefix string, log *maillog.Logger) *mailtls.Client {
	if t.log.Has(mailtls.LogVerbose) {
		log.Info("initializing the client-side TLS engine")
	}
	c, ok := mailtls.ClientFiles{Files: t.files, CAFile: t.caFile, CAPath: t.caPath, SystemCA: t.systemCA,
		FingerprintDigest: t.fingerprintDigest, Prefix: prefix + "tls"}.Load(log.Info, log.Warn)
	if !ok {
		return nil
	}
	e := &mailtls.Client{Credentials: c, Grades: t.grades, Curves: t.curves, Depth: t.depth, Mask: t.log, Log: log,
		Digests: mailtls.ParseTLSADigests(t.daneDigests, log.Warn)}
	if t.sessions {
		e.Sessions = mailtls.NewSessionCache(t.sessionTime)
	}
	return e
}

// maybeStartTLS turns TLS on as policy and offer have it.
func (r *request) maybeStartTLS(s *session, esmtp bool) bool {
	offered, level := s.features&featStartTLS != 0, s.policy.level
	switch {
	case offered && level == mailtls.LevelNone:
		if r.d.tls.noteOffer {
			r.d.log.Info("Host offered STARTTLS: [%s]", s.server.host)
		}
		return true
	case offered && r.d.engine != nil:
		return r.askForTLS(s, esmtp)
	case !level.Mandatory():
		return true
	case !offered:
		r.sessionFailed(s, local("4.7.4", "TLS is required, but was not offered by host "+s.server.name()), true)
	default:
		r.sessionFailed(s, noEngine, true)
	}
	s.quit()
	return false
}

var noEngine = local("4.7.5", "TLS is required, but our TLS engine is unavailable")

// askForTLS sends STARTTLS. After the handshake everything that the server
// said before is forgotten.
func (r *request) askForTLS(s *session, esmtp bool) bool {
	rep, err := s.ask("STARTTLS", r.d.startTLSTimeout)
	if err != nil {
		r.sessionFailed(s, s.broken(err, phaseStartTLS), true)
		return false
	}
	if rep.Class() == 2 {
		return r.startTLS(s) && r.hello(s, esmtp)
	}
	if !s.policy.level.Mandatory() {
		return true
	}
	r.sessionFailed(s, s.refused(rep, rep.DSN, "TLS is required, but host "+s.server.name()+" refused to start TLS: ", ""), true)
	s.quit()
	return false
}

// startTLS makes the handshake and judges the certificate.
func (r *request) startTLS(s *session) bool {
	if r.d.engine == nil {
		r.sessionFailed(s, noEngine, true)
		s.dead = true
		return false
	}
	p := s.policy
	c, ok := r.d.engine.Connect(r.ctx, s.conn.NetConn(), mailtls.Server{Peer: s.server.relay(), Level: p.level, Protocols: p.protocols, Grade: p.grade,
		Exclude: p.exclude, SNI: p.sni, Match: p.match, Anchors: p.anchors, TLSA: p.tlsa, Logged: p.reuse,
		Session: r.d.service + "&" + r.dest.text + "&" + s.server.host + "&" + s.server.endpoint() + "&" + r.d.heloName + "&" + p.key(),
	}, r.d.startTLSTimeout)
	if !ok {
		return r.handshakeFailed(s)
	}
	s.conn.Replace(c.Conn)
	s.tls = c
	if c.OK() {
		return true
	}
	r.sessionFailed(s, local("4.7.5", "Server certificate not verified"), true)
	s.quit()
	return false
}

// handshakeFailed ends a session without TLS that should have it. At level
// may the server can get a second chance.
func (r *request) handshakeFailed(s *session) bool {
	r.mayRetryPlain(s)
	r.sessionFailed(s, local("4.7.5", "Cannot start TLS: handshake failure"), s.policy.level.Mandatory())
	s.dead = true
	return false
}

// mayRetryPlain marks a session to be tried again without TLS if level and age
// of the mail allow it and no credentials would go out in the clear. It is
// called when the handshake failed or a connection with TLS broke.
func (r *request) mayRetryPlain(s *session) {
	if s.policy.level != mailtls.LevelMay || len(r.left) == 0 {
		return
	}
	if !r.isProbe() && r.stats.Active.Sub(r.stats.Incoming) < r.d.minimalBackoff {
		return
	}
	if r.hasLogin(s) {
		return
	}
	s.retryPlain = true
	r.final = false
}

// openTLS makes the TLS engine if some destination may need it.
func (d *daemon) openTLS() {
	if d.tls.used() {
		d.engine = newEngine(&d.tls, d.prefix, d.log)
	}
}
