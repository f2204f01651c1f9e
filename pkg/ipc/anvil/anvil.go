// Package anvil is the protocol in which smtpd asks how often a client has
// come (spec ipc.md §2.8, smtpd.md §1.8): requests and replies in the plain
// attribute coding, many on one connection.
//
// When the server cannot be reached no limit is enforced: the methods return
// the error and the caller goes on.
package anvil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// Protocol is what the server announces.
const Protocol = "anvil_protocol"

// Requests.
const (
	Connect      = "connect"
	Disconnect   = "disconnect"
	Message      = "message"
	Recipient    = "recipient"
	NewTLS       = "newtls"
	NewTLSStatus = "newtls_status"
	Auth         = "auth"
	Lookup       = "lookup"
)

// Statuses.
const (
	StatusOK   = 0
	StatusFail = -1
)

const tries, pause = 2, time.Second

// Client is one session's connection to anvil, opened on first use. The
// server forgets the session's connection when the Client is closed, so each
// SMTP session has its own. It is not safe for concurrent use.
type Client struct {
	Endpoint string        // smtpd's client_connection_rate_service_name: "local:private/anvil", "inet:host:port"
	Timeout  time.Duration // of an exchange (ipc_timeout)
	Warn     func(format string, a ...any)

	conn   net.Conn
	reader *attr.Reader
	writer *attr.Writer
}

// Ident is the name under which anvil counts a client.
func Ident(service, address string) string { return service + ":" + address }

// Connect counts a connection in; count is the number of connections that are
// open now, rate that of those made in the current time unit.
func (c *Client) Connect(ctx context.Context, ident string) (count, rate int, err error) {
	err = c.ask(ctx, Connect, ident, attr.Int("count", &count), attr.Int("rate", &rate))
	return count, rate, err
}

// Disconnect counts it out.
func (c *Client) Disconnect(ctx context.Context, ident string) error {
	return c.ask(ctx, Disconnect, ident)
}

// Count counts an event (Message, Recipient, NewTLS, Auth), or with
// NewTLSStatus reads a counter, and returns the rate.
func (c *Client) Count(ctx context.Context, request, ident string) (rate int, err error) {
	err = c.ask(ctx, request, ident, attr.Int("rate", &rate))
	return rate, err
}

// Counters are what anvil knows of an ident.
type Counters struct{ Count, Rate, Mail, Rcpt, NewTLS, Auth int }

// Lookup reads all counters.
func (c *Client) Lookup(ctx context.Context, ident string) (n Counters, err error) {
	err = c.ask(ctx, Lookup, ident, attr.Int("count", &n.Count), attr.Int("rate", &n.Rate),
		attr.Int("mail", &n.Mail), attr.Int("rcpt", &n.Rcpt), attr.Int("newtls", &n.NewTLS), attr.Int("auth", &n.Auth))
	return n, err
}

// Close ends the connection.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

func (c *Client) ask(ctx context.Context, request, ident string, fields ...attr.Field) (err error) {
	for try := range tries {
		if try > 0 {
			if err := dial.Sleep(ctx, pause); err != nil {
				return err
			}
		}
		if err = c.once(ctx, request, ident, fields); err == nil {
			return nil
		}
		_ = c.Close()
		if c.Warn != nil {
			c.Warn("problem talking to server %s: %v", strings.TrimPrefix(c.Endpoint, "local:"), err)
		}
	}
	return err
}

func (c *Client) once(ctx context.Context, request, ident string, fields []attr.Field) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	_ = c.conn.SetDeadline(time.Now().Add(c.timeout()))
	if err := c.writer.Str("request", request).Str("ident", ident).Send(); err != nil {
		return err
	}
	status := StatusFail
	err := c.reader.Scan(append([]attr.Field{attr.Int("status", &status)}, fields...)...)
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case status != StatusOK && (err == nil || status == StatusFail && len(fields) > 0):
		return fmt.Errorf("request %s failed", request)
	}
	return err
}

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return time.Hour
}

func (c *Client) open(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	network, address, ok := strings.Cut(c.Endpoint, ":")
	if !ok {
		return errors.New("bad endpoint: " + c.Endpoint)
	}
	switch network {
	case "local", "unix":
		network = "unix"
	case "inet":
		network = "tcp"
	default:
		return errors.New("bad endpoint: " + c.Endpoint)
	}
	dialer := net.Dialer{Timeout: c.timeout()}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(c.timeout()))
	c.reader = attr.NewReader(conn, attr.Plain, address+" socket")
	c.writer = attr.NewWriter(conn, attr.Plain)
	if err := attr.Expect(c.reader, Protocol); err != nil {
		conn.Close()
		return err
	}
	c.conn = conn
	return nil
}
