package milter

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"
)

// message shows the message to one filter and carries its changes out.
func (f *Filters) message(m *filter, show func(c *Content) error, edit Editor) Result {
	switch m.state {
	case stateError, stateRejectSession:
		return m.decided
	case stateReady, stateEnvelope:
	default:
		return Result{}
	}
	m.state, m.skipping = stateMessage, 0
	m.deadline = time.Now().Add(m.content)
	c := &Content{f: f, m: m}
	err := show(c)
	if err == nil {
		err = c.flush()
	}
	if err != nil && !errors.Is(err, ErrDecided) {
		return Result{Verdict: Failed, Err: err}
	}
	if c.done {
		return c.result
	}
	r := f.endOfMessage(m, edit)
	if r.Verdict == Continue {
		return c.result
	}
	return r
}

// endOfMessage reports the end and reads changes until the filter has decided.
func (f *Filters) endOfMessage(m *filter, edit Editor) Result {
	e := &eventEndOfMessage
	m.conn.SetDeadline(m.deadline)
	err := writePacket(m.out, cmdMacro, f.macroData(m, e))
	if err == nil {
		err = writePacket(m.out, e.command, nil)
	}
	if err == nil {
		err = m.out.Flush()
	}
	if err != nil {
		m.unreadable(e.name, err)
		m.commError()
		return m.decided
	}
	held, failed, body, ended := Result{}, Result{}, false, false
	for {
		p, err := readPacket(m.in)
		if err != nil {
			m.unreadable(e.name, err)
			m.commError()
			return m.decided
		}
		change, isChange := changes[p.command]
		if body && p.command != replyBody {
			body, ended = false, true
			if failed.Verdict == Continue {
				failed = failure(edit.ReplaceBody(nil))
			}
		}
		switch {
		case p.command == replyProgress && len(p.data) == 0:
			continue
		case p.command == replyQuarantine:
			held = Result{Verdict: Hold}
			continue
		case p.command == replyBody:
			if ended {
				m.warn("milter %s: body replacement requests can't currently be mixed with other requests", m.name)
				m.confError()
				return m.decided
			}
			body = true
			if failed.Verdict == Continue && len(p.data) > 0 {
				failed = failure(edit.ReplaceBody(p.data))
			}
			continue
		case isChange:
			request, warning := change.parse(m, p.data)
			if warning != "" {
				m.warn("%s", warning)
				m.commError()
				return m.decided
			}
			if failed.Verdict == Continue {
				failed = failure(request(edit))
			}
			continue
		}
		r, ok := m.decision(e, p)
		if !ok {
			return f.badReply(m, e, p)
		}
		if failed.Verdict == Failed && r.Verdict != Discard && r.Verdict != Shutdown {
			return failed
		}
		if r.Verdict == Continue {
			return held
		}
		return r
	}
}

func failure(err error) Result {
	if err == nil {
		return Result{}
	}
	return Result{Verdict: Failed, Err: err}
}

func (f *Filters) badReply(m *filter, e *event, p packet) Result {
	m.unexpected(e, p)
	return m.decided
}

// change is a request for an edit of the message.
type change struct {
	number  bool // the data begins with a number
	strings int  // strings that must follow
	more    bool // one further string may follow
	call    func(edit Editor, m *filter, n int, args []string) error
}

var changes = map[byte]change{
	replyAddHeader: {strings: 2, call: func(edit Editor, m *filter, _ int, args []string) error {
		return edit.AddHeader(args[0], m.blank(args[1]))
	}},
	replyInsertHeader: {number: true, strings: 2, call: func(edit Editor, m *filter, n int, args []string) error {
		return edit.InsertHeader(n+1, args[0], m.blank(args[1]))
	}},
	replyChangeHeader: {number: true, strings: 2, call: func(edit Editor, m *filter, n int, args []string) error {
		n = max(n, 1)
		if args[1] == "" {
			return edit.DeleteHeader(n, args[0])
		}
		return edit.ChangeHeader(n, args[0], m.blank(args[1]))
	}},
	replyAddRcpt:      {strings: 1, call: func(edit Editor, _ *filter, _ int, args []string) error { return edit.AddRecipient(args[0], "") }},
	replyAddRcptParam: {strings: 1, more: true, call: func(edit Editor, _ *filter, _ int, args []string) error { return edit.AddRecipient(args[0], args[1]) }},
	replyDelRcpt:      {strings: 1, call: func(edit Editor, _ *filter, _ int, args []string) error { return edit.DelRecipient(args[0]) }},
	replyChangeFrom:   {strings: 1, more: true, call: func(edit Editor, _ *filter, _ int, args []string) error { return edit.ChangeSender(args[0], args[1]) }},
}

// blank puts the blank after a header's colon unless the filter does.
func (m *filter) blank(value string) string {
	if m.events&leadingSpace != 0 {
		return value
	}
	return " " + value
}

// request is a change whose data has been understood.
type request func(edit Editor) error

// parse understands the data of a change; the warning says why it could not.
func (c change) parse(m *filter, data []byte) (do request, warning string) {
	n, ok := uint32(0), true
	if c.number {
		if n, data, ok = cutNumber(data); !ok {
			return nil, fmt.Sprintf("milter %s: input packet too short for network long", m.name)
		}
	}
	wanted := c.strings
	if c.more && bytes.IndexByte(data, 0) < len(data)-1 {
		wanted++
	}
	args := make([]string, 0, 2)
	for len(args) < wanted {
		s, rest, ok := cutString(data)
		if !ok {
			return nil, fmt.Sprintf("milter8_read_data: milter %s: missing string null termimator", m.name) // sic
		}
		args, data = append(args, s), rest
	}
	if len(data) > 0 {
		return nil, fmt.Sprintf("milter8_read_data: left-over data %d bytes", len(data))
	}
	index := int(min(n, math.MaxInt32))
	return func(edit Editor) error { return c.call(edit, m, index, append(args, "")) }, ""
}
