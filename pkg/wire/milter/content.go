package milter

import "errors"

// Editor changes the message as a filter asks at its end. Addresses are as the
// filter gave them, in angle brackets or not. A header's value is all that
// follows the colon, its blank included, with "\n" between lines. An error
// ends the changes and becomes the Result.
type Editor interface {
	AddHeader(name, value string) error
	InsertHeader(index int, name, value string) error // before the index-th of all, from 1
	ChangeHeader(index int, name, value string) error // the index-th of that name, from 1
	DeleteHeader(index int, name string) error
	AddRecipient(addr, parameters string) error // parameters: ESMTP, "" if none
	DelRecipient(addr string) error
	ChangeSender(addr, parameters string) error
	// ReplaceBody is called with the parts of a new body, in order; part is
	// nil when the last has come.
	ReplaceBody(part []byte) error
}

// Content shows a message to one filter.
type Content struct {
	f      *Filters
	m      *filter
	result Result
	body   []byte
	done   bool // the filter has decided: nothing more need be shown
}

// ErrDecided is returned by the methods of Content when the filter has
// decided; a source that gets it may stop early.
var ErrDecided = errors.New("the filter has decided")

// Message shows the message to each filter in turn. show is called for each
// filter and calls Header, EndOfHeaders and Body in this order with the message
// as it is then; what it returns, other than ErrDecided, becomes the Result.
// The changes a filter asks for go to edit.
//
// The first Result that is not Continue ends the round, a Hold too, as in the
// original: the filters behind do not see the message.
func (f *Filters) Message(show func(c *Content) error, edit Editor) Result {
	return f.each(func(m *filter) Result { return f.message(m, show, edit) })
}

// Header shows a header: its name and all that follows the colon.
func (c *Content) Header(name, value string) error {
	return c.send(&eventHeader, cstrings(name, c.m.trim(value)))
}

// EndOfHeaders says that all headers were shown.
func (c *Content) EndOfHeaders() error { return c.send(&eventEndOfHeaders, nil) }

// Body shows a part of the body, with CR LF at the end of its lines.
func (c *Content) Body(p []byte) error {
	for len(p) > 0 && !c.done {
		n := min(len(p), MaxChunk-len(c.body))
		c.body = append(c.body, p[:n]...)
		p = p[n:]
		if len(c.body) == MaxChunk {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	if c.done {
		return ErrDecided
	}
	return nil
}

func (c *Content) flush() error {
	if len(c.body) == 0 {
		return nil
	}
	err := c.send(&eventBody, c.body)
	c.body = c.body[:0]
	return err
}

func (c *Content) send(e *event, data []byte) error {
	if c.done {
		return ErrDecided
	}
	r := c.f.event(c.m, e, data)
	if r.Verdict != Continue {
		c.result, c.done = r, true
	}
	if c.m.state != stateMessage {
		c.done = true
	}
	if c.done {
		return ErrDecided
	}
	return nil
}
