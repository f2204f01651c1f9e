package bounce

import (
	"context"
	"io"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/message/dsn"
)

// Services are the names of the three services.
type Services struct {
	Bounce, Defer, Trace string
}

// Params is the part of a configuration that ServicesFrom reads.
type Params interface {
	String(name string) string
}

// ServicesFrom takes bounce_service_name, defer_service_name and
// trace_service_name out of main.cf.
func ServicesFrom(c Params) Services {
	return Services{c.String("bounce_service_name"), c.String("defer_service_name"), c.String("trace_service_name")}
}

// Client sends requests, each on a connection of its own. It is safe for
// concurrent use. A failure to connect or to get a reply is logged as a
// warning as well as returned.
type Client struct {
	Dialer dial.Dialer
}

// Append logs the fate of a recipient of message id with the service named. When
// it returns nil the entry is on stable storage.
func (c *Client) Append(ctx context.Context, service, id string, flags Flags, rcpt Recipient, st dsn.Status) error {
	return c.Do(ctx, service, Request{Kind: Append, Flags: flags, Message: Message{ID: id}, Recipient: rcpt, Status: st})
}

// Flush returns the logged recipients to the sender.
func (c *Client) Flush(ctx context.Context, service string, flags Flags, m Message) error {
	return c.Do(ctx, service, Request{Kind: Flush, Flags: flags, Message: m})
}

// FlushVERP is Flush with one notice a recipient; delimiters are two characters.
func (c *Client) FlushVERP(ctx context.Context, service string, flags Flags, m Message, delimiters string) error {
	return c.Do(ctx, service, Request{Kind: FlushVERP, Flags: flags, Message: m, VERP: delimiters})
}

// Warn sends a delay notice about the logged recipients.
func (c *Client) Warn(ctx context.Context, service string, flags Flags, m Message) error {
	return c.Do(ctx, service, Request{Kind: Warn, Flags: flags, Message: m})
}

// One returns one recipient to the sender at once, without a log. It works with
// the bounce service only.
func (c *Client) One(ctx context.Context, service string, flags Flags, m Message, rcpt Recipient, st dsn.Status) error {
	return c.Do(ctx, service, Request{Kind: One, Flags: flags, Message: m, Recipient: rcpt, Status: st})
}

// Trace sends the report made from the trace log. flags are the message's trace
// flags.
func (c *Client) Trace(ctx context.Context, service string, flags Flags, m Message) error {
	return c.Do(ctx, service, Request{Kind: Trace, Flags: flags, Message: m})
}

// Do makes one request of any kind.
func (c *Client) Do(ctx context.Context, service string, r Request) error {
	conn, err := c.Dialer.Dial(ctx, dial.Private, service)
	if err != nil {
		c.warn("connect to %s/%s: %s", dial.Private, service, dial.Reason(err))
		return err
	}
	defer conn.Close()
	defer conn.Bind(ctx)()
	status, err := exchange(conn, r)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		c.warn("problem talking to service %s: %s", service, dial.Reason(err))
		return err
	case status != 0:
		return &dial.StatusError{Service: service, Status: status}
	}
	return nil
}

func exchange(conn *dial.Conn, r Request) (status int, err error) {
	if err := conn.Expect(Protocol); err != nil {
		return 0, err
	}
	if err := WriteRequest(conn.Out, r); err != nil {
		return 0, err
	}
	err = conn.In.Scan(attr.Int("status", &status))
	return status, err
}

func (c *Client) warn(format string, a ...any) {
	if c.Dialer.Log != nil {
		c.Dialer.Log.Warn(format, a...)
	}
}
