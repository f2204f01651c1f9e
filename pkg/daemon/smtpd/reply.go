package smtpd

import (
	"fmt"
	"strings"

	"posthaste/pkg/conf/macro"
	"posthaste/pkg/wire/smtp"
)

// reply answers a command. The text may have several lines, separated by CR LF
// and each with its code; the fourth character of all but the last becomes
// "-" (spec §3.1).
func (s *session) reply(format string, a ...any) {
	text := format
	if len(a) > 0 {
		text = fmt.Sprintf(format, a...)
	}
	s.write(text)
}

func (s *session) write(text string) {
	if text[0] == '4' || text[0] == '5' {
		text = s.addFooter(text)
	}
	if s.srv.set.softBounce && text[0] == '5' {
		text = smtp.Soften(text)
	}
	out := smtp.FormatReply(text)
	slow := s.srv.set.softErrors > 0 && s.errors >= s.srv.set.softErrors
	for _, line := range strings.Split(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		s.record("Out: ", line)
		if s.log.Verbose() > 0 {
			s.log.Info("> %s: %s", s.peer.namaddr, line)
		}
	}
	if slow {
		s.sleep(s.srv.set.errorSleep)
	}
	_, err := s.conn.WriteString(out)
	if err == nil && slow {
		err = s.conn.Flush()
	}
	if err != nil {
		s.fail(err)
	}
	if strings.HasPrefix(text[1:], "21") && (text[0] == '4' || text[0] == '5') {
		s.hungUp = true
	}
}

// addFooter adds smtpd_reject_footer, or what smtpd_reject_footer_maps has for
// this reply.
func (s *session) addFooter(text string) string {
	srv := s.srv
	footer := srv.set.rejectFooter
	if !srv.maps.footer.Empty() {
		value, found, err := srv.maps.footer.Find(s.ctx, text)
		if err != nil {
			s.log.Warn("lookup error in smtpd_reject_footer_maps for \"%.100s\"", text)
		} else if found {
			footer = value
		}
	}
	if footer == "" {
		return text
	}
	text, err := smtp.AddFooter(text, footer, func(part string) (string, error) {
		return macro.Expand(part, s.footerMacro, macro.Options{Filter: srv.set.expansionFilter})
	})
	if err != nil {
		s.log.Warn("%v", err)
	}
	return text
}

// footerMacro is the value of a macro in a footer or an RBL reply.
func (s *session) footerMacro(name string) (string, bool) {
	switch name {
	case "server_name":
		return s.srv.set.hostname, true
	case "client":
		return s.peer.namaddr, true
	case "client_port":
		return s.peer.port, true
	case "client_address":
		return s.peer.addr, true
	case "client_name":
		return s.peer.name, true
	case "reverse_client_name":
		return s.peer.reverse, true
	case "helo_name":
		return s.helo, s.heloGiven
	case "localtime":
		return s.srv.now().Format("Jan 02 15:04:05"), true
	}
	if s.tx != nil && strings.HasPrefix(name, "sender") {
		return addressMacro(name, "sender", s.tx.sender)
	}
	if strings.HasPrefix(name, "recipient") {
		if rcpt, known := s.recipient(); known {
			return addressMacro(name, "recipient", rcpt)
		}
	}
	for _, part := range []string{"", "_name", "_domain"} {
		if name == "sender"+part || name == "recipient"+part {
			return "", false
		}
	}
	s.log.Warn("unknown macro name \"%s\" in expansion request", name)
	return "", false
}

// addressMacro is x, x_name and x_domain of an address.
func addressMacro(name, base, addr string) (string, bool) {
	i := strings.LastIndexByte(addr, '@')
	switch name {
	case base:
		if addr == "" {
			return "<>", true
		}
		return addr, true
	case base + "_name":
		if addr == "" {
			return "<>", true
		}
		if i >= 0 {
			return addr[:i], true
		}
		return addr, true
	case base + "_domain":
		if i >= 0 {
			return addr[i+1:], true
		}
	}
	return "", false
}
