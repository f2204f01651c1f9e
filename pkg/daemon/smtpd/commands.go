package smtpd

import (
	"fmt"
	"net/netip"
	"strings"

	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/wire/dns"
	"posthaste/pkg/wire/smtp"
)

// command is what the session knows about one verb.
type command struct {
	run         func(s *session, args []smtp.Token) bool // false: failed
	stat        int
	plain       bool // allowed before STARTTLS where TLS is required
	synchronous bool // after EHLO, must not be followed before its reply
	junk        bool // does not bring a transaction forward
	last        bool
}

// commandTable is the commands by name. An unknown one has the zero value but
// for its place in the statistics.
func commandTable() map[string]command {
	return map[string]command{
		"HELO":     {run: (*session).cmdHelo, stat: statHelo, plain: true, synchronous: true, junk: true},
		"EHLO":     {run: (*session).cmdEhlo, stat: statEhlo, plain: true, synchronous: true, junk: true},
		"XCLIENT":  {run: (*session).cmdXclient, stat: statXclient, plain: true},
		"XFORWARD": {run: (*session).cmdXforward, stat: statXforward},
		"STARTTLS": {run: (*session).cmdStartTLS, stat: statStartTLS, plain: true},
		"AUTH":     {run: (*session).cmdAuth, stat: statAuth},
		"MAIL":     {run: (*session).cmdMail, stat: statMail},
		"RCPT":     {run: (*session).cmdRcpt, stat: statRcpt},
		"DATA":     {run: (*session).cmdData, stat: statData, synchronous: true},
		"BDAT":     {run: (*session).cmdBDAT, stat: statBDAT},
		"RSET":     {run: (*session).cmdRset, stat: statRset, junk: true},
		"NOOP":     {run: (*session).cmdNoop, stat: statNoop, plain: true, synchronous: true, junk: true},
		"VRFY":     {run: (*session).cmdVrfy, stat: statVrfy, synchronous: true, junk: true},
		"ETRN":     {run: (*session).cmdEtrn, stat: statEtrn, junk: true},
		"QUIT":     {run: (*session).cmdQuit, stat: statQuit, plain: true, last: true},
	}
}

// rest joins the arguments from the i-th on with single spaces.
func rest(args []smtp.Token, i int) string {
	words := make([]string, 0, len(args))
	for _, a := range args[min(i, len(args)):] {
		words = append(words, a.Text)
	}
	return strings.Join(words, " ")
}

// reset forgets the transaction, as RSET does.
func (s *session) reset() {
	s.dropMessage()
	if s.tx != nil {
		s.abortMilters()
	}
	s.tx = nil
	s.forward = nil
	s.bdat = bdatNone
	s.declaredSize = 0
}

// setHelo stores the client's name; what could confuse a log or a header
// becomes "?".
func (s *session) setHelo(name string) {
	b := []byte(smtp.Printable(name, '?'))
	for i, ch := range b {
		if strings.IndexByte(" <>()\\\";@", ch) >= 0 {
			b[i] = '?'
		}
	}
	s.helo, s.heloGiven = string(b), true
}

// hello is what HELO and EHLO have in common.
func (s *session) hello(args []smtp.Token, verb string) bool {
	if len(args) < 2 {
		return s.protocolError("501 Syntax: %s hostname", verb)
	}
	name := rest(args, 1)
	if !s.standAlone && !s.srv.set.delayReject {
		if text := s.checkHelo(name, true); text != "" {
			s.reply("%s", text)
			return false
		}
	}
	if text := s.milterHelo(name); text != "" {
		s.reply("%s", text)
		return false
	}
	if s.heloGiven {
		s.abortMilters()
	}
	s.reset()
	s.notice(false)
	s.setHelo(name)
	return true
}

func (s *session) cmdHelo(args []smtp.Token) bool {
	if !s.hello(args, "HELO") {
		return false
	}
	s.reply("250 %s", s.srv.set.hostname)
	return true
}

// loadDiscard finds the keywords to suppress for this client.
func (s *session) loadDiscard() {
	list := s.srv.set.discardKeywords
	if m := s.srv.maps.ehlo; !m.Empty() {
		value, found, err := m.Find(s.ctx, s.peer.addr)
		if s.discardFailed = err != nil; found {
			list = value
		}
	}
	s.discard = smtp.ParseKeywords(list)
}

func (s *session) cmdEhlo(args []smtp.Token) bool {
	set := s.srv.set
	if len(args) < 2 {
		return s.protocolError("501 Syntax: EHLO hostname")
	}
	if s.discardFailed {
		s.log.Warn("don't know what EHLO features to announce to %s", s.peer.namaddr)
		s.localDataError()
		return false
	}
	if !s.hello(args, "EHLO") {
		return false
	}
	s.proto = "ESMTP"
	if s.discard != 0 && s.discard&(smtp.SilentDiscard|smtp.NoENHANCED) == 0 {
		s.log.Info("discarding EHLO keywords: %s", s.discard)
	}
	if s.milterRefusesMail() {
		s.reply("250 %s\r\n250 ENHANCEDSTATUSCODES", set.hostname)
		return true
	}
	lines := []string{set.hostname}
	add := func(unless smtp.Keywords, on bool, line string) {
		if on && s.discard&unless == 0 {
			lines = append(lines, line)
		}
	}
	add(smtp.NoPIPELINING, true, "PIPELINING")
	size := "SIZE"
	if set.messageSize > 0 {
		size = fmt.Sprintf("SIZE %d", set.messageSize)
	}
	add(smtp.NoSIZE, true, size)
	add(smtp.NoVRFY, !set.disableVrfy, "VRFY")
	add(smtp.NoETRN, true, "ETRN")
	add(smtp.NoSTARTTLS, s.offersTLS(), "STARTTLS")
	for _, line := range s.authLines() {
		add(smtp.NoAUTH, true, line)
	}
	for _, f := range []struct {
		name   string
		unless smtp.Keywords
		p      permission
		line   string
	}{
		{"XVERP", smtp.NoVERP, s.verpAllowed(), "XVERP"},
		{"XCLIENT", smtp.NoXCLIENT, s.xclient, "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"},
		{"XFORWARD", smtp.NoXFORWARD, s.xforward, "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"},
	} {
		if f.p.failed && s.discard&f.unless == 0 {
			s.log.Warn("don't know if EHLO feature %s should be announced to %s", f.name, s.peer.namaddr)
			s.localDataError()
			return false
		}
		add(f.unless, f.p.granted, f.line)
	}
	add(smtp.NoENHANCED, true, "ENHANCEDSTATUSCODES")
	add(smtp.No8BITMIME, true, "8BITMIME")
	add(smtp.NoDSN, true, "DSN")
	add(smtp.NoSMTPUTF8, set.utf8, "SMTPUTF8")
	add(smtp.NoCHUNKING, true, "CHUNKING")
	s.reply("%s", "250 "+strings.Join(lines, "\r\n250 "))
	return true
}

func (s *session) verpAllowed() permission {
	if s.standAlone {
		return permission{}
	}
	return s.allowed(s.srv.lists.verp)
}

func (s *session) cmdRset(args []smtp.Token) bool {
	if len(args) != 1 {
		return s.protocolError("501 5.5.4 Syntax: RSET")
	}
	s.reset()
	s.notice(false)
	s.reply("250 2.0.0 Ok")
	return true
}

func (s *session) cmdNoop([]smtp.Token) bool {
	s.reply("250 2.0.0 Ok")
	return true
}

func (s *session) cmdQuit([]smtp.Token) bool {
	s.reply("221 2.0.0 Bye")
	return true
}

func (s *session) cmdVrfy(args []smtp.Token) bool {
	set := s.srv.set
	if set.disableVrfy {
		return s.protocolError("502 5.5.1 VRFY command is disabled")
	}
	if s.limited(s.rcptRate) {
		return false
	}
	wantsUTF8 := false
	if set.utf8 && len(args) > 1 && strings.EqualFold(args[len(args)-1].Text, "SMTPUTF8") {
		wantsUTF8 = true
		args = args[:len(args)-1]
	}
	if len(args) < 2 {
		if set.utf8 {
			return s.protocolError("501 5.5.4 Syntax: VRFY address [SMTPUTF8]")
		}
		return s.protocolError("501 5.5.4 Syntax: VRFY address")
	}
	if s.milterForbids("") {
		return false
	}
	word := smtp.Token{Text: rest(args, 1)} // an unterminated quote does no harm here
	addr, ok := s.extractAddress(word, false, wantsUTF8)
	if !ok {
		return s.protocolError("501 5.1.3 Bad recipient address syntax")
	}
	if !s.standAlone {
		if text := s.checkRcpt(addr); text != "" {
			s.reply("%s", text)
			return false
		}
	}
	s.reply("252 2.0.0 %s", smtp.Printable(word.Text, ' '))
	return true
}

func (s *session) cmdEtrn(args []smtp.Token) bool {
	srv := s.srv
	switch {
	case !s.heloGiven && srv.set.heloRequired:
		return s.protocolError("503 Error: send HELO/EHLO first")
	case s.tx != nil:
		return s.protocolError("503 Error: MAIL transaction in progress")
	case s.milterForbids(""):
		return false
	case len(args) != 2:
		return s.protocolError("500 Syntax: ETRN domain")
	}
	domain := args[1].Text
	if domain[0] == '@' || domain[0] == '#' {
		domain = domain[1:]
	}
	if !dns.ValidHostname(domain) && !validLiteral(domain) {
		return s.protocolError("501 Error: invalid parameter syntax")
	}
	if s.standAlone {
		s.log.Warn("do not use ETRN in \"sendmail -bs\" mode")
		s.reply("458 Unable to queue messages")
		return false
	}
	if text := s.checkEtrn(domain); text != "" {
		s.reply("%s", text)
		return false
	}
	status, err := srv.flush(s.ctx, domain)
	switch {
	case err != nil:
		s.log.Warn("unable to talk to fast flush service")
		s.reply("458 Unable to queue messages")
	case status == flush.OK:
		s.reply("250 Queuing started")
		return true
	case status == flush.Denied:
		s.log.Warn("reject: ETRN %.100s... from %s", domain, s.peer.namaddr)
		s.reply("459 <%s>: service unavailable", domain)
	case status == flush.Bad:
		s.log.Warn("bad ETRN %.100s... from %s", domain, s.peer.namaddr)
		s.reply("458 Unable to queue messages")
	default:
		s.log.Warn("unable to talk to fast flush service")
		s.reply("458 Unable to queue messages")
	}
	return false
}

// validLiteral reports whether s is an address literal in brackets.
func validLiteral(s string) bool {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return false
	}
	_, ok := dns.ParseLiteral(s[1 : len(s)-1])
	return ok
}

// normalAddr is an address as XCLIENT and XFORWARD give it, in canonical form.
func normalAddr(s string, ipv6 bool) (netip.Addr, bool) {
	if len(s) > 5 && strings.EqualFold(s[:5], "ipv6:") {
		s = s[5:]
	}
	a, ok := dns.ParseAddr(s)
	if a.Is6() && !a.Is4In6() && !ipv6 {
		return a, false
	}
	return a.Unmap(), ok
}
