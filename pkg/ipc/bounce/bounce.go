// Package bounce is the protocol of the bounce, defer and trace services,
// "delivery_status_protocol" (spec ipc.md §2.6, routing.md §5): adding a
// recipient's fate to the log of a message, and having a notice made from it.
//
// Errors: *dial.StatusError (it wraps dial.ErrStatus) when the service says that
// the request was not done, *attr.Error for a broken reply, else those of the
// connection. Nothing is repeated: the caller keeps the message and tries
// again later.
package bounce

import (
	"fmt"
	"strings"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
)

// Protocol is what the services announce.
const Protocol = "delivery_status_protocol"

// Kind of a request, as sent in nrequest.
type Kind int

// Kinds of requests.
const (
	Append    Kind = 0 // add a recipient to the log
	Flush     Kind = 1 // bounce to the sender
	Warn      Kind = 2 // delay notice
	FlushVERP Kind = 3 // a bounce for each recipient, to its VERP address
	One       Kind = 4 // bounce one recipient, without a log
	Trace     Kind = 5 // report of successes or of a probe
)

// Flags of a request; the trace flags of package deliver travel here too.
type Flags int

// Request flags.
const (
	Clean      Flags = 1 // on failure remove the log: the caller will not come again
	DelRecip   Flags = 2 // after the notice mark the logged recipients done
	UsrVerify        = Flags(deliver.UsrVerify)
	Record           = Flags(deliver.Record)
	TraceFlags       = Flags(deliver.Trace)
)

// Recipient is as in a delivery request.
type Recipient = deliver.Recipient

// Message is what a notice must know about the message.
type Message struct {
	Queue      string // queue the file is in
	ID         string
	Encoding   string // "", "7bit" or "8bit"
	SMTPUTF8   int
	Sender     string
	EnvelopeID string
	Ret        dsn.Ret
}

// Request is one request as the services get it.
type Request struct {
	Kind      Kind
	Flags     Flags
	Message             // of Append: only ID
	VERP      string    // delimiters, of FlushVERP
	Recipient Recipient // of Append and One
	Status    dsn.Status
}

// ErrMalformed is returned by ReadRequest for a list that lacks attributes.
var ErrMalformed = fmt.Errorf("malformed request")

// UnknownError is a request of an unknown kind.
type UnknownError struct{ Kind Kind }

func (e *UnknownError) Error() string { return fmt.Sprintf("unknown command: %d", int(e.Kind)) }

// ReadRequest reads a client's request: io.EOF when there is none, *UnknownError,
// ErrMalformed (with what is missing), or an error of the stream. Values
// are not checked.
func ReadRequest(in *attr.Reader) (Request, error) {
	list, err := in.List()
	if err != nil {
		return Request{}, err
	}
	return ParseRequest(list, in.From())
}

// ParseRequest is ReadRequest for a list that was read already; from is the
// name of the stream for error texts.
func ParseRequest(list attr.List, from string) (Request, error) {
	var r Request
	var kind, flags, ret, notify int
	number := attr.Int("nrequest", &kind)
	if _, err := list.Scan(from, number); err != nil {
		return r, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r.Kind = Kind(kind)
	fields := []attr.Field{number, attr.Int("flags", &flags)}
	message := []attr.Field{attr.Str("queue_name", &r.Queue), attr.Str("queue_id", &r.ID), attr.Str("encoding", &r.Encoding),
		attr.Int("smtputf8", &r.SMTPUTF8), attr.Str("sender", &r.Sender), attr.Str("envelope_id", &r.EnvelopeID), attr.Int("ret_flags", &ret)}
	recipient := append(deliver.RecipientFields(&r.Recipient, &notify), deliver.StatusFields(&r.Status)...)
	switch r.Kind {
	case Append:
		fields = append(append(fields, attr.Str("queue_id", &r.ID)), recipient...)
	case Flush, Warn, Trace:
		fields = append(fields, message...)
	case FlushVERP:
		fields = append(append(fields, message...), attr.Str("verp_delimiters", &r.VERP))
	case One:
		fields = append(append(fields, message...), recipient...)
	default:
		return r, &UnknownError{r.Kind}
	}
	if _, err := list.Scan(from, fields...); err != nil {
		return r, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r.Flags, r.Ret, r.Recipient.Notify = Flags(flags), dsn.Ret(ret), dsn.Notify(notify)
	return r, nil
}

// WriteRequest sends a request. NULs in texts become '?'.
func WriteRequest(w *attr.Writer, r Request) error {
	w.Int("nrequest", int(r.Kind)).Int("flags", int(r.Flags))
	if r.Kind == Append {
		w.Str("queue_id", r.ID)
	} else {
		w.Str("queue_name", r.Queue).Str("queue_id", r.ID).Str("encoding", r.Encoding).Int("smtputf8", r.SMTPUTF8)
		w.Str("sender", clean(r.Sender)).Str("envelope_id", clean(r.EnvelopeID)).Int("ret_flags", int(r.Ret))
	}
	switch r.Kind {
	case FlushVERP:
		w.Str("verp_delimiters", r.VERP)
	case Append, One:
		rcpt := r.Recipient
		rcpt.Address, rcpt.Original, rcpt.DSNOrig = clean(rcpt.Address), clean(rcpt.Original), clean(rcpt.DSNOrig)
		deliver.WriteRecipient(w, &rcpt)
		deliver.WriteStatus(w, deliver.CleanStatus(r.Status))
	}
	return w.Send()
}

func clean(s string) string { return strings.ReplaceAll(s, "\x00", "?") }

// WriteReply sends the reply: 0 done, -1 not done.
func WriteReply(w *attr.Writer, status int) error { return w.Int("status", status).Send() }
