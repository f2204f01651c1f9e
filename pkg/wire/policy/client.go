package policy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// Lookup finds the addresses of a host.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// Client asks one server. It is safe for concurrent use.
type Client struct {
	cfg     Config
	network string
	address string // in messages, too: "host:port" or a path

	idle dial.Keeper[*conn]
}

// New returns the client of a server; it connects on the first request. An
// error is a server name that makes no sense.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg}
	c.idle.Idle, c.idle.TTL = cfg.MaxIdle, cfg.MaxTTL
	kind, rest, found := strings.Cut(cfg.Server, ":")
	if !found {
		return nil, fmt.Errorf("need service transport:endpoint instead of \"%s\"", cfg.Server)
	}
	networks := map[string]string{"inet": "tcp", "unix": "unix", "local": "unix"}
	c.network, c.address = networks[kind], rest
	if c.network == "" {
		return nil, fmt.Errorf("invalid transport name: %s in service: %s", kind, cfg.Server)
	}
	if cfg.TryLimit < 1 {
		c.cfg.TryLimit = 1
	}
	return c, nil
}

// Config is what the client was made of.
func (c *Client) Config() Config { return c.cfg }

// conn is a connection with what it has been used for.
type conn struct {
	net.Conn
	in       *bufio.Reader
	born     time.Time
	requests int
}

// ErrNoAnswer says that the server gave no answer in all attempts; the reasons
// have been logged.
var ErrNoAnswer = errors.New("policy server does not answer")

// Ask sends a request and returns the action that the server orders. It tries
// as often as the configuration says, and returns ErrNoAnswer or the
// context's error.
func (c *Client) Ask(ctx context.Context, request []attr.Attr) (action string, err error) {
	for try := 1; ; try++ {
		action, err = c.attempt(ctx, request)
		if err == nil {
			return action, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		var bad *replyError
		if errors.As(err, &bad) && bad.text != "" {
			c.warn("%s", bad.text)
		}
		last := try >= c.cfg.TryLimit
		if last || !wentAway(err) {
			c.warn("problem talking to server %s: %s", c.address, reason(err))
		}
		if last {
			return "", ErrNoAnswer
		}
		if err := dial.Sleep(ctx, c.cfg.RetryDelay); err != nil {
			return "", err
		}
	}
}

func (c *Client) warn(format string, a ...any) {
	if c.cfg.Warn != nil {
		c.cfg.Warn(format, a...)
	}
}

// replyError is a reply that makes no sense; text, if any, is logged.
type replyError struct{ text string }

func (e *replyError) Error() string { return "Application error" }

// wentAway is trouble that is only logged when it stays: the server was not
// there, or closed an idle connection.
func wentAway(err error) bool {
	var bad *replyError
	return errors.As(err, &bad) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNRESET)
}

func reason(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "Connection timed out"
	}
	return dial.Reason(err)
}

// attempt is one exchange. A kept connection that turns out to be closed before
// any of the reply has arrived is replaced by a new one at once: that the
// server was restarted, or tired of an idle client, is no failed attempt.
func (c *Client) attempt(ctx context.Context, request []attr.Attr) (string, error) {
	for {
		conn, _, kept := c.idle.Take()
		if !kept {
			var err error
			if conn, err = c.connect(ctx); err != nil {
				return "", err
			}
		}
		action, err := conn.exchange(ctx, request, c.cfg.Timeout, c.address)
		if err == nil {
			c.put(conn)
			return action, nil
		}
		conn.Close()
		var bad *replyError
		closed := errors.As(err, &bad) && bad.text == "" || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
		if !kept || !closed || ctx.Err() != nil {
			return "", err
		}
	}
}

// connect makes a connection; trouble is logged as "connect to X: reason".
func (c *Client) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	nc, err := c.dial(ctx)
	if err != nil {
		if ctx.Err() == context.Canceled {
			return nil, err
		}
		c.warn("connect to %s: %s", c.address, reason(err))
		return nil, err
	}
	return &conn{Conn: nc, in: bufio.NewReader(nc), born: time.Now()}, nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	if c.network == "unix" {
		path := c.address
		if !filepath.IsAbs(path) {
			path = filepath.Join(c.cfg.Dir, path)
		}
		return d.DialContext(ctx, "unix", path)
	}
	addrs, port, err := c.resolve(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.warn("host or service %s not found: %v", c.address, err)
		}
		return nil, syscall.EADDRNOTAVAIL // as the original has it
	}
	var nc net.Conn
	for _, a := range addrs {
		if nc, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String()); err == nil {
			return nc, nil
		}
	}
	return nil, err
}

// resolve finds the addresses and the port of a TCP server; there is at least
// one address.
func (c *Client) resolve(ctx context.Context) (addrs []netip.Addr, port uint16, err error) {
	host, service := splitHostPort(c.address)
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil || service == "" {
		return nil, 0, errors.New("Servname not supported for ai_socktype")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, uint16(n), nil
	}
	if c.cfg.Lookup != nil {
		addrs, err = c.cfg.Lookup(ctx, host)
	} else {
		addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	if err == nil && len(addrs) == 0 {
		err = errors.New("No address associated with hostname")
	}
	return addrs, uint16(n), err
}

// splitHostPort takes "host:port", "[address]:port" and "port" apart.
func splitHostPort(text string) (host, port string) {
	i := strings.LastIndexByte(text, ':')
	if host = strings.Trim(text[:max(i, 0)], "[]"); host == "" {
		host = "localhost"
	}
	return host, text[i+1:]
}

// exchange writes the request and reads the reply. Each of both may take as
// long as timeout, however many pieces it comes in.
func (c *conn) exchange(ctx context.Context, request []attr.Attr, timeout time.Duration, name string) (string, error) {
	c.requests++
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	w := attr.NewWriter(c.Conn, attr.Plain)
	for _, a := range request {
		w.Str(a.Name, strings.Map(oneLine, a.Value))
	}
	c.SetDeadline(time.Now().Add(timeout))
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := w.Send(); err != nil {
		return "", err
	}
	c.SetDeadline(time.Now().Add(timeout))
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return readReply(c.in, name)
}

// oneLine replaces what would end an attribute.
func oneLine(r rune) rune {
	if r == '\n' || r == 0 {
		return '?'
	}
	return r
}

// Limits of a reply. An action is a line of an access table: what is longer is
// no policy.
const (
	maxReply = 64 << 10 // bytes
	maxLines = 1000
)

// readReply reads a reply: the value of the first "action", up to an empty
// line. name is the server's in error texts.
func readReply(in *bufio.Reader, name string) (string, error) {
	action, found := "", false
	for size, lines := 0, 0; ; lines++ {
		line, err := readLine(in, maxReply-size)
		switch {
		case err == nil:
		case errors.Is(err, errTooLong):
			return "", &replyError{fmt.Sprintf("reply from %s exceeds %d bytes", name, maxReply)}
		case errors.Is(err, io.EOF) && size == 0 && line == "":
			return "", &replyError{}
		case errors.Is(err, io.EOF):
			what := "name"
			if strings.Contains(line, "=") {
				what = "value"
			}
			return "", &replyError{fmt.Sprintf("premature end-of-input on %s while reading input attribute %s", name, what)}
		default:
			return "", err
		}
		if line == "" {
			break
		}
		if size += len(line) + 1; lines >= maxLines {
			return "", &replyError{fmt.Sprintf("reply from %s exceeds %d lines", name, maxLines)}
		}
		if key, value, ok := strings.Cut(line, "="); ok && key == "action" && !found {
			action, found = value, true
		}
	}
	if !found {
		return "", &replyError{fmt.Sprintf("missing attribute action in input from %s", name)}
	}
	return action, nil
}

var errTooLong = errors.New("line too long")

// readLine reads up to a line feed; with an error it returns what there was.
func readLine(in *bufio.Reader, limit int) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return "", errTooLong
		}
		if err == nil {
			return string(line[:len(line)-1]), nil
		}
		if err != bufio.ErrBufferFull {
			return string(line), err
		}
	}
}

// put keeps a connection for the next exchange.
func (c *Client) put(conn *conn) {
	if c.cfg.RequestLimit > 0 && conn.requests >= c.cfg.RequestLimit || conn.in.Buffered() > 0 {
		conn.Close()
		return
	}
	c.idle.Put(conn, conn.born)
}

// Close closes the kept connections.
func (c *Client) Close() { c.idle.Close() }

// Stale reports whether the server has closed an idle connection or sent what
// nobody asked for.
func (c *conn) Stale() bool { return dial.Readable(c.Conn) }
