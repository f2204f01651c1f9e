// Package deliver is the protocol between the queue manager and the delivery
// agents, "delivery_request_protocol" (spec ipc.md §2.5, delivery.md §7): the
// request with its recipients, the time stamps of a delivery and the final
// reply.
//
// Both sides are here. Errors are *attr.Error for what breaks the encoding or
// lacks an attribute, io.EOF when the peer closed instead of a request or
// reply.
package deliver

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/message/dsn"
)

// Protocol is what a delivery agent announces.
const Protocol = "delivery_request_protocol"

// MaxRecipients is the most that ReadRequest accepts in one request; the queue
// manager sends at most default_destination_recipient_limit (50).
const MaxRecipients = 50_000

// Flags of a request (delivery.md §7.1).
type Flags int

// Request flags. The trace flags travel on to the bounce services.
const (
	Success   Flags = 1      // mark delivered recipients done in the queue file
	Bounce    Flags = 2      // set, never tested
	MTAVerify Flags = 0x100  // address probe: report to verify, do not deliver
	UsrVerify Flags = 0x200  // sendmail -bv: report to trace, do not deliver
	Record    Flags = 0x400  // sendmail -v: deliver and record in trace
	ConnLoad  Flags = 0x800  // look in the connection cache
	ConnStore Flags = 0x1000 // may save the connection
	DelaySent Flags = 0x2000 // a delay notice went out: record success in trace

	Probe Flags = MTAVerify | UsrVerify
	Trace Flags = MTAVerify | UsrVerify | Record | DelaySent
)

// Recipient is one recipient of a message.
type Recipient struct {
	Original string     // address before alias expansion; may be empty
	Address  string     // internal form
	Offset   int64      // of its R record in the queue file; -1: nothing to mark
	DSNOrig  string     // "rfc822;address" or empty (ORCPT)
	Notify   dsn.Notify // 0 when not given
}

// Status of a finished request.
const (
	Done  = 0  // every recipient is marked or needs no more work
	Retry = -1 // at least one must be tried again
)

// Request is a delivery request. Nothing in it is checked but the encoding.
type Request struct {
	Flags          Flags
	Queue          string // "active"
	ID             string
	DataOffset     int64 // of the first content record
	DataSize       int64 // content length
	NextHop        string
	Encoding       string // "", "7bit", "8bit"
	SMTPUTF8       int    // 1 requested, 2 header, 4 sender, 8 recipient
	Sender         string // internal form; empty is the null sender
	EnvelopeID     string
	Ret            dsn.Ret
	Stats          Stats
	ClientName     string // log_client_name ...: empty if not known
	ClientAddress  string
	ClientPort     string
	ClientProtocol string
	ClientHelo     string
	SASLMethod     string
	SASLUsername   string
	SASLSender     string
	LogIdent       string // the first queue id
	RewriteContext string // "local" or "remote"
	Recipients     []Recipient
}

// Errors of ReadRequest with the words that are logged. They wrap the cause.
var (
	ErrCommon     = errors.New("error receiving common attributes")
	ErrRecipients = errors.New("error receiving recipient attributes")
)

// WriteRequest adds the request with all its recipients and sends it.
func WriteRequest(w *attr.Writer, r *Request) error {
	w.Int("flags", int(r.Flags)).Str("queue_name", r.Queue).Str("queue_id", r.ID)
	w.Long("offset", r.DataOffset).Long("size", r.DataSize).Str("nexthop", r.NextHop)
	w.Str("encoding", r.Encoding).Int("smtputf8", r.SMTPUTF8).Str("sender", r.Sender)
	w.Str("envelope_id", r.EnvelopeID).Int("ret_flags", int(r.Ret)).Data("time", r.Stats.Encode())
	for _, f := range r.texts() {
		w.Str(f.name, *f.value)
	}
	w.Int("recipient_count", len(r.Recipients)).End()
	for i := range r.Recipients {
		WriteRecipient(w, &r.Recipients[i])
		w.End()
	}
	return w.Flush()
}

type text struct {
	name  string
	value *string
}

// texts are the string attributes between "time" and "recipient_count".
func (r *Request) texts() []text {
	return []text{
		{"log_client_name", &r.ClientName},
		{"log_client_address", &r.ClientAddress},
		{"log_client_port", &r.ClientPort},
		{"log_protocol_name", &r.ClientProtocol},
		{"log_helo_name", &r.ClientHelo},
		{"sasl_method", &r.SASLMethod},
		{"sasl_username", &r.SASLUsername},
		{"sasl_sender", &r.SASLSender},
		{"log_ident", &r.LogIdent},
		{"rewrite_context", &r.RewriteContext},
	}
}

// ReadRequest reads a request and its recipients. io.EOF, unwrapped, means that
// the queue manager changed its mind.
func ReadRequest(in *attr.Reader) (*Request, error) {
	list, err := in.List()
	if err != nil {
		if err == io.EOF {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrCommon, err)
	}
	r := new(Request)
	var stamps []byte
	var flags, ret, count int
	fields := []attr.Field{
		attr.Int("flags", &flags), attr.Str("queue_name", &r.Queue), attr.Str("queue_id", &r.ID),
		attr.Long("offset", &r.DataOffset), attr.Long("size", &r.DataSize), attr.Str("nexthop", &r.NextHop),
		attr.Str("encoding", &r.Encoding), attr.Int("smtputf8", &r.SMTPUTF8), attr.Str("sender", &r.Sender),
		attr.Str("envelope_id", &r.EnvelopeID), attr.Int("ret_flags", &ret), attr.Data("time", &stamps),
	}
	for _, f := range r.texts() {
		fields = append(fields, attr.Str(f.name, f.value))
	}
	fields = append(fields, attr.Int("recipient_count", &count))
	if _, err := list.Scan(in.From(), fields...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommon, err)
	}
	if err := r.Stats.Decode(stamps); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommon, err)
	}
	r.Flags, r.Ret = Flags(flags), dsn.Ret(ret)
	if count < 0 || count > MaxRecipients {
		return nil, fmt.Errorf("%w: recipient count %d", ErrRecipients, count)
	}
	for range count {
		var rcpt Recipient
		if err := ReadRecipient(in, &rcpt); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecipients, err)
		}
		r.Recipients = append(r.Recipients, rcpt)
	}
	return r, nil
}

// WriteRecipient adds the recipient group without an end.
func WriteRecipient(w *attr.Writer, r *Recipient) {
	w.Str("original_recipient", r.Original).Str("recipient", r.Address).Long("offset", r.Offset)
	w.Str("dsn_orig_rcpt", r.DSNOrig).Int("notify_flags", int(r.Notify))
}

// ReadRecipient reads a list that is one recipient group.
func ReadRecipient(in *attr.Reader, r *Recipient) error {
	list, err := in.List()
	if err != nil {
		return err
	}
	var notify int
	if _, err := list.Scan(in.From(), RecipientFields(r, &notify)...); err != nil {
		return err
	}
	r.Notify = dsn.Notify(notify)
	return nil
}

// RecipientFields are the attributes of a recipient group; the notify flags are
// left in a number of the caller's.
func RecipientFields(r *Recipient, notify *int) []attr.Field {
	return []attr.Field{
		attr.Str("original_recipient", &r.Original), attr.Str("recipient", &r.Address),
		attr.Long("offset", &r.Offset), attr.Str("dsn_orig_rcpt", &r.DSNOrig), attr.Int("notify_flags", notify),
	}
}

// WriteStatus adds the DSN group without an end (ipc.md §2.6).
func WriteStatus(w *attr.Writer, s dsn.Status) {
	w.Str("status", s.Code).Str("diag_type", s.DiagType).Str("diag_text", s.DiagText)
	w.Str("mta_type", s.MTAType).Str("mta_mname", s.MTAName).Str("action", s.Action)
	w.Str("reason", s.Reason)
}

// StatusFields are the attributes of a DSN group.
func StatusFields(s *dsn.Status) []attr.Field {
	return []attr.Field{
		attr.Str("status", &s.Code), attr.Str("diag_type", &s.DiagType), attr.Str("diag_text", &s.DiagText),
		attr.Str("mta_type", &s.MTAType), attr.Str("mta_mname", &s.MTAName), attr.Str("action", &s.Action),
		attr.Str("reason", &s.Reason),
	}
}

// CleanStatus makes a DSN group one that can be sent: NULs become '?', and the
// halves of a pair whose other half is missing are dropped (delivery.md §1.2).
func CleanStatus(s dsn.Status) dsn.Status {
	if s.DiagType == "" || s.DiagText == "" {
		s.DiagType, s.DiagText = "", ""
	}
	if s.MTAType == "" || s.MTAName == "" {
		s.MTAType, s.MTAName = "", ""
	}
	for _, p := range []*string{&s.Code, &s.Action, &s.Reason, &s.DiagType, &s.DiagText, &s.MTAType, &s.MTAName} {
		*p = strings.ReplaceAll(*p, "\x00", "?")
	}
	return s
}

// Reply is the final reply of an agent. Trouble is empty unless the destination,
// not a recipient, had a problem: then at least Code and Reason are set and
// the queue manager stops trying it for a while.
type Reply struct {
	Trouble dsn.Status
	Status  int // Done or Retry
}

// WriteReply sends the final reply.
func WriteReply(w *attr.Writer, r Reply) error {
	AddReply(w, r)
	return w.Flush()
}

// AddReply is WriteReply that leaves sending to the caller.
func AddReply(w *attr.Writer, r Reply) {
	WriteStatus(w, CleanStatus(r.Trouble))
	w.Int("status", r.Status).End()
}

// ReadReply reads the final reply. Any error is "malformed response" to the
// queue manager.
func ReadReply(in *attr.Reader) (Reply, error) {
	var r Reply
	list, err := in.List()
	if err != nil {
		return r, err
	}
	_, err = list.Scan(in.From(), append(StatusFields(&r.Trouble), attr.Int("status", &r.Status))...)
	return r, err
}
