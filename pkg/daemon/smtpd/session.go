package smtpd

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

// Reasons for which a session ends before QUIT, as they are logged.
const (
	reasonTimeout = "timeout"
	reasonLost    = "lost connection"
	reasonErrors  = "too many errors"
)

// Stages that are not names of commands.
const (
	whereConnect = "CONNECT"
	whereUnknown = "UNKNOWN"
	whereData    = "DATA content"
	whereBDAT    = "BDAT content"
	whereEOM     = "END-OF-MESSAGE"
)

// session is one conversation. It belongs to one goroutine; what belongs to a
// mail transaction is in tx.
type session struct {
	srv        *Server
	ctx        context.Context
	log        *maillog.Logger
	conn       *smtp.Conn
	standAlone bool
	passed     bool // handed over by postscreen

	peer      peer
	proto     string // SMTP or ESMTP
	where     string
	helo      string
	heloGiven bool

	denied  string // reply of a connection reject
	over    bool   // the session is to end
	reason  string // why, if not by agreement
	hungUp  bool   // a 421 or 521 was sent: the session ends before the next command
	errors  int    // since the last accepted message
	junk    int
	classes errorClass // of all errors, for notices
	stats   [statCount]stat
	history history

	pipelining    bool // the client sent commands it should have waited with
	bare          smtp.BareNewline
	xclient       permission
	xforward      permission
	connections   int     // of the client, as anvil counts
	counter       counter // the session's connection to anvil, if it is counted
	discard       smtp.Keywords
	discardFailed bool
	sasl          saslState
	tls           *mailtls.Accepted // nil: in the clear
	forward       *forwarded
	declaredSize  int64 // a SIZE that was refused stays (spec §2.5)

	checks   checkState
	bdat     bdatState
	splitter *lineSplitter
	milters  milterState
	tx       *transaction
	line     string     // the command being executed
	replay   *replayLog // for a before-queue filter
}

// permission is the outcome of an access list: granted, or not known.
type permission struct {
	granted bool
	failed  bool
}

// serve runs a session on a connection and closes it.
func (srv *Server) serve(ctx context.Context, nc net.Conn, attrs map[string]string) {
	s := &session{srv: srv, ctx: ctx, log: srv.log, standAlone: srv.standAlone, passed: len(attrs) > 0,
		proto: "SMTP", where: whereConnect}
	s.conn = smtp.NewConn(nc, srv.set.timeout)
	s.conn.PerRequest = srv.set.perRequest
	defer s.conn.Close()
	defer func() {
		if trouble := recover(); trouble != nil {
			if exit, ok := trouble.(maillog.Exit); ok {
				panic(exit)
			}
			srv.log.Panic("session with %s: %v\n%s", s.peer.namaddr, trouble, debug.Stack())
			s.dropMessage()
			s.conn.WriteString("421 4.3.0 " + srv.set.hostname + " Server local error\r\n")
			s.conn.Flush()
			s.disconnected()
		}
	}()
	s.run(nc, attrs)
}

// run is the order of events of spec §1.3.
func (s *session) run(nc net.Conn, attrs map[string]string) {
	srv := s.srv
	var err error
	broken := false
	if srv.set.upstreamProxy != "" && !s.passed && !s.standAlone {
		s.peer, err = srv.proxyHeader(nc)
		broken = err != nil
	} else {
		s.peer, err = srv.endpoint(nc, attrs)
		if err != nil {
			s.log.Warn("%v", err)
			return
		}
	}
	srv.lookupName(s.ctx, &s.peer)
	s.peer.setNamaddr(srv.set.portLogging)
	s.log.Info("connect from %s", s.peer.namaddr)
	defer s.disconnected()
	s.authorize()
	if broken {
		s.reply("421 4.3.0 %s Server local error", srv.set.hostname)
		s.conn.Flush()
		return
	}
	if srv.set.tls.wrapper && !s.standAlone {
		if !s.wrapperTLS() {
			return
		}
	}
	if !s.passed && s.improperPipelining() {
		s.reply("554 5.5.0 Error: SMTP protocol synchronization")
		s.conn.Flush()
		return
	}
	if !s.countConnection() {
		s.conn.Flush()
		return
	}
	s.loadDiscard()
	if s.activateSASL() {
		s.greet()
	}
	s.commands()
	s.finish()
}

// disconnected is the last word of a session.
func (s *session) disconnected() {
	s.endMilters()
	s.uncount()
	if s.peer.namaddr != "" {
		s.log.Info("disconnect from %s%s", s.peer.namaddr, s.statistics())
		s.peer.namaddr = ""
	}
}

// finish says why the session ended early, and reports errors.
func (s *session) finish() {
	if s.reason != "" && !(s.where == whereEOM && s.reason == reasonLost) {
		where := s.where
		if s.tx != nil && (where == whereData || where == whereBDAT) {
			where = fmt.Sprintf("%s (%d bytes)", strings.TrimSuffix(where, " content"), s.tx.contentBytes())
		}
		s.log.Info("%s after %s from %s", s.reason, where, s.peer.namaddr)
	}
	s.dropMessage()
	s.replay.close()
	s.conn.Flush()
	s.notice(true)
}

// fail ends the session because the connection failed.
func (s *session) fail(err error) {
	if s.over {
		return
	}
	s.over = true
	s.reason = reasonLost
	if err == smtp.ErrTimeout {
		s.reason = reasonTimeout
		s.conn.StartRequest()
		s.write("421 4.4.2 " + s.srv.set.hostname + " Error: timeout exceeded")
	}
}

// hangup ends the session by our own decision.
func (s *session) hangup() { s.over = true }

// localDataError is the exit of spec §1.10.
func (s *session) localDataError() {
	text := "421 4.3.0 " + s.srv.set.hostname + " Server local data error"
	s.log.Info("%s: reject: %s from %s: %s", s.id(), s.where, s.peer.namaddr, text)
	s.reply("%s", text)
	s.over = true
}

// authorize decides what the client may do, at connect and after XCLIENT.
func (s *session) authorize() {
	srv := s.srv
	if s.standAlone {
		s.bare = smtp.BareAllow
		return
	}
	s.xclient = s.allowed(srv.lists.xclient)
	s.xforward = s.allowed(srv.lists.xforward)
	s.bare = srv.set.bareNewline
	if s.bare != smtp.BareAllow && s.allowed(srv.lists.bareExclusions).granted {
		s.bare = smtp.BareAllow
	}
	s.chooseMilters()
	if s.allowed(srv.lists.debugPeers).granted {
		s.log = srv.log.With(srv.log.Verbose() + srv.debugLevel)
	}
}

// greet is the greeting stage: connection restrictions, then the banner or
// the refusal.
func (s *session) greet() {
	s.denied = ""
	if !s.standAlone && !s.srv.set.delayReject {
		if text := s.checkClient(); text != "" {
			s.denied = text
			s.errors++
			s.reply("%s", text)
			return
		}
	}
	if text := s.milterConnect(); text != "" {
		s.errors++
		s.reply("%s", text)
		return
	}
	s.reply("220 %s", s.srv.set.banner)
}

// commands is the command loop of spec §1.4.
func (s *session) commands() {
	set := s.srv.set
	for !s.over && !s.hungUp {
		if s.errors >= set.hardErrors {
			s.reason = reasonErrors
			s.classes |= classProtocol
			s.reply("421 4.7.0 %s Error: too many errors", set.hostname)
			s.over = true
			break
		}
		s.conn.StartRequest()
		ending := smtp.OneCR
		if s.bare == smtp.BareAllow {
			ending = smtp.AnyCRs
		}
		line, err := s.conn.ReadLine(set.lineLimit, ending)
		if err != nil {
			s.fail(err)
			break
		}
		if line.Long || len(line.Text) >= set.lineLimit {
			s.log.Warn("%s: request longer than %d: %.30s...", s.peer.namaddr, set.lineLimit, smtp.Printable(withoutSecret(string(line.Text)), '?'))
		}
		text, _, _ := strings.Cut(string(line.Text), "\x00")
		s.record("In:  ", withoutSecret(text))
		if s.log.Verbose() > 0 {
			s.log.Info("< %s: %s", s.peer.namaddr, smtp.Printable(withoutSecret(text), '?'))
		}
		if line.Bare && s.bare == smtp.BareReject {
			s.rejectBareNewline()
			s.over = true
			break
		}
		if set.utf8 && !utf8.Valid(line.Text) { // what follows a NUL counts, too
			s.classes |= classProtocol
			s.replyThenCount("500 5.5.2 Error: bad UTF-8 syntax")
			continue
		}
		s.execute(text)
	}
}

// rejectBareNewline refuses a line, or a message, for its bare LF.
func (s *session) rejectBareNewline() {
	s.classes |= classProtocol
	s.log.Info("%s: reject: %s from %s: bare <LF> received;%s", s.id(), s.where, s.peer.namaddr, s.logContext())
	s.reply("%d 5.5.2 %s Error: bare <LF> received", s.srv.set.bareNewlineCode, s.srv.set.hostname)
}

// protocolError counts an error and answers it.
func (s *session) protocolError(format string, a ...any) bool {
	s.classes |= classProtocol
	s.reply(format, a...)
	return false
}

// execute does what one command line says.
func (s *session) execute(line string) {
	srv := s.srv
	line, ok := s.filterCommand(line)
	if !ok {
		return
	}
	s.line = line
	args := smtp.Tokenize(line)
	if len(args) == 0 {
		s.classes |= classProtocol
		s.replyThenCount("500 5.5.2 Error: bad syntax")
		return
	}
	verb := strings.ToUpper(args[0].Text)
	if yes, _ := srv.lists.noop.match(s.ctx, verb); yes {
		s.reply("250 2.0.0 Ok")
		s.countJunk()
		return
	}
	cmd, known := srv.commands[verb]
	if !known {
		cmd.stat = statUnknown
	}
	s.stats[cmd.stat].total++
	if !known {
		s.where = whereUnknown
		if smtp.LooksLikeHeader(args[0].Text) || s.forbidden(verb, args[0].Text) {
			s.log.Warn("non-SMTP command from %s: %.100s", s.peer.namaddr, smtp.Escape([]byte(line)))
			s.reply("221 2.7.0 Error: I can break rules, too. Goodbye.")
			s.over = true
			return
		}
	}
	switch {
	case s.denied != "" && verb != "QUIT":
		s.classes |= classPolicy
		if strings.HasPrefix(s.denied[1:], "21") {
			s.replyThenCount(s.denied)
		} else {
			s.replyThenCount("503 5.7.0 Error: access denied for " + s.peer.namaddr)
		}
		return
	case !known:
		if text := s.milterUnknown(args[0].Text); text != "" {
			s.replyThenCount(text)
			return
		}
		s.classes |= classProtocol
		s.replyThenCount("500 5.5.2 Error: command not recognized")
		return
	case srv.set.tls.enforce && s.tls == nil && !s.standAlone && !cmd.plain:
		s.classes |= classProtocol
		s.replyThenCount("530 5.7.0 Must issue a STARTTLS command first")
		return
	}
	s.where = verb
	success := false
	if (s.proto == "SMTP" || cmd.synchronous) && s.improperPipelining() {
		s.reply("554 5.5.0 Error: SMTP protocol synchronization")
		s.over = true
	} else {
		success = cmd.run(s, args)
	}
	if success {
		s.stats[cmd.stat].ok++
	} else {
		s.errors++
	}
	if cmd.junk {
		s.countJunk()
	}
	if cmd.last {
		s.over = true
	}
}

// replyThenCount answers an error and counts it afterwards, as the tarpit
// looks at the errors before this one.
func (s *session) replyThenCount(text string) {
	s.reply("%s", text)
	s.errors++
}

func (s *session) countJunk() {
	if s.junk > s.srv.set.junkLimit {
		s.errors++
	}
	s.junk++
}

// filterCommand applies smtpd_command_filter.
func (s *session) filterCommand(line string) (string, bool) {
	filter := s.srv.commandFilter
	if filter == nil {
		return line, true
	}
	key := strings.TrimLeft(line, " \t")
	value, found, err := filter.Lookup(s.ctx, key) // an empty result is one, too
	if err != nil {
		s.log.Warn("%s lookup error for \"%.100s\"", s.srv.conf.String("smtpd_command_filter"), smtp.Printable(withoutSecret(key), '?'))
		s.localDataError()
		return "", false
	}
	if found {
		s.log.Info("%s: replacing command \"%.100s\" with \"%.100s\"", s.peer.namaddr, smtp.Printable(withoutSecret(key), '?'), withoutSecret(value))
		return value, true
	}
	return line, true
}

func (s *session) forbidden(upper, text string) bool {
	if yes, _ := s.srv.lists.forbidden.match(s.ctx, text); yes {
		return true
	}
	if upper == text {
		return false
	}
	return s.srv.forbiddenWords[upper]
}

// improperPipelining reports and remembers, once, that the client did not
// wait for a reply; it is true when the session has to end for it (§1.5).
func (s *session) improperPipelining() bool {
	if s.pipelining || s.standAlone {
		return false
	}
	pending := s.conn.Peek(100)
	if len(pending) == 0 {
		return false
	}
	s.pipelining = true
	s.log.Info("improper command pipelining after %s from %s: %s", s.where, s.peer.namaddr, smtp.Escape([]byte(withoutSecret(string(pending)))))
	if s.srv.set.forbidPipelining {
		s.classes |= classProtocol
	}
	return s.srv.set.forbidPipelining
}

// sleep waits without holding the session's large buffers.
func (s *session) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}
