// Package verify is the protocol of the address verification service,
// "address_verification_prrotocol" (spec ipc.md §2.7): asking what is known about
// an address, and telling the result of a probe.
//
// Client repeats a failed exchange for ever, one second apart, logging what is
// wrong; it returns the context's error, ErrAddress, or *dial.StatusError when
// the service refuses a request.
package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// Protocol is what the service announces (two r's).
const Protocol = "address_verification_prrotocol"

// Result says what is known about an address (recipient_status).
type Result int

// Results, as they are stored and sent.
const (
	Deliverable   Result = 0
	Deferred      Result = 1
	Undeliverable Result = 2
	Probing       Result = 3 // not known yet
)

// Status of a request.
const (
	OK     = 0
	Failed = -1
	Bad    = -2
)

// Kinds of requests.
const (
	RequestQuery  = "query"
	RequestUpdate = "update"
)

// Request is one request as the service gets it.
type Request struct {
	Kind    string
	Address string // internal form
	Result  Result // of RequestUpdate
	Reason  string // of RequestUpdate
}

// UnknownRequestError is an unknown request; the service answers Bad.
type UnknownRequestError struct{ Command string }

func (e *UnknownRequestError) Error() string {
	return fmt.Sprintf("unrecognized request: %q, ignored", e.Command)
}

// ReadRequest reads the next request of a client: io.EOF at its end,
// *UnknownRequestError, or *attr.Error for a broken or short list.
func ReadRequest(in *attr.Reader) (Request, error) {
	var r Request
	list, err := in.List()
	if err != nil {
		return r, err
	}
	kind := attr.Str("request", &r.Kind)
	if _, err := list.Scan(in.From(), kind); err != nil {
		return r, err
	}
	switch r.Kind {
	case RequestQuery:
		_, err = list.Scan(in.From(), kind, attr.Str("address", &r.Address))
	case RequestUpdate:
		var n int
		_, err = list.Scan(in.From(), kind, attr.Str("address", &r.Address), attr.Int("recipient_status", &n), attr.Str("reason", &r.Reason))
		r.Result = Result(n)
	default:
		err = &UnknownRequestError{r.Kind}
	}
	return r, err
}

// WriteRequest sends a request.
func WriteRequest(w *attr.Writer, r Request) error {
	w.Str("request", r.Kind).Str("address", r.Address)
	if r.Kind == RequestUpdate {
		w.Int("recipient_status", int(r.Result)).Str("reason", r.Reason)
	}
	return w.Send()
}

// WriteAnswer sends the reply to a query that could be served.
func WriteAnswer(w *attr.Writer, r Result, reason string) error {
	return w.Int("status", OK).Int("recipient_status", int(r)).Str("reason", reason).Send()
}

// WriteStatus sends the reply to an update, or to any request with an error.
func WriteStatus(w *attr.Writer, status int) error { return w.Int("status", status).Send() }

// ErrAddress is returned for what the protocol cannot carry: a NUL, or more than
// attr.MaxValue.
var ErrAddress = errors.New("address cannot be sent to the verify service")

// Config says where the service is. An empty Service is "verify", other zeros
// are the defaults of package dial; Class and Protocol are set by New.
type Config = dial.PoolConfig

// FromConfig takes the parameters of the client out of main.cf.
func FromConfig(c dial.Params, log dial.Logger) Config {
	return dial.PoolFrom(c, "address_verify_service_name", log)
}

// Client asks the verify service. It is safe for concurrent use.
type Client struct {
	pool    *dial.Pool
	service string
}

// New returns a client; it connects on the first request.
func New(cfg Config) *Client {
	if cfg.Service == "" {
		cfg.Service = "verify"
	}
	cfg.Class, cfg.Protocol = dial.Private, Protocol
	return &Client{
		service: cfg.Service,
		pool:    dial.NewPool(cfg),
	}
}

// Query asks what is known about an address, and starts a probe if nothing is.
func (c *Client) Query(ctx context.Context, addr string) (Result, string, error) {
	var status, result int
	var reason string
	err := c.exchange(ctx, Request{Kind: RequestQuery, Address: addr}, func(in *attr.Reader) error {
		list, err := in.List()
		if err != nil {
			return err
		}
		if _, err := list.Scan(in.From(), attr.Int("status", &status)); err != nil || status != OK {
			return err
		}
		_, err = list.Scan(in.From(), attr.Int("status", &status), attr.Int("recipient_status", &result), attr.Str("reason", &reason))
		return err
	})
	if err == nil && status != OK {
		err = &dial.StatusError{Service: c.service, Status: status}
	}
	return Result(result), reason, err
}

// Update tells the result of a probe.
func (c *Client) Update(ctx context.Context, addr string, r Result, reason string) error {
	var status int
	reason = strings.ReplaceAll(reason, "\x00", "?")
	err := c.exchange(ctx, Request{Kind: RequestUpdate, Address: addr, Result: r, Reason: reason}, func(in *attr.Reader) error {
		return in.Scan(attr.Int("status", &status))
	})
	if err == nil && status != OK {
		err = &dial.StatusError{Service: c.service, Status: status}
	}
	return err
}

func (c *Client) exchange(ctx context.Context, q Request, read func(*attr.Reader) error) error {
	if len(q.Address) > attr.MaxValue || len(q.Reason) > attr.MaxValue || strings.IndexByte(q.Address, 0) >= 0 {
		return ErrAddress
	}
	return c.pool.Do(ctx, func(conn *dial.Conn) error {
		if err := WriteRequest(conn.Out, q); err != nil {
			return err
		}
		return read(conn.In)
	})
}

// Close closes the idle connections.
func (c *Client) Close() error { return c.pool.Close() }
