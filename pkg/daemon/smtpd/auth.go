package smtpd

import (
	"context"
	"strings"

	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/sasl"
	"posthaste/pkg/wire/smtp"
)

// saslEngine is what the sessions of a process share for AUTH (spec §3.4).
type saslEngine struct {
	backend       sasl.Backend
	plain, tls    sasl.Options // demanded of mechanisms without and with TLS
	filter        matcher
	exceptions    matcher
	broken        bool // announce AUTH= for clients of a draft
	responseLimit int
}

// saslState is who the client is, if it authenticated itself, and whether it
// may.
type saslState struct {
	method, user string
	mechanisms   []string // offered; nil when SASL is not active
}

// loadSASL makes the backend, as root. The settings' mistakes are errors.
func (srv *Server) loadSASL() error {
	c := srv.conf
	if !srv.set.saslEnable || srv.standAlone {
		return nil
	}
	e := &saslEngine{broken: c.Bool("broken_sasl_auth_clients"), responseLimit: c.Int("smtpd_sasl_response_limit")}
	var err error
	if e.backend, err = srv.saslBackend(c.String("smtpd_sasl_type")); err != nil {
		srv.log.Warn("%v", err)
		return configError("SASL per-process initialization failed")
	}
	for _, o := range []struct {
		to    *sasl.Options
		param string
	}{{&e.plain, "smtpd_sasl_security_options"}, {&e.tls, "smtpd_sasl_tls_security_options"}} {
		if *o.to, err = sasl.ParseOptions(c.String(o.param)); err != nil {
			srv.log.Warn("%v", err)
			srv.log.Warn("bad per-session SASL security properties")
			return configError("SASL per-connection initialization failed")
		}
	}
	for _, l := range []struct {
		to    *matcher
		param string
		kind  table.MatchKind
	}{{&e.filter, "smtpd_sasl_mechanism_filter", table.MatchString}, {&e.exceptions, "smtpd_sasl_exceptions_networks", table.MatchHostAddr}} {
		if text := c.String(l.param); strings.TrimSpace(text) != "" {
			if l.to.list, err = table.NewMatchList(srv.env, l.param, text, l.kind, 0); err != nil {
				return err
			}
		}
	}
	srv.auth = e
	if c.String("smtpd_sasl_type") != "cyrus" {
		return nil
	}
	// What the library offers is known now, so that mistakes show at start
	// and not when a client comes.
	var modes []sasl.Peer
	if !srv.set.tls.authOnly && !srv.set.tls.wrapper {
		modes = append(modes, sasl.Peer{Options: e.plain})
	}
	if srv.set.tls.use {
		modes = append(modes, sasl.Peer{Options: e.tls, TLS: true})
	}
	for _, p := range modes {
		if _, err := srv.mechanisms(context.Background(), p); err != nil {
			return err
		}
	}
	return nil
}

func (srv *Server) saslBackend(kind string) (sasl.Backend, error) {
	c := srv.conf
	path, service := c.String("smtpd_sasl_path"), c.String("smtpd_sasl_service")
	switch kind {
	case "dovecot":
		b := sasl.NewDovecot(path)
		b.Service, b.Warn = service, srv.log.Warn
		return b, nil
	case "cyrus":
		search := c.String("cyrus_sasl_config_path")
		if search == "" {
			search = sasl.DefaultConfigPath
		}
		config, err := sasl.LoadConfig(search, path)
		if err != nil {
			return nil, configError("SASL per-process initialization failed: %v", err)
		}
		b := sasl.NewCyrus(config)
		b.Service, b.Hostname, b.Realm, b.Warn = service, srv.set.hostname, c.String("smtpd_sasl_local_domain"), srv.log.Warn
		return b, nil
	}
	return nil, configError("unsupported SASL server implementation: %s", kind)
}

// mechanisms is what the filter leaves of the backend's offer; the error is
// the text for "fatal:".
func (srv *Server) mechanisms(ctx context.Context, p sasl.Peer) ([]string, error) {
	all, err := srv.auth.backend.Mechanisms(ctx, p)
	if err != nil {
		srv.log.Warn("%v", err)
	}
	if len(all) == 0 {
		return nil, configError("no SASL authentication mechanisms")
	}
	var names []string
	for _, name := range all {
		if srv.auth.allows(ctx, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, configError("smtpd_sasl_mechanism_filter discards all mechanisms in '%s'", strings.Join(all, " "))
	}
	return names, nil
}

// allows reports whether the filter announces a mechanism; an empty one
// announces none. It is no access control: AUTH takes what the backend knows.
func (e *saslEngine) allows(ctx context.Context, mechanism string) bool {
	yes, err := e.filter.match(ctx, mechanism)
	return yes && err == nil
}

// saslPeer is what the backend learns about the client.
func (s *session) saslPeer() sasl.Peer {
	p := sasl.Peer{ServerAddr: s.peer.serverAddr, ClientAddr: s.peer.addr, TLS: s.tls != nil, Options: s.srv.auth.plain}
	if p.ServerAddr == unknown {
		p.ServerAddr = ""
	}
	if p.ClientAddr == unknown {
		p.ClientAddr = ""
	}
	if p.TLS {
		p.Options = s.srv.auth.tls
	}
	return p
}

// activateSASL decides, at connect and after STARTTLS, whether the client may
// authenticate itself, and forgets who it was (but for a login by XCLIENT while
// it could not). While the authentication server
// is away the session ends with 421: the original's process ends there, and
// ours has other sessions.
func (s *session) activateSASL() bool {
	if s.activeSASL() {
		s.sasl = saslState{}
	}
	if s.srv.auth == nil || s.tls == nil && s.srv.set.tls.authOnly {
		return true
	}
	names, err := s.srv.mechanisms(s.ctx, s.saslPeer())
	if err != nil {
		s.log.Warn("%s: %v", s.peer.namaddr, err)
		s.reply("421 4.3.0 %s Server local error", s.srv.set.hostname)
		s.over = true
		return false
	}
	s.sasl.mechanisms = names
	return true
}

// activeSASL reports whether AUTH means something in this session.
func (s *session) activeSASL() bool { return s.sasl.mechanisms != nil }

// authLines are the lines of the reply to EHLO.
func (s *session) authLines() []string {
	if !s.activeSASL() {
		return nil
	}
	if s.allowed(s.srv.auth.exceptions).granted {
		return nil
	}
	list := strings.Join(s.sasl.mechanisms, " ")
	lines := []string{"AUTH " + list}
	if s.srv.auth.broken {
		lines = append(lines, "AUTH="+list)
	}
	return lines
}

func (s *session) authRate() rate {
	return rate{anvil.Auth, s.srv.set.limits.auth, "many AUTH commands", "AUTH command"}
}

func (s *session) cmdAuth(args []smtp.Token) bool {
	switch {
	case !s.heloGiven && s.srv.set.heloRequired:
		return s.protocolError("503 5.5.1 Error: send HELO/EHLO first")
	case !s.activeSASL() || s.standAlone:
		return s.protocolError("503 5.5.1 Error: authentication not enabled")
	case s.tx != nil:
		return s.protocolError("503 5.5.1 Error: MAIL transaction in progress")
	case s.milterForbids("454 4.3.0 Try again later"):
		return false
	case s.sasl.method != "":
		return s.protocolError("503 5.5.1 Error: already authenticated")
	case len(args) < 2 || len(args) > 3:
		return s.protocolError("501 5.5.4 Syntax: AUTH mechanism")
	}
	if s.limited(s.authRate) {
		return false
	}
	return s.authenticate(args)
}

// authenticate has the dialogue of an AUTH command.
func (s *session) authenticate(args []smtp.Token) bool {
	method := smtp.Printable(args[1].Text, '?')
	r := sasl.Request{Peer: s.saslPeer(), Mechanism: args[1].Text}
	if len(args) == 3 {
		r.Initial = &args[2].Text
	}
	exchange, out := s.srv.auth.backend.Start(s.ctx, r)
	for out.Status == sasl.Challenge {
		s.reply("334 %s", out.Text)
		response, ok := s.authResponse()
		switch {
		case s.over:
			return false
		case !ok:
			s.classes |= classProtocol
			s.reply("500 5.5.6 SASL response limit exceeded")
			return false
		case response == "*":
			s.log.Warn("%s: SASL %s authentication aborted", s.peer.namaddr, method)
			s.reply("501 5.7.0 Authentication aborted")
			return false
		}
		out = exchange.Next(s.ctx, response)
	}
	if out.Status == sasl.OK {
		s.sasl.method, s.sasl.user = method, smtp.Printable(out.User, '?')
		s.reply("235 2.7.0 Authentication successful")
		return true
	}
	reason, user := smtp.Printable(out.Text, '?'), smtp.Printable(out.User, '?')
	if reason == "" {
		reason = "(reason unavailable)"
	}
	if user == "" {
		user = "(unavailable)"
	}
	s.log.Warn("%s: SASL %.100s authentication failed: %s, sasl_username=%.100s", s.peer.namaddr, method, reason, user)
	if out.Status == sasl.Temporary {
		s.reply("454 4.7.0 Temporary authentication failure: %s", reason)
	} else {
		s.reply("535 5.7.8 Error: authentication failed: %s", reason)
	}
	return false
}

// authResponse reads the client's answer to a challenge; not ok says that it
// was too long.
func (s *session) authResponse() (string, bool) {
	s.conn.StartRequest()
	ending := smtp.OneCR
	if s.bare == smtp.BareAllow {
		ending = smtp.AnyCRs
	}
	limit := s.srv.auth.responseLimit
	line, err := s.conn.ReadLine(limit, ending)
	if err != nil {
		s.fail(err)
		return "", false
	}
	if line.Long || len(line.Text) >= limit {
		s.log.Warn("%s: request longer than %d: %s...", s.peer.namaddr, limit, hiddenText)
	}
	s.record("In:  ", hiddenText)
	if s.log.Verbose() > 0 {
		s.log.Info("< %s: %s", s.peer.namaddr, hiddenText)
	}
	if line.Bare && s.bare == smtp.BareReject {
		s.rejectBareNewline()
		s.over = true
		return "", false
	}
	text, _, _ := strings.Cut(string(line.Text), "\x00")
	return text, len(line.Text) < limit
}

// hiddenText stands in logs and transcripts for what may be a password.
const hiddenText = "<SASL response not shown>"

// withoutSecret is a command as logs and transcripts may show it: of AUTH no
// more than the mechanism. Several lines may follow each other.
func withoutSecret(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) > 2 && strings.EqualFold(words[0], "AUTH") {
			// what follows on later lines may answer its challenges
			return strings.Join(lines[:i], "") + words[0] + " " + words[1] + " " + hiddenText
		}
		if len(words) == 2 && strings.EqualFold(words[0], "AUTH") && i+1 < len(lines) && lines[i+1] != "" {
			return strings.Join(lines[:i+1], "") + hiddenText
		}
	}
	return text
}
