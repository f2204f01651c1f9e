package cleanup

import (
	"bytes"
	"strings"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
)

// milterHeader makes the text of a header that a Milter adds or changes, and
// passes it through milter_header_checks; ok is false if it is not wanted.
func (s *session) milterHeader(name, value string) (text []byte, ok bool) {
	text = []byte(name + ":" + value)
	m := s.d.maps.milterHeaderChecks
	if m.Empty() || s.flags&proto.FlagFilter == 0 {
		return text, true
	}
	result, found, err := m.Find(s.ctx, string(text))
	if err != nil {
		s.warn("%s map lookup problem -- message not accepted, try again later", m.Title())
		s.status |= proto.StatusWrite
		return nil, false
	}
	if !found {
		return text, true
	}
	return s.actMilter(text, m.Title(), result)
}

// actMilter carries an action of milter_header_checks out.
func (s *session) actMilter(text []byte, mapName, value string) ([]byte, bool) {
	word, arg := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		word, arg = value[:i], strings.TrimLeft(value[i:], " \t\r\n\v\f")
	}
	c := subject{"header", text, mapName, arg, word}
	switch word := strings.ToUpper(word); {
	case word == "PREPEND":
		s.reportMilter("prepend", c, arg)
		s.d.log.Warn("the milter_header/body_checks prepend action is not implemented")
		return text, true
	case word == "PASS" || !isAction(word):
		s.d.log.Warn("unsupported command in %s map: %s", mapName, value)
		return text, true
	}
	s.inMilterChecks = true
	defer func() { s.inMilterChecks = false }()
	v := s.actOn(c, value)
	for _, addr := range s.checkBCC[s.bccPut:] {
		s.bccPut++
		if (&editor{s: s}).AddRecipient(addr, "") != nil {
			return nil, false
		}
	}
	if v.drop || !s.going() {
		return nil, false
	}
	if v.replace != nil {
		if n, _ := header.NameLen(v.replace); n == 0 {
			return text, true
		}
		text = bytes.Clone(v.replace)
	}
	return text, true
}

// reportMilter is the log line of such an action.
func (s *session) reportMilter(action string, c subject, text string) {
	who := s.client()
	s.info("milter-header-%s: %s %.60s from %s[%s];%s: %s", action, c.context, c.text, who.name, who.addr, s.logContext(), text)
}

// putLateMeta writes what milter_header_checks said about delivery.
func (s *session) putLateMeta() {
	if !s.going() || s.filter == s.filterPut && s.redirect == s.redirectPut {
		return
	}
	s.fill(&s.places.meta, func() {
		if s.filter != s.filterPut {
			s.putString(record.TypeFilter, s.filter)
		}
		if s.redirect != s.redirectPut {
			s.putString(record.TypeRedirect, s.redirect)
		}
	})
}

func isAction(word string) bool {
	for i := range actions {
		if actions[i].name == word {
			return true
		}
	}
	return false
}
