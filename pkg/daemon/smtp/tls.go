package smtp

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"
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
	daneLookups, daneMXErrors, daneOptions bool // what stands in the way of DANE
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

// tlsEngine is what all TLS sessions of the process share. Without one there
// is no TLS.
type tlsEngine struct {
	certs    []tls.Certificate
	roots    *mailtls.Roots
	digest   mailtls.Digest
	sessions *mailtls.SessionCache // nil: sessions are not resumed
}

// newEngine loads certificates, keys and trust anchors: as root, at the start.
// It returns nil after trouble that it has logged.
func newEngine(t *tlsSettings, prefix string, log *maillog.Logger) *tlsEngine {
	if t.log.Has(mailtls.LogVerbose) {
		log.Info("initializing the client-side TLS engine")
	}
	c, ok := mailtls.ClientFiles{Files: t.files, CAFile: t.caFile, CAPath: t.caPath, SystemCA: t.systemCA,
		FingerprintDigest: t.fingerprintDigest, Prefix: prefix + "tls"}.Load(log.Info, log.Warn)
	if !ok {
		return nil
	}
	e := &tlsEngine{certs: c.Certs, roots: c.Roots, digest: c.Digest}
	if t.sessions {
		e.sessions = mailtls.NewSessionCache(t.sessionTime)
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
	if r.d.tls.log.Has(mailtls.LogVerbose) {
		r.d.log.Info("setting up TLS connection to %s", s.server.relay())
	}
	recorder := &mailtls.Recorder{}
	cfg, err := r.tlsConfig(s, recorder)
	if err != nil {
		r.d.log.Warn("%s: %v", s.server.relay(), err)
		return r.handshakeFailed(s)
	}
	c := tls.Client(s.conn.NetConn(), cfg)
	if r.d.startTLSTimeout > 0 {
		c.SetDeadline(time.Now().Add(r.d.startTLSTimeout))
	}
	if err := c.HandshakeContext(r.ctx); err != nil {
		r.logHandshake(s, err)
		return r.handshakeFailed(s)
	}
	c.SetDeadline(time.Time{})
	s.conn.Replace(c)
	state := c.ConnectionState()
	s.tls = &state
	trust := r.judge(s)
	s.summary = mailtls.Describe(&state, mailtls.ClientSide, recorder)
	if state.DidResume && state.Version >= tls.VersionTLS13 && len(state.PeerCertificates) > 0 {
		s.summary.Server = mailtls.KeyOnly(state.PeerCertificates[0])
	}
	s.trust = trust
	r.logCertificate(s)
	if r.d.tls.log.Has(mailtls.LogSummary) || s.policy.reuse {
		r.d.log.Info("%s", s.summary.Line(trust, "established to", s.tlsPeer(), ""))
	}
	if !s.policy.level.MustMatch() || trust == mailtls.Verified {
		return true
	}
	r.sessionFailed(s, local("4.7.5", "Server certificate not verified"), true)
	s.quit()
	return false
}

// tlsConfig is the policy in crypto/tls's terms. The certificate is judged
// after the handshake, so that it never breaks one.
func (r *request) tlsConfig(s *session, recorder *mailtls.Recorder) (*tls.Config, error) {
	p, e := s.policy, r.d.engine
	versions, err := mailtls.ParseProtocols(p.protocols)
	low, high, ok := versions.Range()
	if err == nil && !ok {
		err = errors.New("Invalid TLS protocol list \"" + p.protocols + "\"")
	}
	if err != nil {
		return nil, errors.New(err.Error() + ": aborting TLS session")
	}
	list, err := r.d.tls.grades.List(p.grade, p.exclude)
	if err != nil {
		return nil, err
	}
	if r.d.tls.log.Has(mailtls.LogVerbose) {
		r.d.log.Info("%s: TLS cipher list \"%s\"", s.server.relay(), list)
	}
	if len(p.sni) > maxServerName {
		return nil, errors.New("TLS server name is too long: " + p.sni[:64] + "...")
	}
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: low, MaxVersion: high, CipherSuites: mailtls.Suites(list),
		CurvePreferences: r.d.tls.curves, ServerName: p.sni}
	cfg.GetClientCertificate = clientCertificate(recorder.WrapAll(e.certs))
	if e.sessions != nil {
		cfg.ClientSessionCache = e.sessions.For(r.d.service + "&" + r.dest.text + "&" + s.server.host + "&" + s.server.endpoint() + "&" + r.d.heloName + "&" + p.key())
	}
	return cfg, nil
}

// clientCertificate chooses the first certificate that a server can check,
// whatever authorities it names: as with OpenSSL it is the server's business
// what to make of it.
func clientCertificate(certs []tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		any := *info
		any.AcceptableCAs = nil
		for i := range certs {
			if any.SupportsCertificate(&certs[i]) == nil {
				return &certs[i], nil
			}
		}
		return &tls.Certificate{}, nil
	}
}

// maxServerName is the length limit of a server's name, in octets.
const maxServerName = 255

// logHandshake says why a handshake failed.
func (r *request) logHandshake(s *session, err error) {
	var number syscall.Errno
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		r.d.log.Info("SSL_connect error to %s: lost connection", s.server.relay())
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.d.log.Info("SSL_connect error to %s: Connection timed out", s.server.relay())
	case errors.As(err, &number):
		r.d.log.Info("SSL_connect error to %s: %v", s.server.relay(), maillog.Errno(err))
	default:
		r.d.log.Info("SSL_connect error to %s: -1", s.server.relay())
		r.d.log.Warn("TLS library problem: %v", err)
	}
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
