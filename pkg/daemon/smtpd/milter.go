package smtpd

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/milter"
	"posthaste/pkg/wire/smtp"
)

// milterSetup is what the sessions of a process need for Milters (spec §6.4).
type milterSetup struct {
	config            milter.Config
	list              string // smtpd_milters
	maps              *table.Maps
	daemonName, macro string // milter_macro_daemon_name, milter_macro_v
}

// loadMilters reads the configuration of Milters; none are connected to.
func (srv *Server) loadMilters() error {
	if !srv.wantsMilters {
		return nil
	}
	c := srv.conf
	config, err := milter.Configuration(c, srv.log)
	if err != nil {
		return err
	}
	m := &milterSetup{config: config, list: c.String("smtpd_milters"), daemonName: c.String("milter_macro_daemon_name"), macro: c.String("milter_macro_v")}
	if m.maps, err = table.OpenMaps(srv.env, "smtpd_milter_maps", srv.set.milterMaps, 0); err != nil {
		return err
	}
	srv.milters = m
	return nil
}

// milterState is a session's Milters and what their macros are about.
type milterState struct {
	filters *milter.Filters // nil: none
	tx      *transaction    // MAIL being decided
	rcpt    string          // RCPT being decided
	broken  bool            // the list of Milters makes no sense
	refusal string          // the reply to a recipient that was refused
	helo    milter.Result   // of the last HELO
	targets map[string]rewrite.Reply
}

// noMilters is the value of smtpd_milter_maps for a client without Milters.
const noMilters = "DISABLE"

// chooseMilters decides which Milters this client has, instead of earlier
// ones (spec §1.3 step 2).
func (s *session) chooseMilters() {
	s.closeMilters()
	setup := s.srv.milters
	if setup == nil || s.standAlone {
		return
	}
	list := setup.list
	value, found, err := setup.maps.Find(s.ctx, s.peer.addr)
	if err == nil && found { // a lookup error has been logged, and is no reason to do without
		list = value
	}
	if strings.EqualFold(list, noMilters) || strings.TrimSpace(list) == "" {
		return
	}
	filters, err := milter.New(list, setup.config)
	if err != nil {
		s.log.Error("%v", err)
		s.milters.broken = true
		return
	}
	filters.Lookup = s.milterMacro
	s.milters = milterState{filters: filters}
}

// closeMilters ends the session with the Milters.
func (s *session) closeMilters() {
	if s.milters.filters != nil {
		s.milters.filters.Close()
		s.milters = milterState{}
	}
}

// abortMilters makes the Milters forget the message.
func (s *session) abortMilters() {
	if s.milters.filters != nil {
		s.milters.filters.Abort()
		s.milters.targets = nil
	}
}

// endMilters is the end of the session.
func (s *session) endMilters() {
	if s.tx != nil {
		s.abortMilters()
	}
	if s.heloGiven {
		s.abortMilters()
	}
	s.closeMilters()
}

// judged logs a Milter's verdict and applies it to tx, which may be nil; the
// result is the reply to send, or "".
func (s *session) judged(tx *transaction, r milter.Result) string {
	switch r.Verdict {
	case milter.Hold:
		if tx != nil {
			tx.hold = true
		}
		s.logMilter("milter-hold", "milter triggers HOLD action")
	case milter.Discard:
		if tx != nil {
			tx.discard = true
		}
		s.logMilter("milter-discard", "milter triggers DISCARD action")
	case milter.Reject, milter.Shutdown:
		s.classes |= classPolicy
		s.logMilter("milter-reject", r.Reply)
		return r.Reply
	}
	return ""
}

func (s *session) logMilter(action, text string) {
	user := ""
	if s.sasl.user != "" {
		user = fmt.Sprintf(" sasl_username=<%s>", s.sasl.user)
	}
	s.log.Info("%s: %s: %s from %s: %s;%s%s", s.id(), action, s.where, s.peer.namaddr, text, s.logContext(), user)
}

// milterConnect reports the client; the result replaces the greeting.
func (s *session) milterConnect() string {
	if s.milters.broken {
		return "421 4.3.0 " + s.srv.set.hostname + " Server local data error"
	}
	if s.milters.filters == nil {
		return ""
	}
	name, family := s.peer.name, milter.FamilyUnknown
	if name == unknown {
		name = "[" + s.peer.addr + "]"
	}
	switch s.peer.family {
	case syscall.AF_INET:
		family = milter.FamilyIPv4
	case syscall.AF_INET6:
		family = milter.FamilyIPv6
	}
	r := s.milters.filters.Connect(s.ctx, name, s.peer.addr, s.peer.port, family)
	switch text := s.judged(nil, r); {
	case strings.HasPrefix(text, "5"):
		return "554 " + s.srv.set.hostname + " ESMTP not accepting connections"
	case strings.HasPrefix(text, "421"):
		return "421 " + s.srv.set.hostname + " Service unavailable - try again later"
	}
	return ""
}

// milterHelo reports HELO; only 421 is a reply to it.
func (s *session) milterHelo(name string) string {
	if s.milters.filters == nil {
		return ""
	}
	saved, given := s.helo, s.heloGiven
	s.setHelo(name)
	s.milters.helo = s.milters.filters.Helo(name)
	text := s.judged(nil, s.milters.helo)
	s.helo, s.heloGiven = saved, given
	if strings.HasPrefix(text, "421") {
		return text
	}
	return ""
}

// milterRefusesMail tells whether EHLO announces next to nothing.
func (s *session) milterRefusesMail() bool { return strings.HasPrefix(s.milters.helo.Reply, "5") }

func words(args []smtp.Token) []string {
	list := make([]string, len(args))
	for i, a := range args {
		list[i] = a.Text
	}
	return list
}

// milterMail reports MAIL with its address and parameters.
func (s *session) milterMail(tx *transaction, sender string, args []smtp.Token) string {
	if s.milters.filters == nil || tx.discard {
		return ""
	}
	saved := s.checks
	s.checks.sender, s.checks.senderGiven = sender, true
	s.milters.tx, tx.sender = tx, sender
	text := s.judged(tx, s.milters.filters.Mail(words(args)...))
	s.milters.tx, s.checks = nil, saved
	if text != "" {
		s.abortMilters()
	}
	return text
}

// milterRcpt reports RCPT with its address and parameters. A recipient that is
// refused already, with reply refusal, is shown only to those who want that.
func (s *session) milterRcpt(addr string, args []smtp.Token, refusal string) string {
	if s.milters.filters == nil || s.discarding() {
		return refusal
	}
	s.checks.rcpt, s.checks.rcptGiven = addr, true
	s.milters.rcpt, s.milters.refusal = addr, refusal
	if refusal != "" {
		s.milters.filters.RejectedRcpt(words(args)...)
	} else {
		refusal = s.judged(s.tx, s.milters.filters.Rcpt(words(args)...))
	}
	s.checks.rcptGiven = false
	s.milters.rcpt, s.milters.refusal = "", ""
	return refusal
}

// milterData reports DATA or the first BDAT.
func (s *session) milterData() string {
	if s.milters.filters == nil || s.discarding() {
		return ""
	}
	return s.judged(s.tx, s.milters.filters.Data())
}

// milterUnknown reports a command that is no command.
func (s *session) milterUnknown(verb string) string {
	if s.milters.filters == nil {
		return ""
	}
	return s.judged(s.tx, s.milters.filters.Unknown(verb))
}

// milterForbids answers a command that has no event of its own if a Milter has
// refused the session. temporary, when it is not empty, is sent instead of a
// 4xx reply.
func (s *session) milterForbids(temporary string) bool {
	if s.milters.filters == nil {
		return false
	}
	r := s.milters.filters.Other()
	if r.Verdict != milter.Reject && r.Verdict != milter.Shutdown {
		return false
	}
	if temporary != "" && strings.HasPrefix(r.Reply, "4") {
		r.Reply = temporary
	}
	s.reply("%s", r.Reply)
	return true
}

// milterTaker is a messageSink that Milters can be passed to.
type milterTaker interface {
	sendMilters(filters *milter.Filters) error
}

// passMilters hands the Milters over to cleanup.
func (s *session) passMilters() error {
	taker, ok := s.tx.sink.(milterTaker)
	if s.milters.filters == nil || !ok {
		return nil
	}
	return taker.sendMilters(s.milters.filters)
}

func (c cleanupSink) sendMilters(filters *milter.Filters) error {
	n := filters.Active()
	if err := c.s.RecString(record.TypeMilterCount, strconv.Itoa(n)); err != nil || n == 0 {
		return err
	}
	if err := c.s.Flush(); err != nil {
		return err
	}
	conn := c.s.Conn()
	raw, ok := conn.Conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("no socket to pass milters over")
	}
	return filters.Send(milter.Stream{In: conn.In, Out: conn.Out, Raw: raw})
}

// nameResolutions are the values of {client_resolve}.
var nameResolutions = map[nameStatus]string{nameOK: "OK", nameForged: "FORGED", nameTemporary: "TEMP", namePermanent: "FAIL"}

// milterMacro is the value of a macro (spec §6.4).
func (s *session) milterMacro(name string) (string, bool) {
	p := &s.peer
	given := func(value string) (string, bool) { return value, value != "" }
	switch name {
	case "{daemon_name}":
		return s.srv.milters.daemonName, true
	case "v":
		return s.srv.milters.macro, true
	case "j":
		return s.srv.set.hostname, true
	case "_":
		value := p.reverse + " [" + p.addr + "]"
		if !strings.EqualFold(p.name, p.reverse) {
			value += " (may be forged)"
		}
		return value, true
	case "{client_addr}":
		return p.addr, true
	case "{client_port}":
		return p.port, true
	case "{client_connections}":
		return strconv.Itoa(s.connections), true
	case "{client_name}":
		return p.name, true
	case "{client_ptr}":
		return p.reverse, true
	case "{client_resolve}":
		return nameResolutions[p.nameStatus], true
	case "{daemon_addr}":
		return p.serverAddr, true
	case "{daemon_port}":
		return p.serverPort, true
	case "i":
		if s.tx == nil {
			return "", false
		}
		return given(s.tx.queueID)
	case "{auth_type}":
		return given(s.sasl.method)
	case "{auth_authen}":
		return given(s.sasl.user)
	}
	switch {
	case strings.HasPrefix(name, "{mail_"), name == "{auth_author}":
		return s.mailMacro(name)
	case strings.HasPrefix(name, "{rcpt_"):
		return s.rcptMacro(name)
	}
	return s.tlsMacro(name)
}

// mailMacro is the value of a macro about the sender.
func (s *session) mailMacro(name string) (string, bool) {
	tx := s.milters.tx
	if tx == nil {
		tx = s.tx
	}
	switch {
	case tx == nil:
		return "", false
	case name == "{auth_author}":
		return tx.saslAuth, tx.saslAuth != ""
	case name == "{mail_addr}" && tx.sender == "":
		return "", true
	}
	return s.targetMacro(strings.TrimPrefix(name, "{mail_"), tx.sender)
}

// rcptMacro is the value of a macro about the recipient.
func (s *session) rcptMacro(name string) (string, bool) {
	name = strings.TrimPrefix(name, "{rcpt_")
	if s.milters.rcpt == "" {
		return "", false
	}
	if reply := s.milters.refusal; reply != "" {
		code, text, _ := smtp.CutDSN(reply[min(4, len(reply)):])
		// The text is what follows "<address>: ", if that is there.
		if _, after, found := strings.Cut(text, ">: "); found && strings.HasPrefix(text, "<") {
			text = after
		}
		switch name {
		case "mailer}":
			return "error", true
		case "host}":
			return code, true
		case "addr}":
			return text, true
		}
		return "", false
	}
	return s.targetMacro(name, s.milters.rcpt)
}

// targetMacro is where an address leads: "addr}", "host}" or "mailer}".
func (s *session) targetMacro(name, addr string) (string, bool) {
	reply, known := s.milters.targets[addr]
	if !known {
		var err error
		if addr == "" {
			reply, err = s.srv.rewrite.Resolve(s.ctx, "", "")
		} else {
			reply, err = s.srv.resolveInternal(s.ctx, "", addr)
		}
		if err != nil || reply.Flags&rewrite.Fail != 0 {
			return "", false
		}
		if s.milters.targets == nil || len(s.milters.targets) > 1 {
			s.milters.targets = map[string]rewrite.Reply{}
		}
		s.milters.targets[addr] = reply
	}
	switch name {
	case "addr}":
		return address.Quote(reply.Recipient), true
	case "host}":
		return reply.NextHop, true
	case "mailer}":
		return reply.Transport, true
	}
	return "", false
}
