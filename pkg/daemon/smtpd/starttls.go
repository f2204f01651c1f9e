package smtpd

import (
	"fmt"

	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

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
	case s.standAlone || !s.srv.set.tls.use || s.discard&smtp.NoSTARTTLS != 0:
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
	case s.tls.Cert == nil:
		text = "No client certificate presented"
	case !s.tls.Trusted:
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
	if !ok || !s.tls.Resumed {
		s.countTLS()
	}
	return ok
}

func (s *session) startTLS() bool {
	conn, client, ok := s.srv.tlsEngine.Accept(s.ctx, s.conn.NetConn(), s.peer.namaddr, s.srv.set.startTLSTimeout)
	if !ok {
		return false
	}
	s.conn.Replace(conn)
	s.tls = client
	return true
}

// tlsHeaderLines are the lines of the Received: header about TLS; asked tells
// that clients are asked for a certificate.
func tlsHeaderLines(t *mailtls.Accepted, asked bool) []string {
	var lines []string
	for i, line := range t.HeaderLines() {
		if i > 0 {
			line = " " + line
		}
		lines = append(lines, "\t"+line)
	}
	word := map[bool]string{true: "verified OK", false: "not verified"}
	switch {
	case t.Cert != nil:
		return append(lines, fmt.Sprintf("\t(Client CN \"%s\", Issuer \"%s\" (%s))", commentText(t.Subject), commentText(t.Issuer), word[t.Trusted]))
	case asked:
		return append(lines, "\t(Client did not present a certificate)")
	}
	return append(lines, "\t(No client certificate requested)")
}
