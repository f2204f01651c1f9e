package milter

import (
	"strings"
	"time"
)

// event reports one event to one filter.
func (f *Filters) event(m *filter, e *event, data []byte) Result {
	switch m.state {
	case stateError, stateRejectSession:
		return m.decided
	case stateReady, stateEnvelope, stateMessage:
	default:
		return Result{}
	}
	if m.state == stateReady {
		m.state = stateEnvelope
	}
	if m.decided.Verdict != Continue {
		m.warn("milter8_event: attempt to send event %s to milter %s after error", e.name, m.name)
		return m.decided
	}
	if m.nonEvents&e.without != 0 || m.skipping == e.command {
		return Result{}
	}
	m.skipping = 0
	if e.content {
		m.conn.SetDeadline(m.deadline)
	} else {
		m.conn.SetDeadline(time.Now().Add(m.command))
	}
	err := writePacket(m.out, cmdMacro, f.macroData(m, e))
	if err == nil && m.events&e.without == 0 {
		err = writePacket(m.out, e.command, data)
	}
	if err == nil && m.events&e.without == 0 && m.events&e.silent == 0 {
		err = m.out.Flush()
	}
	if err != nil {
		m.unreadable(e.name, err)
		m.commError()
		return m.decided
	}
	if m.events&(e.without|e.silent) != 0 {
		return Result{}
	}
	return m.replies(e)
}

// replies reads until the filter has decided about an event other than the
// message's end. A quarantine holds for the rest of the session, as in the
// original.
func (m *filter) replies(e *event) Result {
	for {
		p, err := readPacket(m.in)
		if err != nil {
			m.unreadable(e.name, err)
			m.commError()
			return m.decided
		}
		switch {
		case p.command == replyQuarantine:
			m.decided = Result{Verdict: Hold}
			continue
		case p.command == replyProgress && len(p.data) == 0:
			m.conn.SetDeadline(time.Now().Add(m.command))
			continue
		}
		r, ok := m.decision(e, p)
		switch {
		case !ok:
			m.unexpected(e, p)
			return m.decided
		case r.Verdict == Continue:
			return m.decided
		}
		return r
	}
}

// unexpected is what a reply means that has no place here.
func (m *filter) unexpected(e *event, p packet) {
	_, dataless := dataless[p.command]
	if dataless && len(p.data) > 0 {
		m.warn("milter %s: reply %s was followed by %d data bytes", m.name, replyName(p.command), len(p.data))
	} else {
		m.warn("milter %s: unexpected filter response %s after event %s", m.name, replyName(p.command), e.name)
	}
	m.commError()
}

// dataless are the replies that have no data.
var dataless = map[byte]struct{}{replyAccept: {}, replyContinue: {}, replyDiscard: {}, replyTempfail: {}, replyReject: {}, replyShutdown: {}, replyProgress: {}, replySkip: {}}

// decision understands the replies that end an event.
func (m *filter) decision(e *event, p packet) (Result, bool) {
	if p.command != replyText && len(p.data) > 0 {
		return Result{}, false
	}
	session := e == &eventConnect || e == &eventHelo
	switch p.command {
	case replyContinue:
		return Result{}, true
	case replySkip:
		m.skipping = e.command
		return Result{}, true
	case replyAccept:
		m.accepted(session)
		return Result{}, true
	case replyDiscard:
		if session {
			m.warn("milter %s: DISCARD action is not allowed for connect or helo", m.name)
			return Result{}, true
		}
		m.accepted(false)
		return Result{Verdict: Discard}, true
	case replyReject:
		return m.rejected(session, "550 5.7.1 Command rejected"), true
	case replyTempfail:
		return m.rejected(session, "451 4.7.1 Service unavailable - try again later"), true
	case replyText:
		text, ok := m.replyText(p.data)
		if !ok {
			m.warn("milter %s: malformed reply: %s", m.name, strings.TrimRight(string(p.data), "\x00"))
			m.confError()
			return m.decided, true
		}
		return m.rejected(session, text), true
	case replyShutdown:
		m.disconnect()
		m.state = stateRejectSession
		m.decided = Result{Verdict: Shutdown, Reply: "421 4.7.0 Server closing connection"}
		return m.decided, true
	}
	return Result{}, false
}

func (m *filter) accepted(session bool) {
	if session {
		m.disconnect()
		m.state = stateAcceptSession
		return
	}
	m.state = stateAcceptMessage
}

func (m *filter) rejected(session bool, reply string) Result {
	r := Result{Verdict: Reject, Reply: reply}
	if session {
		m.disconnect()
		m.state, m.decided = stateRejectSession, r
	}
	return r
}

// replyText checks a reply of the filter's own: 4dd or 5dd, an enhanced code
// of the same class on each line, and text in which a percent sign is doubled.
func (m *filter) replyText(data []byte) (string, bool) {
	text, _, ok := cutString(data)
	if !ok {
		text = string(data)
	}
	return ParseReply(text, m.cfg.SoftBounce)
}

// replyNames are what warnings call replies.
var replyNames = map[byte]string{
	replyAccept: "SMFIR_ACCEPT", replyContinue: "SMFIR_CONTINUE", replyDiscard: "SMFIR_DISCARD", replyTempfail: "SMFIR_TEMPFAIL",
	replyReject: "SMFIR_REJECT", replyText: "SMFIR_REPLYCODE", replyShutdown: "SMFIR_SHUTDOWN", replyProgress: "SMFIR_PROGRESS",
	replySkip: "SMFIR_SKIP", replyQuarantine: "SMFIR_QUARANTINE", replyAddHeader: "SMFIR_ADDHEADER", replyInsertHeader: "SMFIR_INSHEADER",
	replyChangeHeader: "SMFIR_CHGHEADER", replyAddRcpt: "SMFIR_ADDRCPT", replyAddRcptParam: "SMFIR_ADDRCPT_PAR",
	replyDelRcpt: "SMFIR_DELRCPT", replyChangeFrom: "SMFIR_CHGFROM", replyBody: "SMFIR_REPLBODY",
}

func replyName(command byte) string {
	if name, ok := replyNames[command]; ok {
		return name
	}
	return "(unknown filter reply)"
}
