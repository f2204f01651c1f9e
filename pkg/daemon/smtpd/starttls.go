package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

// tlsState is the TLS of a session.
type tlsState struct {
	mailtls.Summary
	cert    *x509.Certificate // the client's; nil is none
	trusted bool              // it leads to one of our CAs
	resumed bool

	// Names and digests of the certificate.
	subject, issuer             string
	fingerprint, keyFingerprint string
}

// offersTLS reports whether EHLO announces STARTTLS.
func (s *session) offersTLS() bool {
	return s.srv.set.tls.use && !s.srv.set.tls.wrapper && s.tls == nil && !s.standAlone
}

func (s *session) cmdStartTLS(args []smtp.Token) bool {
	switch {
	case len(args) != 1:
		return s.protocolError("501 5.5.4 Syntax: STARTTLS")
	case s.milterForbids("454 4.3.0 Try again later"):
		return false
	case s.tls != nil:
		return s.protocolError("554 5.5.1 Error: TLS already active")
	case s.standAlone || !s.srv.set.tls.use || s.discard&noSTARTTLS != 0:
		return s.protocolError("502 5.5.1 Error: command not implemented")
	case s.srv.tlsEngine == nil:
		s.classes |= classSoftware
		s.reply("454 4.7.0 TLS not available due to local problem")
		return false
	case s.tooManyTLS():
		s.classes |= classPolicy
		s.log.Warn("Refusing STARTTLS request from %s for service %s", s.peer.namaddr, s.srv.service)
		s.reply("454 4.7.0 Error: too many new TLS sessions from %s", s.peer.namaddr)
		return false
	}
	s.reply("220 2.0.0 Ready to start TLS")
	if err := s.conn.Flush(); err != nil {
		s.fail(err)
		return false
	}
	if !s.handshake() {
		s.over, s.reason = true, reasonLost
		return false
	}
	if text := s.certificateTrouble(); text != "" {
		if _, err := s.conn.ReadLine(s.srv.set.lineLimit, smtp.AnyCRs); err != nil {
			s.fail(err)
			return true
		}
		s.abortTLS(text)
		return true
	}
	if s.heloGiven {
		s.abortMilters()
	}
	s.helo, s.heloGiven = "", false
	s.reset()
	return s.activateSASL()
}

// wrapperTLS is TLS from the first byte (smtpd_tls_wrappermode).
func (s *session) wrapperTLS() bool {
	if s.srv.tlsEngine == nil {
		s.log.Warn("Wrapper-mode request dropped from %s for service %s. TLS context initialization failed. For details see earlier warnings in your logs.", s.peer.namaddr, s.srv.service)
		return false
	}
	if s.tooManyTLS() {
		s.log.Warn("Refusing TLS service request from %s for service %s", s.peer.namaddr, s.srv.service)
		return false
	}
	if !s.handshake() {
		s.log.Info("%s after %s from %s", reasonLost, s.where, s.peer.namaddr)
		return false
	}
	if text := s.certificateTrouble(); text != "" {
		s.abortTLS(text)
	}
	return true
}

// certificateTrouble says why the client's certificate is not the one that is
// required.
func (s *session) certificateTrouble() string {
	text := ""
	switch {
	case !s.srv.set.tls.reqCert || s.hungUp:
	case s.tls.cert == nil:
		text = "No client certificate presented"
	case !s.tls.trusted:
		text = "Client certificate not trusted"
	}
	if text != "" {
		s.log.Info("NOQUEUE: abort: TLS from %s: %s", s.peer.namaddr, text)
	}
	return text
}

func (s *session) abortTLS(text string) {
	s.classes |= classPolicy
	s.reply("421 4.7.1 %s Error: %s", s.srv.set.hostname, text)
}

// tooManyTLS asks whether the client has made more new TLS sessions than
// smtpd_client_new_tls_session_rate_limit.
func (s *session) tooManyTLS() bool {
	limit := s.srv.set.limits.newTLS
	if limit <= 0 || !s.openCounter() {
		return false
	}
	n, err := s.counter.Count(s.ctx, anvil.NewTLSStatus, s.ident())
	return err == nil && n > limit
}

// countTLS counts a new TLS session, or a failure to make one.
func (s *session) countTLS() {
	limit := s.srv.set.limits.newTLS
	if limit <= 0 || s.counter == nil {
		return
	}
	n, err := s.counter.Count(s.ctx, anvil.NewTLS, s.ident())
	if err != nil || n <= limit {
		return
	}
	s.classes |= classPolicy
	s.log.Warn("New TLS session rate limit exceeded: %d from %s for service %s", n, s.peer.namaddr, s.srv.service)
	if s.tls != nil {
		s.reply("421 4.7.0 %s Error: too many new TLS sessions from %s", s.srv.set.hostname, s.peer.namaddr)
	}
}

// handshake puts TLS on the connection. Input that came before it is thrown
// away (spec §1.5).
func (s *session) handshake() bool {
	ok := s.startTLS()
	if !ok || !s.tls.resumed {
		s.countTLS()
	}
	return ok
}

func (s *session) startTLS() bool {
	engine, mask := s.srv.tlsEngine, s.srv.set.tls.log
	if mask.Has(mailtls.LogVerbose) {
		s.log.Info("setting up TLS connection from %s", s.peer.namaddr)
	}
	if engine.cipherErr != nil {
		s.log.Warn("%s: %v", s.peer.namaddr, engine.cipherErr)
		return false
	}
	if mask.Has(mailtls.LogVerbose) {
		s.log.Info("%s: TLS cipher list \"%s\"", s.peer.namaddr, engine.ciphers)
	}
	timeout := s.srv.set.startTLSTimeout
	raw := s.conn.NetConn()
	raw.SetDeadline(time.Now().Add(timeout))
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	h := &handshake{s: s, engine: engine}
	conn := tls.Server(raw, h.config())
	err := conn.HandshakeContext(ctx)
	raw.SetDeadline(time.Time{})
	if err != nil {
		s.logHandshakeError(err)
		return false
	}
	s.conn.Replace(conn)
	st := conn.ConnectionState()
	s.tls = h.describe(&st)
	s.logTLS(h, &st)
	return true
}

// logHandshakeError tells lost connections and system errors from errors of
// the protocol, which come with the library's text.
func (s *session) logHandshakeError(err error) {
	var errno syscall.Errno
	what := "-1"
	switch {
	case isEOF(err):
		what = reasonLost
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		what = "Connection timed out"
	case errors.As(err, &errno) && !errors.Is(err, io.EOF):
		what = strings.ToUpper(errno.Error()[:1]) + errno.Error()[1:]
	}
	s.log.Info("SSL_accept error from %s: %s", s.peer.namaddr, what)
	if what == "-1" {
		s.log.Warn("TLS library problem: %s", smtp.Printable(err.Error(), '?'))
	}
}

func (h *handshake) describe(st *tls.ConnectionState) *tlsState {
	t := &tlsState{Summary: mailtls.Describe(st, mailtls.ServerSide, &h.recorder), resumed: st.DidResume}
	if len(st.PeerCertificates) > 0 {
		c := st.PeerCertificates[0]
		t.cert = c
		t.subject, t.issuer = mailtls.SubjectCN(c), mailtls.IssuerName(c)
		t.fingerprint, t.keyFingerprint = h.engine.digest.Cert(c), h.engine.digest.PublicKey(c)
	}
	return t
}

// logTLS judges the client's certificate and writes what smtpd_tls_loglevel
// asks for.
func (s *session) logTLS(h *handshake, st *tls.ConnectionState) {
	set, t, peer := &s.srv.set.tls, s.tls, strings.ToLower(s.peer.namaddr)
	trust := mailtls.Anonymous
	verdict := h.engine.verifier.Verify(st.PeerCertificates, s.srv.now())
	if set.log.Has(mailtls.LogVerbose) && !t.resumed {
		for _, line := range verdict.Trace() {
			s.log.Info("%s: %s", peer, line)
		}
	}
	if set.log.Has(mailtls.LogCache) {
		switch {
		case t.resumed:
			s.log.Info("%s: Decrypting session ticket, key expiration: %d", peer, h.tickets.Opened.Unix())
			s.log.Info("%s: Reusing old session (RFC 5077 session ticket)", peer)
		case !h.tickets.Issued.IsZero():
			s.log.Info("%s: Issuing session ticket, key expiration: %d", peer, h.tickets.Issued.Unix())
		}
	}
	if t.cert != nil {
		t.trusted, trust = verdict.Trusted(), mailtls.Untrusted
		if t.trusted {
			trust = mailtls.Trusted
		}
		if set.log.Has(mailtls.LogVerbose) {
			s.log.Info("subject=%s", mailtls.DistinguishedName(t.cert.Subject))
			s.log.Info("issuer=%s", mailtls.DistinguishedName(t.cert.Issuer))
		}
		if set.log.Has(mailtls.LogPeerCert) {
			s.log.Info("%s: subject_CN=%s, issuer=%s, fingerprint=%s, pkey_fingerprint=%s", peer, t.subject, t.issuer, t.fingerprint, t.keyFingerprint)
		}
		if !t.trusted && (set.log.Has(mailtls.LogUntrusted) || set.reqCert) {
			if t.resumed {
				s.log.Info("%s: re-using session with untrusted certificate, look for details earlier in the log", peer)
			} else {
				s.log.Info("%s", verdict.Message("client", peer))
			}
		}
	}
	if set.log.Has(mailtls.LogSummary) {
		s.log.Info("%s", t.Line(trust, "established from", peer, h.matched))
	}
}

// headerLines are the lines of the Received: header about TLS; asked tells
// that clients are asked for a certificate.
func (t *tlsState) headerLines(asked bool) []string {
	var lines []string
	for i, line := range t.HeaderLines() {
		if i > 0 {
			line = " " + line
		}
		lines = append(lines, "\t"+line)
	}
	word := map[bool]string{true: "verified OK", false: "not verified"}
	switch {
	case t.cert != nil:
		return append(lines, fmt.Sprintf("\t(Client CN \"%s\", Issuer \"%s\" (%s))", commentText(t.subject), commentText(t.issuer), word[t.trusted]))
	case asked:
		return append(lines, "\t(Client did not present a certificate)")
	}
	return append(lines, "\t(No client certificate requested)")
}
