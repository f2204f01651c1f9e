package cleanup

import (
	"bytes"
	"strings"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/table"
)

// verdict is what a check makes of the text that it looked at.
type verdict struct {
	drop    bool
	replace []byte // instead of the text, if not nil
}

// subject is the text that an action applies to.
type subject struct {
	context string // "header", "body" or "content"
	text    []byte
	mapName string
	arg     string
	word    string // the action as written
}

// actions are those of header and body checks (routing.md §1.9). DUNNO and OK
// do nothing.
var actions = [...]struct {
	name string
	do   func(s *session, c subject) verdict
}{
	{"REJECT", (*session).actReject},
	{"WARN", (*session).actLog},
	{"INFO", (*session).actLog},
	{"FILTER", (*session).actFilter},
	{"PASS", (*session).actPass},
	{"DISCARD", (*session).actDiscard},
	{"HOLD", (*session).actHold},
	{"PREPEND", (*session).actPrepend},
	{"REPLACE", (*session).actReplace},
	{"REDIRECT", (*session).actRedirect},
	{"BCC", (*session).actBCC},
	{"STRIP", (*session).actStrip},
	{"IGNORE", func(*session, subject) verdict { return verdict{drop: true} }},
	{"DUNNO", func(*session, subject) verdict { return verdict{} }},
	{"OK", func(*session, subject) verdict { return verdict{} }},
}

// act carries a table's answer out.
func (s *session) act(context string, text []byte, mapName, value string) verdict {
	word, arg := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		word, arg = value[:i], strings.TrimLeft(value[i:], " \t\r\n\v\f")
	}
	return s.actOn(subject{context, text, mapName, arg, word}, value)
}

func (s *session) actOn(c subject, value string) verdict {
	for i := range actions {
		if strings.EqualFold(actions[i].name, c.word) {
			return actions[i].do(s, c)
		}
	}
	s.d.log.Warn("unknown command in %s map: %s", c.mapName, value)
	return verdict{}
}

// report writes the log line of an action.
func (s *session) report(action string, c subject, text string) {
	if s.inMilterChecks {
		s.reportMilter(action, c, text)
		return
	}
	if text != "" {
		text = ": " + text
	}
	if i := bytes.IndexByte(c.text, 0); i >= 0 {
		c.text = c.text[:i]
	}
	s.info("%s: %s %.200s from %s;%s%s", action, c.context, c.text, s.origin(), s.logContext(), text)
}

const noFilter = proto.FlagFilter | proto.FlagMilter

func (s *session) actReject(c subject) verdict {
	d := proto.StatusContent.Detail()
	reason := d.DSN + " " + d.Text
	if c.arg != "" {
		reason = dsn.Prepend(d.DSN, c.arg)
	}
	if reason[0] != '4' && reason[0] != '5' {
		s.d.log.Warn("bad DSN action in %s -- need 4.x.x or 5.x.x", reason)
		reason = "4" + reason[1:]
	}
	s.reason = reason
	if reason[0] == '4' {
		s.status |= proto.StatusDefer
	} else {
		s.status |= proto.StatusContent
	}
	s.flags &^= noFilter
	s.report("reject", c, reason)
	return verdict{}
}

func (s *session) actLog(c subject) verdict {
	action := "info"
	if strings.EqualFold(c.word, "WARN") {
		action = "warning"
	}
	s.report(action, c, c.arg)
	return verdict{}
}

func (s *session) actFilter(c subject) verdict {
	switch {
	case c.arg == "":
		s.d.log.Warn("missing FILTER command argument in %s map", c.mapName)
	case !strings.Contains(c.arg, ":"):
		s.d.log.Warn("bad FILTER command %s in %s -- need transport:destination", c.arg, c.mapName)
	default:
		s.filter = c.arg
		s.report("filter", c, c.arg)
	}
	return verdict{}
}

func (s *session) actPass(c subject) verdict {
	s.report("pass", c, c.arg)
	s.flags &^= noFilter
	return verdict{}
}

func (s *session) actDiscard(c subject) verdict {
	s.report("discard", c, c.arg)
	s.flags |= proto.FlagDiscard
	s.flags &^= noFilter
	return verdict{}
}

func (s *session) actHold(c subject) verdict {
	if s.flags&(proto.FlagHold|proto.FlagDiscard) == 0 {
		s.report("hold", c, c.arg)
		s.flags |= proto.FlagHold
	}
	return verdict{}
}

// newText checks the argument of PREPEND and REPLACE.
func (s *session) newText(c subject, action string) bool {
	if c.arg == "" {
		s.d.log.Warn("%s action without text in %s map", action, c.mapName)
		return false
	}
	if c.context == "header" && !header.IsHeader(c.arg) {
		s.d.log.Warn("bad %s header text \"%s\" in %s map -- need \"headername: headervalue\"", action, c.arg, c.mapName)
		return false
	}
	return true
}

func (s *session) actPrepend(c subject) verdict {
	if !s.newText(c, "PREPEND") {
		return verdict{}
	}
	s.report("prepend", c, c.arg)
	if c.context == "header" {
		s.putHeader([]byte(c.arg))
	} else {
		s.putText(true, []byte(c.arg))
	}
	return verdict{}
}

func (s *session) actReplace(c subject) verdict {
	if !s.newText(c, "REPLACE") {
		return verdict{}
	}
	s.report("replace", c, c.arg)
	return verdict{replace: []byte(c.arg)}
}

func (s *session) actRedirect(c subject) verdict {
	if !strings.Contains(c.arg, "@") {
		s.d.log.Warn("bad REDIRECT target \"%s\" in %s map -- need user@domain", c.arg, c.mapName)
		return verdict{}
	}
	s.redirect = c.arg
	s.report("redirect", c, c.arg)
	s.flags &^= noFilter
	return verdict{}
}

func (s *session) actBCC(c subject) verdict {
	if !strings.Contains(c.arg, "@") {
		s.d.log.Warn("bad BCC address \"%s\" in %s map -- need user@domain", c.arg, c.mapName)
		return verdict{}
	}
	s.checkBCC = append(s.checkBCC, c.arg)
	s.report("bcc", c, c.arg)
	return verdict{}
}

func (s *session) actStrip(c subject) verdict {
	s.report("strip", c, c.arg)
	return verdict{drop: true}
}

// checksFor picks the table for a header; nil for none.
func (s *session) checksFor(class mime.Class, known *header.Known) *table.Maps {
	m := &s.d.maps
	switch {
	case known != nil && known.Flags&header.MIME != 0, class == mime.Multipart:
		return m.mimeHeaderChecks
	case class == mime.Nested:
		return m.nestedHeaderChecks
	}
	return m.headerChecks
}

// checkHeader looks a header up; keep is false if it is gone.
func (s *session) checkHeader(text []byte, m *table.Maps) (_ []byte, keep bool) {
	return s.check("header", text, m)
}

func (s *session) checkBody(data []byte) (_ []byte, keep bool) {
	return s.check("body", data, s.d.maps.bodyChecks)
}

func (s *session) check(context string, text []byte, m *table.Maps) (_ []byte, keep bool) {
	value, found, err := m.Find(s.ctx, string(text))
	if err != nil {
		s.warn("%s map lookup problem -- message not accepted, try again later", m.Title())
		s.status |= proto.StatusWrite
		return text, false
	}
	if !found {
		return text, true
	}
	v := s.act(context, text, m.Title(), value)
	if v.replace != nil {
		text = bytes.Clone(v.replace)
	}
	return text, !v.drop
}
