// Package showq is the protocol in which the service "showq" lists the queue
// (spec ipc.md §2.10, queue.md §4.1): the reader of postqueue and the writer
// of the daemon. Both stream: neither a long queue nor a message of many
// recipients is held in memory.
//
// The client sends nothing. The server announces itself and sends, for each
// message, the attributes of Message, those of any number of Recipients, and
// a list end; after the last message an empty list.
//
// Errors are those of package attr; ErrMalformed for a list that makes no
// sense.
package showq

import (
	"errors"
	"fmt"
	"io"

	"posthaste/pkg/ipc/attr"
)

// Protocol is what the server announces.
const Protocol = "mail_queue_list_protocol"

// ErrMalformed is returned for a stream that breaks the protocol.
var ErrMalformed = errors.New("malformed showq server response")

// Message is what the list says about a message.
type Message struct {
	Queue        string
	ID           string
	Time         int64 // arrival, seconds since the epoch
	Size         int64 // bytes
	ForcedExpire bool
	Sender       string // quoted form, never empty
}

// Recipient is a recipient who still waits. Reason is why, if that is known.
type Recipient struct {
	Address string // quoted form
	Reason  string
}

// Writer is the server's side. Begin, then for each message Message and any
// number of Recipient, then End, which sends what the stream's buffer holds.
// The first error sticks.
type Writer struct {
	w    *attr.Writer
	open bool
}

// NewWriter returns a Writer on a stream.
func NewWriter(w *attr.Writer) *Writer { return &Writer{w: w} }

// Begin announces the protocol.
func (w *Writer) Begin() error { return attr.Announce(w.w, Protocol) }

// Message starts a message. It ends the one before.
func (w *Writer) Message(m Message) error {
	if err := w.finish(); err != nil {
		return err
	}
	w.open = true
	expire := 0
	if m.ForcedExpire {
		expire = 1
	}
	w.w.Str("queue_name", m.Queue).Str("queue_id", m.ID).Long("time", m.Time).Long("size", m.Size)
	w.w.Int("forced_expire", expire).Str("sender", m.Sender)
	return nil
}

// Recipient adds a recipient to the message.
func (w *Writer) Recipient(r Recipient) error {
	w.w.Str("recipient", r.Address).Str("reason", r.Reason)
	return nil
}

func (w *Writer) finish() error {
	if !w.open {
		return nil
	}
	w.open = false
	return w.w.End().Err()
}

// End ends the list.
func (w *Writer) End() error {
	if err := w.finish(); err != nil {
		return err
	}
	return w.w.Send()
}

// Reader is the client's side.
type Reader struct {
	r      *attr.Reader
	inside bool // a message's recipients have not been read to the end
	done   bool

	// What came last: most senders, reasons and queues are the one before.
	message Message
	rcpt    Recipient
}

// NewReader returns a Reader; it reads the announcement at the first Next.
func NewReader(r *attr.Reader) *Reader { return &Reader{r: r} }

// Begin reads the announcement. A peer that closes without a word, or says
// something else, is an error.
func (r *Reader) Begin() error { return attr.Expect(r.r, Protocol) }

// Next returns the next message, io.EOF after the last. What is left of the
// recipients of the one before is skipped.
func (r *Reader) Next() (Message, error) {
	for r.inside {
		if _, more, err := r.Recipient(); err != nil {
			return Message{}, err
		} else if !more {
			break
		}
	}
	if r.done {
		return Message{}, io.EOF
	}
	if m, ok := r.quickly(); ok {
		return m, nil
	}
	var list attr.List
	for len(list) < len(messageFields) {
		a, more, err := r.r.Next()
		if err != nil {
			return Message{}, eof(err)
		}
		if !more && len(list) == 0 {
			r.done = true
			return Message{}, io.EOF
		}
		if !more {
			return Message{}, fmt.Errorf("%w: missing attribute", ErrMalformed)
		}
		if a.Name == messageFields[len(list)] {
			list = append(list, a)
		} else if len(list) == 0 {
			return Message{}, fmt.Errorf("%w: unexpected attribute %.100q", ErrMalformed, a.Name)
		}
	}
	var m Message
	var expire int
	_, err := list.Scan(r.r.From(), attr.Str("queue_name", &m.Queue), attr.Str("queue_id", &m.ID),
		attr.Long("time", &m.Time), attr.Long("size", &m.Size), attr.Int("forced_expire", &expire), attr.Str("sender", &m.Sender))
	m.ForcedExpire = expire != 0
	r.inside = err == nil
	return m, err
}

var messageFields = [...]string{"queue_name", "queue_id", "time", "size", "forced_expire", "sender"}

// Recipient returns the next recipient of the message; more is false behind
// the last.
func (r *Reader) Recipient() (rcpt Recipient, more bool, err error) {
	if !r.inside {
		return rcpt, false, nil
	}
	if rcpt, ok := r.quickRecipient(); ok {
		return rcpt, true, nil
	}
	for _, place := range [...]struct {
		name  string
		value *string
	}{{"recipient", &rcpt.Address}, {"reason", &rcpt.Reason}} {
		a, more, err := r.r.Next()
		if err != nil {
			return rcpt, false, eof(err)
		}
		if !more && place.name == "recipient" {
			r.inside = false
			return rcpt, false, nil
		}
		if !more || a.Name != place.name {
			return rcpt, false, fmt.Errorf("%w: unexpected attribute %.100q", ErrMalformed, a.Name)
		}
		*place.value = a.Value
	}
	return rcpt, true, nil
}

// eof makes an end that comes too early an error.
func eof(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: %w", ErrMalformed, io.ErrUnexpectedEOF)
	}
	return err
}
