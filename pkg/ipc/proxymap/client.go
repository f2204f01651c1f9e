package proxymap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/maillog"
)

// maxIdleConns is how many unused connections a client keeps.
const maxIdleConns = 4

// How often and when things are tried again (ipc.md 1.3).
const (
	retryPause   = time.Second
	connectTries = 11
	connectPause = 10 * time.Second
)

// Client talks to one service over connections that it keeps for a while. It is safe
// for concurrent use: each request has a connection of its own.
type Client struct {
	Service string // "proxymap" or "proxywrite", in the class private
	// QueueDirectory is where private/SERVICE is when it is not below the current directory.
	QueueDirectory string
	Timeout        time.Duration // of one exchange (ipc_timeout)
	Idle           time.Duration // unused connections are closed (ipc_idle)
	TTL            time.Duration // no connection gets older (ipc_ttl)
	Log            *maillog.Logger

	mu   sync.Mutex
	free []*conn
}

type conn struct {
	net.Conn
	r     *attr.Reader
	w     *attr.Writer
	born  time.Time
	timer *time.Timer
}

// Do exchanges a request for its reply, and tries for ever, a second apart, while the
// service breaks off. An error is returned when it cannot be connected to eleven times.
// Bad and Deny become an *Error.
func (c *Client) Do(ctx context.Context, q Request) (Reply, error) {
	for try := 0; ; try++ {
		reply, err := c.once(ctx, q)
		switch {
		case err == nil && (reply.Status == Bad || reply.Status == Deny):
			return reply, &Error{Status: reply.Status, Service: c.Service, Request: q}
		case err == nil:
			return reply, nil
		case ctx.Err() != nil:
			return Reply{}, ctx.Err()
		case errors.Is(err, errConnect):
			return Reply{}, err
		}
		if try > 0 {
			c.Log.Warn("%s socket: service %s: %v", c.path(), c.Service, maillog.Errno(reason(err)))
		}
		select {
		case <-ctx.Done():
			return Reply{}, ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

// reason drops what net puts around a system error.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (c *Client) path() string { return filepath.Join("private", c.Service) }

func (c *Client) once(ctx context.Context, q Request) (Reply, error) {
	k, err := c.get(ctx)
	if err != nil {
		return Reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { k.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if c.Timeout > 0 {
		k.SetDeadline(time.Now().Add(c.Timeout))
	}
	var reply Reply
	if err = WriteRequest(k.w, q); err == nil {
		reply, err = ReadReply(k.r, q.Op)
	}
	if err != nil || reply.Status < OK || reply.Status > Config {
		k.Close()
		if err == nil {
			err = errors.New("Protocol error")
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Reply{}, err
	}
	c.put(k)
	return reply, nil
}

// get gives an idle connection that is still good, or a new one.
func (c *Client) get(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		var k *conn
		if n := len(c.free); n > 0 {
			k, c.free = c.free[n-1], c.free[:n-1]
		}
		c.mu.Unlock()
		if k == nil {
			return c.dial(ctx)
		}
		if k.timer.Stop() && k.quiet() {
			return k, nil
		}
		k.Close()
	}
}

// quiet tells that the server neither closed the connection nor sent junk.
func (k *conn) quiet() bool {
	k.SetReadDeadline(time.Unix(1, 0))
	raw, err := k.Conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	k.SetReadDeadline(time.Time{})
	err = raw.Read(func(fd uintptr) bool {
		quiet = nothingToRead(int(fd))
		return true
	})
	return err == nil && quiet
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	path := c.path()
	if _, err := os.Lstat(path); err != nil && c.QueueDirectory != "" {
		path = filepath.Join(c.QueueDirectory, path)
	}
	raw, err := c.connect(ctx, path)
	if err != nil {
		return nil, err
	}
	k := &conn{Conn: raw, r: attr.NewReader(raw, attr.Null, path+" socket"), w: attr.NewWriter(raw, attr.Null), born: time.Now()}
	if c.Timeout > 0 {
		k.SetDeadline(time.Now().Add(c.Timeout))
	}
	stop := context.AfterFunc(ctx, func() { k.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := attr.Expect(k.r, Protocol); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// errConnect is the end of all attempts to connect.
var errConnect = errors.New("cannot connect to subsystem")

func (c *Client) connect(ctx context.Context, path string) (net.Conn, error) {
	for try := 1; ; try++ {
		var d net.Dialer
		raw, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return raw, nil
		}
		c.Log.Warn("connect #%d to subsystem %s: %v", try, path, maillog.Errno(reason(err)))
		if try == connectTries {
			return nil, fmt.Errorf("%w %s: %w", errConnect, path, reason(err))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(connectPause):
		}
	}
}

func (c *Client) put(k *conn) {
	k.SetDeadline(time.Time{})
	if c.Idle <= 0 || c.TTL > 0 && time.Since(k.born) > c.TTL {
		k.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) >= maxIdleConns {
		k.Close()
		return
	}
	k.timer = time.AfterFunc(c.Idle, func() { c.drop(k) })
	c.free = append(c.free, k)
}

// drop closes a connection that was idle for too long.
func (c *Client) drop(k *conn) {
	c.mu.Lock()
	for i := range c.free {
		if c.free[i] == k {
			c.free = append(c.free[:i], c.free[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	k.Close()
}

// Close closes the idle connections.
func (c *Client) Close() error {
	c.mu.Lock()
	free := c.free
	c.free = nil
	c.mu.Unlock()
	for _, k := range free {
		k.timer.Stop()
		k.Close()
	}
	return nil
}
