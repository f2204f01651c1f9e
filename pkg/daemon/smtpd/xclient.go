package smtpd

import (
	"net/netip"
	"strings"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/wire/dns"
	"posthaste/pkg/wire/smtp"
)

// forwarded is what an upstream said by XFORWARD about the client it serves.
type forwarded struct {
	name, addr, port, proto, helo, ident, source string
	client                                       bool // one of NAME ADDR PORT PROTO HELO was given
}

const (
	unavailable = "[UNAVAILABLE]"
	tempUnavail = "[TEMPUNAVAIL]"
)

// attributes checks what XCLIENT and XFORWARD have in common and calls set for
// each attribute=value; set returns false for an unknown name, and a value
// error as text.
func (s *session) attributes(args []smtp.Token, verb string, p permission, set func(name, value string) (known bool, bad string)) bool {
	switch {
	case s.tx != nil:
		return s.protocolError("503 5.5.1 Error: MAIL transaction in progress")
	case len(args) < 2:
		return s.protocolError("501 5.5.4 Syntax: %s attribute=value...", verb)
	case p.failed:
		s.log.Warn("don't know if command %s should be allowed from %s", verb, s.peer.namaddr)
		s.localDataError()
		return false
	case !p.granted:
		s.classes |= classPolicy
		s.reply("550 5.7.0 Error: insufficient authorization")
		return false
	}
	for _, a := range args[1:] {
		name, raw, ok := strings.Cut(a.Text, "=")
		if !ok || raw == "" {
			return s.protocolError("501 5.5.4 Error: attribute=value expected")
		}
		if len(raw) > 255 {
			return s.protocolError("501 5.5.4 Error: attribute value too long")
		}
		value, err := dsn.XtextDecode(raw)
		if err != nil {
			value = raw
		}
		value, _, _ = strings.Cut(value, "\x00")
		value = smtp.Printable(value, '?')
		known, bad := set(strings.ToUpper(name), value)
		if !known {
			return s.protocolError("501 5.5.4 Bad %s attribute name: %s", verb, smtp.Printable(name, '?'))
		}
		if bad != "" {
			return s.protocolError("501 5.5.4 Bad %s syntax: %s", bad, value)
		}
	}
	return true
}

func (s *session) cmdXclient(args []smtp.Token) bool {
	if s.standAlone {
		s.xclient = permission{}
	}
	gotHelo, gotProto, gotLogin := false, false, false
	ok := s.attributes(args, "XCLIENT", s.xclient, func(name, value string) (bool, string) {
		p := &s.peer
		switch name {
		case "NAME":
			return true, setName(value, name, func(n string, st nameStatus) {
				p.name, p.nameStatus = n, st
				if st == nameOK {
					p.reverse, p.reverseStat = n, st
				}
			})
		case "REVERSE_NAME":
			return true, setName(value, name, func(n string, st nameStatus) { p.reverse, p.reverseStat = n, st })
		case "ADDR":
			return true, s.setAddr(value, name, func(a netip.Addr) { p.setAddr(a) }, &p.addr)
		case "DESTADDR":
			return true, s.setAddr(value, name, func(a netip.Addr) { p.serverAddr = a.String() }, &p.serverAddr)
		case "PORT":
			return true, setPort(value, name, &p.port)
		case "DESTPORT":
			return true, setPort(value, name, &p.serverPort)
		case "HELO":
			s.helo, s.heloGiven = "", false
			if !strings.EqualFold(value, unavailable) {
				s.setHelo(value)
			}
			gotHelo = true
		case "PROTO":
			if !strings.EqualFold(value, "SMTP") && !strings.EqualFold(value, "ESMTP") {
				return true, name
			}
			s.proto, gotProto = strings.ToUpper(value), true
		case "LOGIN":
			if !strings.EqualFold(value, unavailable) {
				s.sasl.method, s.sasl.user = "XCLIENT", value
				gotLogin = true
			}
		default:
			return false, ""
		}
		return true, ""
	})
	if !ok {
		return false
	}
	s.peer.setNamaddr(s.srv.set.portLogging)
	s.notice(true)
	s.reset()
	if !gotHelo {
		if s.heloGiven {
			s.abortMilters()
		}
		s.helo, s.heloGiven = "", false
	}
	if !gotProto {
		s.proto = "SMTP"
	}
	if !gotLogin {
		s.sasl.method, s.sasl.user = "", ""
	}
	s.authorize()
	s.loadDiscard()
	s.greet()
	return false // counted so, as by the original (spec §2.9)
}

// setName understands a host name or one of the special values.
func setName(value, attribute string, set func(string, nameStatus)) string {
	switch {
	case strings.EqualFold(value, unavailable):
		set(unknown, namePermanent)
	case strings.EqualFold(value, tempUnavail):
		set(unknown, nameTemporary)
	case dns.ValidHostname(value):
		set(value, nameOK)
	default:
		return attribute
	}
	return ""
}

func (s *session) setAddr(value, attribute string, set func(netip.Addr), text *string) string {
	if strings.EqualFold(value, unavailable) {
		*text = unknown
		return ""
	}
	a, ok := normalAddr(value, s.srv.set.ipv6)
	if !ok {
		return attribute
	}
	set(a)
	return ""
}

func setPort(value, attribute string, to *string) string {
	if strings.EqualFold(value, unavailable) {
		*to = unknown
		return ""
	}
	if value == "" || len(value) > 5 || strings.Trim(value, "0123456789") != "" {
		return attribute
	}
	*to = value
	return ""
}

func (s *session) cmdXforward(args []smtp.Token) bool {
	f := s.forward
	if f == nil {
		f = &forwarded{name: unknown, addr: unknown, port: unknown, proto: unknown, source: ""}
	}
	if s.standAlone {
		s.xforward = permission{}
	}
	ok := s.attributes(args, "XFORWARD", s.xforward, func(name, value string) (bool, string) {
		none := strings.EqualFold(value, unavailable)
		switch name {
		case "NAME":
			f.client = true
			return true, setName(value, name, func(n string, _ nameStatus) { f.name = n })
		case "ADDR":
			f.client = true
			return true, s.setAddr(value, name, func(a netip.Addr) { f.addr = a.String() }, &f.addr)
		case "PORT":
			f.client = true
			return true, setPort(value, name, &f.port)
		case "PROTO":
			f.client = true
			if len(value) > 64 {
				return true, name
			}
			if f.proto = value; none {
				f.proto = unknown
			}
		case "HELO":
			f.client = true
			if f.helo = neuter(value); none {
				f.helo = ""
			}
		case "IDENT":
			if f.ident = neuter(value); none {
				f.ident = ""
			}
		case "SOURCE":
			switch {
			case strings.EqualFold(value, "LOCAL"), none:
				f.source = "local"
			case strings.EqualFold(value, "REMOTE"):
				f.source = "remote"
			default:
				return true, name
			}
		default:
			return false, ""
		}
		return true, ""
	})
	if !ok {
		return false
	}
	s.forward = f
	s.reply("250 2.0.0 Ok")
	return true
}

// neuter makes a name safe for logs and headers, as setHelo does.
func neuter(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" <>()\\\";@", r) {
			return '?'
		}
		return r
	}, name)
}
