package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/conf"
)

// tlsLevel is a TLS security level (delivery.md §2.11).
type tlsLevel int

const (
	tlsNone tlsLevel = iota
	tlsMay
	tlsEncrypt
	tlsFingerprint
	tlsHalfDane
	tlsDane
	tlsDaneOnly
	tlsVerify
	tlsSecure
)

var tlsLevels = map[string]tlsLevel{"none": tlsNone, "may": tlsMay, "encrypt": tlsEncrypt, "fingerprint": tlsFingerprint,
	"dane": tlsDane, "dane-only": tlsDaneOnly, "verify": tlsVerify, "secure": tlsSecure}

// tlsSettings are what is there of TLS: the levels none, may and encrypt with
// the TLS versions of crypto/tls.
type tlsSettings struct {
	level                tlsLevel
	wrapper, noteOffer   bool
	reuse                bool
	logLevel             int
	min, mandatoryMin    uint16
	certFile, keyFile    string
	certificates         []tls.Certificate
	unsupportedParameter string
}

func (t *tlsSettings) read(c *conf.Config, prefix string) error {
	name := c.String(prefix + "tls_security_level")
	switch level, ok := tlsLevels[name]; {
	case name != "" && !ok:
		return fmt.Errorf("Invalid TLS level \"%s\"", name)
	case name != "":
		t.level = level
	case c.Bool(prefix + "enforce_tls"):
		t.level = tlsVerify
		if !c.Bool(prefix + "tls_enforce_peername") {
			t.level = tlsEncrypt
		}
	case c.Bool(prefix + "use_tls"):
		t.level = tlsMay
	}
	t.wrapper, t.noteOffer = c.Bool(prefix+"tls_wrappermode"), c.Bool(prefix+"tls_note_starttls_offer")
	t.reuse = c.Bool(prefix + "tls_connection_reuse")
	if n, err := strconv.Atoi(c.String(prefix + "tls_loglevel")); err == nil {
		t.logLevel = n
	}
	t.min, t.mandatoryMin = minVersion(c.String(prefix+"tls_protocols")), minVersion(c.String(prefix+"tls_mandatory_protocols"))
	if c.String(prefix+"tls_per_site") != "" {
		t.unsupportedParameter = prefix + "tls_per_site"
	}
	t.certFile, t.keyFile = c.String(prefix+"tls_cert_file"), c.String(prefix+"tls_key_file")
	if t.certFile != "" && t.certFile != "none" {
		cert, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			c.Warnf("cannot load TLS client certificate and key: %v", err)
		} else {
			t.certificates = []tls.Certificate{cert}
		}
	}
	return nil
}

// minVersion is the oldest TLS version that a protocol list leaves; crypto/tls
// has nothing older than TLS 1.0.
func minVersion(list string) uint16 {
	versions := []struct {
		name string
		id   uint16
	}{{"TLSv1", tls.VersionTLS10}, {"TLSv1.1", tls.VersionTLS11}, {"TLSv1.2", tls.VersionTLS12}, {"TLSv1.3", tls.VersionTLS13}}
	oldest := uint16(tls.VersionTLS10)
	words := strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ':' || c == ' ' || c == '\t' })
	for _, v := range versions {
		for _, w := range words {
			switch {
			case strings.EqualFold(w, ">="+v.name):
				oldest = max(oldest, v.id)
			case strings.EqualFold(w, "!"+v.name) && oldest == v.id:
				oldest++
			}
		}
	}
	return min(oldest, tls.VersionTLS13)
}

// tlsLevel is the level for a server. What is configured but not there yet
// makes the server unusable: mail waits rather than goes out unprotected.
func (r *request) tlsLevel(srv server) (tlsLevel, bool) {
	t := &r.d.tls
	level, problem := t.level, ""
	if t.unsupportedParameter != "" {
		problem = t.unsupportedParameter + " is not built in yet"
	}
	if !r.d.tables.tlsPolicy.Empty() {
		value, found, err := r.policy()
		words := conf.Fields(value)
		switch {
		case err != nil:
			problem = "client TLS configuration problem"
		case !found:
		case len(words) != 1:
			problem = "TLS policy attributes are not built in yet"
		default:
			var ok bool
			if level, ok = tlsLevels[strings.ToLower(words[0])]; !ok {
				problem = "client TLS configuration problem"
			}
		}
	}
	if level > tlsEncrypt && problem == "" {
		problem = "this TLS security level is not built in yet"
	}
	if srv.path != "" && level == tlsMay {
		level = tlsNone
	}
	if t.wrapper && level < tlsEncrypt && problem == "" {
		r.d.log.Warn("%stls_wrappermode requires \"%stls_security_level = encrypt\" (or stronger)", r.d.prefix, r.d.prefix)
		return level, false
	}
	if problem != "" {
		r.d.log.Warn("TLS policy lookup for %s/%s: %s", r.dest.text, srv.host, problem)
		r.why = status("4.7.5", "%s", problem)
		return level, false
	}
	return level, true
}

// policy looks the destination up in smtp_tls_policy_maps.
func (r *request) policy() (string, bool, error) {
	m := r.d.tables.tlsPolicy
	key := r.dest.text
	for {
		value, found, err := m.Find(r.ctx, key)
		if err != nil || found {
			return value, found, err
		}
		if r.dest.unix != "" || strings.ContainsAny(r.dest.text, "[:") {
			return "", false, nil
		}
		i := strings.IndexByte(strings.TrimPrefix(key, "."), '.')
		if i < 0 {
			return "", false, nil
		}
		key = strings.TrimPrefix(key, ".")[i:]
	}
}

// maybeStartTLS turns TLS on as level and offer have it.
func (r *request) maybeStartTLS(s *session, esmtp bool) bool {
	if s.features&featStartTLS == 0 || s.level == tlsNone {
		if s.features&featStartTLS != 0 && r.d.tls.noteOffer {
			r.d.log.Info("Host offered STARTTLS: [%s]", s.server.host)
		}
		if s.level > tlsMay {
			r.sessionFailed(s, local("4.7.4", "TLS is required, but was not offered by host "+s.server.name()), true)
			s.quit()
			return false
		}
		return true
	}
	rep, err := s.ask("STARTTLS", r.d.startTLSTimeout)
	if err != nil {
		r.sessionFailed(s, s.broken(err, phaseStartTLS), true)
		return false
	}
	if rep.Class() != 2 {
		if s.level > tlsMay {
			r.sessionFailed(s, s.refused(rep, rep.DSN, "TLS is required, but host "+s.server.name()+" refused to start TLS: ", ""), true)
			s.quit()
			return false
		}
		return true
	}
	return r.startTLS(s) && r.hello(s, esmtp)
}

// startTLS makes the handshake. Level may lets the certificate be anything.
func (r *request) startTLS(s *session) bool {
	t := &r.d.tls
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: t.min, Certificates: t.certificates}
	if s.level > tlsMay {
		cfg.MinVersion = t.mandatoryMin
	}
	c := tls.Client(s.conn.NetConn(), cfg)
	c.SetDeadline(time.Now().Add(r.d.startTLSTimeout))
	err := c.HandshakeContext(r.ctx)
	if err != nil {
		text := err.Error()
		if errors.Is(err, io.EOF) {
			text = "lost connection"
		}
		r.d.log.Info("SSL_connect error to %s: %s", s.server.relay(), text)
		if s.level == tlsMay && r.mayRetryPlain() {
			s.retryPlain = true
			r.final = false
		}
		r.sessionFailed(s, local("4.7.5", "Cannot start TLS: handshake failure"), s.level != tlsMay)
		s.dead = true
		return false
	}
	c.SetDeadline(time.Time{})
	s.conn.Replace(c)
	state := c.ConnectionState()
	s.tls = &state
	if t.logLevel >= 1 {
		r.d.log.Info("%s TLS connection established to %s: %s", trust(state), s.server.relay(), describe(state))
	}
	return true
}

// trust is the log's word for what the certificate is worth.
func trust(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return "Anonymous"
	}
	return "Untrusted"
}

func describe(state tls.ConnectionState) string {
	version := strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1)
	if version == "TLSv1.0" {
		version = "TLSv1"
	}
	suite := tls.CipherSuiteName(state.CipherSuite)
	bits := 256
	if strings.Contains(suite, "AES_128") {
		bits = 128
	}
	text := fmt.Sprintf("%s with cipher %s (%d/%d bits)", version, suite, bits, bits)
	if state.Version >= tls.VersionTLS13 && state.CurveID != 0 {
		text += " key-exchange " + state.CurveID.String()
	}
	return text
}
