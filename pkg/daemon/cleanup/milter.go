package cleanup

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/ipc/attr"
	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/wire/milter"
)

// Milters (routing.md §1.14). Those of smtpd come with the message, after they
// have seen the envelope; for all other mail non_smtpd_milters are asked, who
// are told of an SMTP session that never was. Both see the content when the
// queue file is complete, and may change it then (edit.go).

// emulated are the events of the session that never was, as log lines name
// them.
const (
	eventConnect = "CONNECT"
	eventHelo    = "EHLO"
	eventMail    = "MAIL"
	eventRcpt    = "RCPT"
	eventData    = "DATA"
	eventEnd     = "END-OF-MESSAGE"
)

// handover handles the m record, with which smtpd announces its Milters. A
// count of 0 is a placeholder or says that there are none.
func (s *session) handover(data []byte) {
	n, err := strconv.Atoi(string(data))
	if err != nil || n < 0 {
		s.bad("bad milter count record: %.100s", data)
		return
	}
	s.miltersSent = true
	s.releaseFilters()
	if n == 0 {
		return
	}
	raw := s.conn
	if c, ok := raw.(interface{ Raw() net.Conn }); ok {
		raw = c.Raw()
	}
	socket, ok := raw.(syscall.Conn)
	if !ok {
		s.warn("milters cannot be received over this connection")
		s.status |= proto.StatusBad
		s.hangUp = true
		return
	}
	f, err := milter.Receive(milter.Stream{In: s.in, Out: attr.NewWriter(s.conn, attr.Null), Raw: socket}, n, s.d.set.milter)
	if err != nil {
		// Where the stream stands is unknown now.
		s.warn("cannot receive milters: %v", err)
		s.status |= proto.StatusBad
		s.hangUp = true
		return
	}
	f.Lookup = s.macro
	s.filters = f
}

// releaseFilters ends what this process has to do with the Milters.
func (s *session) releaseFilters() {
	if s.filters == nil {
		return
	}
	if s.ownFilters {
		s.filters.Close()
	} else {
		s.filters.Release()
	}
	s.filters, s.ownFilters = nil, false
}

// filtering reports whether Milters still have a say.
func (s *session) filtering() bool {
	return s.filters != nil && s.flags&proto.FlagMilter != 0 && s.flags&proto.FlagDiscard == 0 && s.status == proto.OK && s.going()
}

// emulateStart makes non_smtpd_milters, and tells them of a client and a
// sender.
func (s *session) emulateStart() {
	if s.miltersSent || s.d.set.milters == "" || s.flags&proto.FlagMilter == 0 || !s.going() || s.status != proto.OK {
		return
	}
	f, err := milter.New(s.d.set.milters, s.d.set.milter)
	if err != nil { // checked at the start
		s.warn("%v", err)
		s.status |= proto.StatusDefer
		return
	}
	f.Lookup = s.macro
	s.filters, s.ownFilters = f, true
	c := s.client()
	s.emulate(eventConnect, func() milter.Result { return f.Connect(s.ctx, c.name, c.addr, c.port, c.family) })
	s.emulate(eventHelo, func() milter.Result { return f.Helo(c.helo) })
	s.toldMail = true
	s.emulate(eventMail, func() milter.Result { return f.Mail(quoted(s.sender)) })
}

func quoted(addr string) string {
	if addr == "" {
		return ""
	}
	return address.Quote(addr)
}

// emulateRcpt tells of a recipient, which a Milter cannot refuse alone.
func (s *session) emulateRcpt(addr string) {
	if !s.ownFilters || !s.filtering() {
		return
	}
	s.toldRcpt = true
	r := s.filters.Rcpt(quoted(addr))
	s.apply(eventRcpt, r)
	if r.Verdict == milter.Reject || r.Verdict == milter.Shutdown {
		s.warn("milter configuration error: can't reject recipient in non-smtpd(8) submission")
		s.warn("message not accepted, try again later")
		s.flags &^= proto.FlagDiscard
		s.status |= proto.StatusDefer
		s.reason = "4.3.5 Server configuration error"
	}
}

// emulate reports one event unless the matter is decided.
func (s *session) emulate(event string, report func() milter.Result) {
	if s.filtering() {
		s.apply(event, report())
	}
}

// inspect shows the message to the Milters and makes the changes they want.
func (s *session) inspect() {
	if !s.filtering() || !s.ended {
		return
	}
	if s.ownFilters {
		// Recipients may come behind the content, so this comes late.
		s.emulate(eventData, s.filters.Data)
	}
	if !s.filtering() {
		return
	}
	s.apply(eventEnd, s.filters.Message(s.showTo, &editor{s: s}))
	s.putLateMeta()
}

// apply does what a Milter decided and logs it.
func (s *session) apply(event string, r milter.Result) {
	switch r.Verdict {
	case milter.Hold:
		if s.flags&proto.FlagHold == 0 {
			s.flags |= proto.FlagHold
			s.logMilter("milter-hold", event, "milter triggers HOLD action")
		}
	case milter.Discard:
		s.flags |= proto.FlagDiscard
		s.logMilter("milter-discard", event, "milter triggers DISCARD action")
	case milter.Shutdown:
		s.flags |= proto.FlagDiscard
		s.logMilter("milter-reject", event, "message content rejected")
	case milter.Reject:
		s.rejectFor(event, r.Reply)
	case milter.Failed:
		if s.going() { // the source of the trouble has no status of its own
			s.warn("%v", r.Err)
			s.status |= proto.StatusWrite
		}
	}
}

func (s *session) rejectFor(event, reply string) {
	text := ""
	if len(reply) > 4 {
		text = reply[4:]
	}
	s.logMilter("milter-reject", event, text)
	s.reason = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '_'
		}
		return c
	}, text)
	if s.flags&proto.FlagSMTPReply != 0 {
		s.reason = reply
	}
	if reply != "" && reply[0] == '4' {
		s.status |= proto.StatusDefer
	} else {
		s.status |= proto.StatusContent
	}
}

func (s *session) logMilter(action, event, text string) {
	c := s.client()
	s.info("%s: %s from %s[%s]: %s;%s", action, event, c.name, c.addr, text, s.logContext())
}

// logContext is the envelope, as actions log it.
func (s *session) logContext() string {
	var b strings.Builder
	if s.haveSender {
		b.WriteString(" from=<" + s.show(s.sender) + ">")
	}
	if s.haveRcpt {
		b.WriteString(" to=<" + s.show(s.recipient) + ">")
	}
	if proto := s.attrs["log_protocol_name"]; proto != "" {
		b.WriteString(" proto=" + proto)
	}
	if helo := s.attrs["log_helo_name"]; helo != "" {
		b.WriteString(" helo=<" + helo + ">")
	}
	return b.String()
}

// milterClient is who sent the message, as Milters are told.
type milterClient struct {
	name, reverse, addr, port, helo string
	family                          milter.Family
}

func (s *session) client() milterClient {
	c := milterClient{name: s.attrs["client_name"], addr: s.attrs["client_address"], port: s.attrs["client_port"]}
	if c.name == "" || c.addr == "" {
		c = milterClient{name: "localhost", addr: "127.0.0.1", port: "0"}
		if s.d.set.localIPv6 {
			c.addr = "::1"
		}
	}
	if c.reverse = s.attrs["reverse_client_name"]; c.reverse == "" {
		c.reverse = c.name
	}
	if c.port == "" {
		c.port = "0"
	}
	if c.helo = s.attrs["helo_name"]; c.helo == "" {
		c.helo = c.name
	}
	c.family = milter.FamilyIPv4
	if strings.Contains(c.addr, ":") {
		c.family = milter.FamilyIPv6
	}
	return c
}

// macro gives the value of a macro, as far as cleanup knows it.
func (s *session) macro(name string) (string, bool) {
	c := s.client()
	value := ""
	switch name {
	case "i":
		value = s.id
	case "j":
		value = s.d.set.myhostname
	case "v":
		value = s.d.set.milterV
	case "_":
		value = fmt.Sprintf("%s [%s]", c.reverse, c.addr)
		if !strings.EqualFold(c.reverse, c.name) {
			value += " (may be forged)"
		}
	case "{daemon_name}":
		value = s.d.set.milterDaemon
	case "{daemon_addr}":
		if value = s.attrs["server_address"]; value == "" {
			value = c.addr
		}
	case "{daemon_port}":
		if value = s.attrs["server_port"]; value == "" && s.ownFilters {
			value = "0"
		}
	case "{client_addr}":
		value = c.addr
	case "{client_name}":
		value = c.name
	case "{client_port}":
		value = c.port
	case "{client_ptr}":
		value = c.reverse
	case "{auth_type}":
		value = s.attrs["sasl_method"]
	case "{auth_authen}":
		value = s.attrs["sasl_username"]
	case "{auth_author}":
		value = s.attrs["sasl_sender"]
	case "{mail_addr}":
		return quoted(s.sender), s.toldMail
	case "{rcpt_addr}":
		return quoted(s.recipient), s.toldRcpt
	}
	return value, value != ""
}
