package smtpd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"posthaste/pkg/wire/dns"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

// tlsEngine is the server's side of TLS: what all handshakes of the process
// share. Certificates and trust anchors are read once, as root.
type tlsEngine struct {
	base      *tls.Config // without certificates and versions
	protocols mailtls.Protocols
	certs     []tls.Certificate
	verifier  *mailtls.Verifier
	digest    mailtls.Digest
	ciphers   string           // OpenSSL's list, for the log
	cipherErr error            // every handshake fails with it
	tickets   *mailtls.Tickets // nil: there are none
}

// loadTLS makes the engine. Without one STARTTLS is offered and answered 454,
// as by the original (spec §7).
func (srv *Server) loadTLS() {
	t := &srv.set.tls
	for _, w := range t.warnings {
		srv.log.Warn("%s", w)
	}
	if !t.use || srv.standAlone {
		return
	}
	if w := t.files.Conflict("smtpd_tls"); w != "" {
		srv.log.Warn("%s", w)
	}
	named, anonymous := t.hasCertificate()
	if !named && t.asks() {
		srv.log.Warn("Need a server cert to request client certs")
		anonymous = false
	}
	if !named && !anonymous {
		srv.log.Warn("No server certs available. TLS won't be enabled")
		return
	}
	if t.log.Has(mailtls.LogVerbose) {
		srv.log.Info("initializing the server-side TLS engine")
	}
	engine, err := srv.newEngine()
	var ca *caError
	switch {
	case err == nil:
		srv.tlsEngine = engine
	case errors.As(err, &ca):
		srv.log.Info("%v: disabling TLS support", err)
	case errors.Is(err, errDisabled):
		srv.log.Warn("disabling TLS support")
	case !errors.Is(err, mailtls.ErrCertificates):
		srv.log.Warn("%v: disabling TLS support", err)
	}
}

// caError is trouble with the trust anchors, which is logged as information.
type caError struct{ error }

// errDisabled follows a warning that says what is wrong.
var errDisabled = errors.New("disabling TLS support")

func (srv *Server) newEngine() (*tlsEngine, error) {
	t := &srv.set.tls
	e := &tlsEngine{}
	var err error
	if e.digest, err = mailtls.ParseDigest(t.digest); err != nil {
		srv.log.Warn("%v", err)
		return nil, errDisabled
	}
	if e.protocols, err = mailtls.ParseProtocols(t.protocols); err != nil {
		return nil, err
	}
	roots, err := mailtls.LoadRoots(t.caFile, t.caPath, t.systemCAs)
	if err != nil {
		return nil, &caError{err}
	}
	e.verifier = &mailtls.Verifier{Roots: roots, Depth: t.depth, Usage: x509.ExtKeyUsageClientAuth}
	if e.certs, err = t.files.Load(srv.log.Warn); err != nil {
		return nil, err
	}
	for i, c := range e.certs {
		e.certs[i] = roots.WithIssuers(c)
	}
	exclusions := t.exclusions
	if t.asks() { // anonymous ciphers have no certificates
		exclusions = append(exclusions[:len(exclusions):len(exclusions)], "aNULL")
	}
	e.ciphers, e.cipherErr = t.grades.List(t.grade, exclusions...)
	e.base = &tls.Config{CipherSuites: mailtls.Suites(e.ciphers), CurvePreferences: mailtls.Curves(t.curves), SessionTicketsDisabled: !t.tickets}
	if t.eecdh == "none" {
		e.base.CipherSuites = mailtls.Suites(e.ciphers + ":!kECDHE")
	}
	if t.asks() {
		e.base.ClientAuth = tls.RequestClientCert // we verify ourselves, afterwards
		e.base.ClientCAs = roots.Names()
	}
	if t.tickets {
		e.tickets = &mailtls.Tickets{Life: t.ticketLife, Now: srv.now}
	}
	return e, nil
}

// handshake is one TLS handshake of a session.
type handshake struct {
	s        *session
	engine   *tlsEngine
	recorder mailtls.Recorder
	matched  string // the name the client asked for, if there is a chain for it
	tickets  mailtls.TicketUse
}

// config is the first configuration of a connection; what counts is chosen
// when the client has said hello.
func (h *handshake) config() *tls.Config { return &tls.Config{GetConfigForClient: h.choose} }

var errNoProtocol = errors.New("no protocol version is enabled that the client supports")

// choose picks version and certificates for a client.
func (h *handshake) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	e := h.engine
	cfg := e.base.Clone()
	cfg.Time = h.s.srv.now
	version := e.protocols.Choose(hello.SupportedVersions)
	if version == 0 {
		return nil, errNoProtocol
	}
	cfg.MinVersion, cfg.MaxVersion = version, version
	certs, err := h.chain(hello.ServerName)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = h.recorder.WrapAll(mailtls.Prefer(certs, hello.SignatureSchemes, version))
	if e.tickets != nil {
		e.tickets.Arm(h.s.ctx, cfg, &h.tickets)
	}
	return cfg, nil
}

// chain finds the certificates for the server name a client asks for
// (tls_server_sni_maps): by the name, then by its parents with a dot.
func (h *handshake) chain(name string) ([]tls.Certificate, error) {
	s, m := h.s, h.s.srv.maps.sni
	if name == "" || m.Empty() {
		return h.engine.certs, nil
	}
	if !dns.ValidHostname(name) {
		s.log.Warn("TLS SNI from %s is invalid: %s", s.peer.namaddr, smtp.Printable(name, '?'))
		return h.engine.certs, nil
	}
	for key := name; ; {
		value, found, err := m.Find(s.ctx, key)
		if err != nil {
			s.log.Warn("%s: %s map lookup problem", m.Title(), key)
			return nil, fmt.Errorf("%s map lookup problem", m.Title())
		}
		if found {
			certs, err := mailtls.ParseChain([]byte(value), "SNI data for "+name, s.log.Warn)
			if err != nil {
				s.log.Warn("%v: aborting TLS handshake", err)
				return nil, errors.New("no usable certificate chain for the server name")
			}
			h.matched = name
			for i, c := range certs {
				certs[i] = h.engine.verifier.Roots.WithIssuers(c)
			}
			return certs, nil
		}
		i := strings.IndexByte(key[1:], '.')
		if i < 0 {
			break
		}
		key = key[1+i:]
	}
	s.log.Info("TLS SNI %s from %s not matched, using default chain", name, s.peer.namaddr)
	return h.engine.certs, nil
}
