package cleanup

import (
	"strings"
	"unicode/utf8"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/table"
)

// rewriteInternal rewrites an internal address in the local context. When the
// service cannot be had before the session ends, the message is refused.
func (s *session) rewriteInternal(addr string) string {
	if addr == "" {
		return ""
	}
	return address.Unquote(s.rewriteExternal(rewrite.Local, address.Quote(addr)))
}

func (s *session) rewriteExternal(rule, addr string) string {
	result, err := s.d.rewrite.Rewrite(s.ctx, rule, addr)
	if err != nil {
		s.warn("address rewriting failed for %.100s: %v", addr, err)
		s.status |= proto.StatusWrite
		return addr
	}
	return result
}

// setSender handles the envelope sender (routing.md §1.4).
func (s *session) setSender(raw string) {
	sender := s.rewriteInternal(raw)
	if isMailerDaemon(localPart(sender)) && strings.EqualFold(sender, s.mailerDaemon()) {
		sender = ""
	}
	set, m := s.d.set, &s.d.maps
	if s.flags&proto.FlagMap != 0 && sender != "" {
		if set.senderCanonicalClasses&envelopeSender != 0 {
			sender = s.mapOne(sender, m.senderCanonical)
		}
		if set.canonicalClasses&envelopeSender != 0 {
			sender = s.mapOne(sender, m.canonical)
		}
		if set.masqueradeClasses&envelopeSender != 0 {
			sender = s.masquerade(sender)
		}
	}
	if set.smtputf8 && !isASCII(sender) && utf8.ValidString(sender) {
		s.size.UTF8Flags |= record.SizeFlagSender
		s.autoUTF8()
	}
	s.sender, s.haveSender = sender, true
	s.places.sender = s.out.Offset()
	s.putString(record.TypeFrom, sender)
	s.putFiller(record.TypePointer, len(sender))
	s.places.senderNext = s.out.Offset()
	if s.flags&proto.FlagBCC != 0 && sender != "" {
		s.autoBCC(sender, m.senderBCC)
	}
}

// autoUTF8 notes that the message needs SMTPUTF8, if the client wants that
// found out.
func (s *session) autoUTF8() {
	if s.flags&proto.FlagAutoUTF8 != 0 {
		s.size.UTF8Flags |= record.SizeFlagUTF8
	}
}

func (s *session) mailerDaemon() string {
	if known := s.d.mailerDaemon.Load(); known != nil {
		return *known
	}
	addr := s.rewriteInternal("MAILER-DAEMON")
	if s.going() {
		s.d.mailerDaemon.Store(&addr)
	}
	return addr
}

// autoBCC adds the recipient that a bcc map names for addr.
func (s *session) autoBCC(addr string, m *table.Maps) {
	if m.Empty() || !s.going() {
		return
	}
	bcc, _, found, err := m.FindAddress(s.ctx, addr, s.d.addressOptions(table.FormExternalFirst))
	if err != nil {
		s.mapProblem(m.Title(), addr)
		return
	}
	if found {
		s.addBCC(bcc)
	}
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// show formats an address for a log line.
func (s *session) show(addr string) string {
	if addr == "" || !s.d.set.externalLog {
		return addr
	}
	return address.Quote(addr)
}
