package mailtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/wire/dns"
)

// Logger is where what happens in handshakes is told; a *maillog.Logger is one.
type Logger interface {
	Info(format string, a ...any)
	Warn(format string, a ...any)
}

// AcceptorSettings are the parameters of a server (smtpd.md §7).
type AcceptorSettings struct {
	Prefix         string // of the names of the parameters, in log lines: "smtpd_tls"
	Files          Files
	CAFile, CAPath string
	SystemCAs      bool   // tls_append_default_CA
	Depth          int    // *_ccert_verifydepth
	Protocols      string // of the level in force, as are the next two
	Grade          string
	Exclusions     []string
	Grades         Grades
	Curves         string // "" is crypto/tls's own choice
	EECDH          string // *_eecdh_grade
	Digest         string // *_fingerprint_digest
	AskCert        bool   // clients are asked for a certificate
	ReqCert        bool   // they must have a trusted one
	Log            LogMask
	TicketLife     time.Duration // *_session_cache_timeout; 0 is no tickets
}

func (s *AcceptorSettings) asks() bool { return s.AskCert || s.ReqCert }

// HasCertificate reports whether a certificate is configured; anonymous, that
// none is wanted.
func (f *Files) HasCertificate() (named, anonymous bool) {
	if f.Chain != "" {
		return true, false
	}
	anonymous = f.Cert == "none"
	return f.Cert != "" && !anonymous || f.DCert != "" || f.ECCert != "", anonymous
}

// NameTable is tls_server_sni_maps.
type NameTable interface {
	Find(ctx context.Context, key string) (value string, found bool, err error)
	Title() string
}

// Acceptor is the server's side of TLS: what all handshakes of a process
// share. It is safe for concurrent use.
type Acceptor struct {
	Tickets *Tickets         // nil: sessions are not resumed
	Names   NameTable        // certificates by server name; nil is none
	Now     func() time.Time // the clock

	set       AcceptorSettings
	log       Logger
	base      *tls.Config // without certificates and versions
	protocols Protocols
	certs     []tls.Certificate
	verifier  *Verifier
	digest    Digest
	ciphers   string // OpenSSL's list, for the log
	cipherErr error  // every handshake fails with it
}

// caError is trouble with the trust anchors, which is logged as information.
type caError struct{ error }

// errDisabled follows a warning that says what is wrong.
var errDisabled = errors.New("disabling TLS support")

// NewAcceptor loads certificates, keys and trust anchors: as root, at the
// start. It returns nil after trouble that it has logged.
func NewAcceptor(set AcceptorSettings, log Logger) *Acceptor {
	if set.Log.Has(LogVerbose) {
		log.Info("initializing the server-side TLS engine")
	}
	a := &Acceptor{set: set, log: log, Now: time.Now}
	err := a.load()
	var ca *caError
	switch {
	case err == nil:
		return a
	case errors.As(err, &ca):
		log.Info("%v: disabling TLS support", err)
	case errors.Is(err, errDisabled):
		log.Warn("disabling TLS support")
	case !errors.Is(err, ErrCertificates):
		log.Warn("%v: disabling TLS support", err)
	}
	return nil
}

func (a *Acceptor) load() (err error) {
	t := &a.set
	if a.digest, err = ParseDigest(t.Digest); err != nil {
		a.log.Warn("%v", err)
		return errDisabled
	}
	if a.protocols, err = ParseProtocols(t.Protocols); err != nil {
		return err
	}
	roots, err := LoadRoots(t.CAFile, t.CAPath, t.SystemCAs)
	if err != nil {
		return &caError{err}
	}
	a.verifier = &Verifier{Roots: roots, Depth: t.Depth, Usage: x509.ExtKeyUsageClientAuth}
	if a.certs, err = t.Files.Load(a.log.Warn); err != nil {
		return err
	}
	for i, c := range a.certs {
		a.certs[i] = roots.WithIssuers(c)
	}
	exclusions := t.Exclusions
	if t.asks() { // anonymous ciphers have no certificates
		exclusions = append(exclusions[:len(exclusions):len(exclusions)], "aNULL")
	}
	a.ciphers, a.cipherErr = t.Grades.List(t.Grade, exclusions...)
	a.base = &tls.Config{CipherSuites: Suites(a.ciphers), CurvePreferences: Curves(t.Curves), SessionTicketsDisabled: t.TicketLife <= 0}
	if t.EECDH == "none" {
		a.base.CipherSuites = Suites(a.ciphers + ":!kECDHE")
	}
	if t.asks() {
		a.base.ClientAuth = tls.RequestClientCert // we verify ourselves, afterwards
		a.base.ClientCAs = roots.Names()
	}
	if t.TicketLife > 0 {
		a.Tickets = &Tickets{Life: t.TicketLife, Now: func() time.Time { return a.Now() }}
	}
	return nil
}

// handshake is one TLS handshake of a server.
type handshake struct {
	*Acceptor
	ctx      context.Context
	peer     string // in log lines
	recorder Recorder
	matched  string // the name the client asked for, if there is a chain for it
	tickets  TicketUse
}

// config is the first configuration of a connection; what counts is chosen
// when the client has said hello.
func (h *handshake) config() *tls.Config { return &tls.Config{GetConfigForClient: h.choose} }

var errNoProtocol = errors.New("no protocol version is enabled that the client supports")

// choose picks version and certificates for a client.
func (h *handshake) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	cfg := h.base.Clone()
	cfg.Time = h.Now
	version := h.protocols.Choose(hello.SupportedVersions)
	if version == 0 {
		return nil, errNoProtocol
	}
	cfg.MinVersion, cfg.MaxVersion = version, version
	certs, err := h.chain(hello.ServerName)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = h.recorder.WrapAll(Prefer(certs, hello.SignatureSchemes, version))
	if h.Tickets != nil {
		h.Tickets.Arm(h.ctx, cfg, &h.tickets)
	}
	return cfg, nil
}

// chain finds the certificates for the server name a client asks for
// (tls_server_sni_maps): by the name, then by its parents with a dot.
func (h *handshake) chain(name string) ([]tls.Certificate, error) {
	if name == "" || h.Names == nil {
		return h.certs, nil
	}
	if !dns.ValidHostname(name) {
		h.log.Warn("TLS SNI from %s is invalid: %s", h.peer, printable(name))
		return h.certs, nil
	}
	for key := name; ; {
		value, found, err := h.Names.Find(h.ctx, key)
		if err != nil {
			h.log.Warn("%s: %s map lookup problem", h.Names.Title(), key)
			return nil, fmt.Errorf("%s map lookup problem", h.Names.Title())
		}
		if found {
			certs, err := ParseChain([]byte(value), "SNI data for "+name, h.log.Warn)
			if err != nil {
				h.log.Warn("%v: aborting TLS handshake", err)
				return nil, errors.New("no usable certificate chain for the server name")
			}
			h.matched = name
			for i, c := range certs {
				certs[i] = h.verifier.Roots.WithIssuers(c)
			}
			return certs, nil
		}
		i := strings.IndexByte(key[1:], '.')
		if i < 0 {
			break
		}
		key = key[1+i:]
	}
	h.log.Info("TLS SNI %s from %s not matched, using default chain", name, h.peer)
	return h.certs, nil
}
