package cleanup

import (
	"fmt"
	"strings"

	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
)

// HeaderEnd is called by the MIME machine after the primary headers: it adds
// the missing ones (routing.md §1.11). Generated headers are neither rewritten
// nor checked.
func (s *session) HeaderEnd() {
	if !s.going() {
		return
	}
	s.addMissing()
	s.putGap(&s.places.header)
}

func (s *session) addMissing() {
	if !s.received {
		s.bad("no Received: header")
		return
	}
	prefix, messageID, date, from := "", header.MessageID, header.Date, header.From
	if s.resent {
		prefix, messageID, date, from = "Resent-", header.ResentMessageID, header.ResentDate, header.ResentFrom
	}
	add := s.rewritesHeaders() || s.d.set.alwaysMissing
	if add && !s.seen[messageID] {
		s.addMessageID(prefix)
		s.seen[messageID] = true
	}
	if !s.seen[header.MessageID] {
		s.info("message-id=<>")
	}
	if add && !s.seen[date] {
		s.putLines([]byte(prefix + "Date: " + header.MailDate(s.arrival)))
	}
	if add && !s.seen[from] {
		s.putLines([]byte(prefix + "From: " + s.fromValue()))
	}
	if add && s.d.set.undisclosed != "" &&
		!s.seen[header.To] && !s.seen[header.Cc] && !s.seen[header.ResentTo] && !s.seen[header.ResentCc] {
		if header.IsHeader(s.d.set.undisclosed) {
			s.putLines([]byte(s.d.set.undisclosed))
		} else {
			s.d.log.Warn("bad undisclosed_recipients_header header text \"%s\" -- need \"headername: headervalue\"", s.d.set.undisclosed)
		}
	}
}

func (s *session) addMessageID(prefix string) {
	id := s.id
	if !s.d.set.longIDs {
		id = s.file.Time.UTC().Format("20060102150405.") + id
	}
	id = "<" + id + "@" + s.d.set.myhostname + ">"
	s.putLines([]byte(prefix + "Message-Id: " + id))
	s.info("%smessage-id=%s", strings.ToLower(prefix), id)
}

// fromValue makes a From: value of the envelope sender.
func (s *session) fromValue() string {
	if s.sender == "" {
		return "MAILER-DAEMON"
	}
	addr := address.Quote(s.sender)
	if !s.haveFullName {
		return addr
	}
	name := strings.NewReplacer("\r", " ", "\n", " ").Replace(s.fullName)
	if s.d.set.obsoleteFrom {
		return fmt.Sprintf("%s (%s)", addr, name)
	}
	return strings.TrimLeft(phrase(name)+" <"+addr+">", " ")
}

// phrase makes a display name of text.
func phrase(text string) string {
	if strings.ContainsAny(text, "%!()<>@,;:\\\".[]") {
		return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(text) + `"`
	}
	return strings.Join(strings.Fields(text), " ")
}
