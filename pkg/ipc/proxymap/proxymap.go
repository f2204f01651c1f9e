// Package proxymap is the protocol of the proxymap and proxywrite services: the
// lists both sides exchange, and the client (ipc.md 2.14, config.md 3.13).
//
// The client asks again for as long as its context lives when the service cannot be
// reached or breaks the protocol. A reply that refuses the request is an *Error.
package proxymap

import (
	"fmt"

	"posthaste/pkg/ipc/attr"
)

// Protocol is what the server announces.
const Protocol = "proxymap_protocol"

// Status is the outcome of a request.
type Status int

// The outcomes.
const (
	OK     Status = iota
	NoKey         // no such key
	Retry         // table temporarily unavailable
	Bad           // malformed request, unknown request, bad flags
	Deny          // table not approved
	Config        // table configuration error
)

// The requests.
const (
	Open     = "open"
	Lookup   = "lookup"
	Update   = "update"
	Delete   = "delete"
	Sequence = "sequence"
)

// Functions of a sequence request.
const (
	First = 0
	Next  = 1
)

// Request is any request; which fields are sent depends on Op.
type Request struct {
	Op       string
	Table    string // type:name, without proxy:
	Flags    uint32
	Key      string // lookup, update, delete
	Value    string // update
	Function int    // sequence
}

// Reply is any reply; which fields are sent depends on the request.
type Reply struct {
	Status Status
	Flags  uint32 // open
	Key    string // sequence
	Value  string // lookup, sequence
}

// WriteRequest sends a request.
func WriteRequest(w *attr.Writer, r Request) error {
	w.Str("request", r.Op).Str("table", r.Table).Int("flags", int(r.Flags))
	switch r.Op {
	case Lookup, Delete:
		w.Str("key", r.Key)
	case Update:
		w.Str("key", r.Key).Str("value", r.Value)
	case Sequence:
		w.Int("function", r.Function)
	}
	return w.Send()
}

// ReadRequest receives a request. io.EOF means the client is done. ok is false
// for a list that is no request, which is answered with WriteStatus(Bad).
func ReadRequest(r *attr.Reader) (q Request, ok bool, err error) {
	list, err := r.List()
	if err != nil {
		return q, false, err
	}
	flags := 0
	common := []attr.Field{attr.Str("request", &q.Op), attr.Str("table", &q.Table), attr.Int("flags", &flags)}
	q.Op, _ = list.Get("request")
	switch q.Op {
	case Open:
	case Lookup, Delete:
		common = append(common, attr.Str("key", &q.Key))
	case Update:
		common = append(common, attr.Str("key", &q.Key), attr.Str("value", &q.Value))
	case Sequence:
		common = append(common, attr.Int("function", &q.Function))
	default:
		return q, false, nil
	}
	_, err = list.Scan(r.From(), common...)
	q.Flags = uint32(flags)
	return q, err == nil, nil
}

// WriteReply sends the reply to a request of kind op.
func WriteReply(w *attr.Writer, op string, r Reply) error {
	w.Int("status", int(r.Status))
	switch op {
	case Open:
		w.Int("flags", int(r.Flags))
	case Lookup:
		w.Str("value", r.Value)
	case Sequence:
		w.Str("key", r.Key).Str("value", r.Value)
	}
	return w.Send()
}

// ReadReply receives the reply to a request of kind op.
func ReadReply(r *attr.Reader, op string) (Reply, error) {
	var reply Reply
	status, flags := 0, 0
	fields := []attr.Field{attr.Int("status", &status)}
	switch op {
	case Open:
		fields = append(fields, attr.Int("flags", &flags))
	case Lookup:
		fields = append(fields, attr.Str("value", &reply.Value))
	case Sequence:
		fields = append(fields, attr.Str("key", &reply.Key), attr.Str("value", &reply.Value))
	}
	err := r.Scan(fields...)
	reply.Status, reply.Flags = Status(status), uint32(flags)
	return reply, err
}

// Error is a refusal by the server. Its text is worded for "fatal: ".
type Error struct {
	Status  Status
	Service string
	Request Request
}

func (e *Error) Error() string {
	switch {
	case e.Status == Deny && (e.Request.Op == Update || e.Request.Op == Delete):
		return fmt.Sprintf("%s update access is not configured for table \"%s\"", e.Service, e.Request.Table)
	case e.Status == Deny:
		return fmt.Sprintf("%s service is not configured for table \"%s\"", e.Service, e.Request.Table)
	}
	key := ""
	if e.Request.Key != "" {
		key = fmt.Sprintf(" key \"%s\"", e.Request.Key)
	}
	return fmt.Sprintf("%s %s failed for table \"%s\"%s: invalid request", e.Service, e.Request.Op, e.Request.Table, key)
}
