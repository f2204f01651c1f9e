package tlsmgr

import (
	"context"
	"errors"
	"io"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// How often a client tries, and how long it waits between.
const (
	tries = 2
	pause = time.Second
)

// ErrNotFound is returned when the server has no such key or session.
var ErrNotFound = errors.New("not found")

// ErrRefused is returned when the server takes the request for malformed or has
// no such cache.
var ErrRefused = errors.New("request refused by tlsmgr")

// Client asks tlsmgr. Each exchange has a connection of its own, as they are
// minutes apart. It is safe for concurrent use.
type Client struct {
	dial.Dialer        // Timeout is that of an exchange
	Service     string // tlsmgr_service_name
	Once        bool   // try once only: the caller can do without
}

// Seed returns random bytes, at most MaxSeed of them.
func (c *Client) Seed(ctx context.Context, size int) (seed []byte, err error) {
	err = c.ask(ctx, func(w *attr.Writer) { w.Str(attrName, Seed).Int("size", size) }, attr.Data("seed", &seed))
	return seed, err
}

// Policy tells whether sessions of a kind are cached, and for how long.
func (c *Client) Policy(ctx context.Context, cache string) (cachable bool, timeout time.Duration, err error) {
	var yes, seconds int
	err = c.ask(ctx, func(w *attr.Writer) { w.Str(attrName, Policy).Str("cache_type", cache) },
		attr.Int("cachable", &yes), attr.Int("timeout", &seconds))
	return yes != 0, time.Duration(seconds) * time.Second, err
}

// Lookup finds a session.
func (c *Client) Lookup(ctx context.Context, cache, id string) (session []byte, err error) {
	err = c.ask(ctx, func(w *attr.Writer) { w.Str(attrName, Lookup).Str("cache_type", cache).Str("cache_id", id) },
		attr.Data("session", &session))
	return session, err
}

// Update stores a session.
func (c *Client) Update(ctx context.Context, cache, id string, session []byte) error {
	return c.ask(ctx, func(w *attr.Writer) {
		w.Str(attrName, Update).Str("cache_type", cache).Str("cache_id", id).Data("session", session)
	})
}

// Delete forgets a session.
func (c *Client) Delete(ctx context.Context, cache, id string) error {
	return c.ask(ctx, func(w *attr.Writer) { w.Str(attrName, Delete).Str("cache_type", cache).Str("cache_id", id) })
}

// TicketKey returns the key of that name, or the one to seal new tickets with
// if name is empty.
func (c *Client) TicketKey(ctx context.Context, name []byte) (k Key, err error) {
	var data []byte
	err = c.ask(ctx, func(w *attr.Writer) { w.Str(attrName, TicketKey).Data("keyname", name) }, attr.Data("keybuf", &data))
	if err == nil {
		err = k.UnmarshalBinary(data)
	}
	return k, err
}

// ask makes an exchange, and once more if that fails.
func (c *Client) ask(ctx context.Context, request func(*attr.Writer), fields ...attr.Field) (err error) {
	for try := range tries {
		if try > 0 {
			if err := dial.Sleep(ctx, pause); err != nil {
				return err
			}
		}
		status, err := c.once(ctx, request, fields)
		switch {
		case err == nil && status == OK:
			return nil
		case err == nil && status == Failed:
			return ErrNotFound
		case err == nil:
			return ErrRefused
		}
		if c.Log != nil {
			c.Log.Warn("problem talking to server %s/%s: %s", dial.Private, c.Service, dial.Reason(err))
		}
		if c.Once || try == tries-1 {
			return err
		}
	}
	return err
}

func (c *Client) once(ctx context.Context, request func(*attr.Writer), fields []attr.Field) (status int, err error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	conn, err := c.Dial(ctx, dial.Private, c.Service)
	if err != nil {
		return Failed, err
	}
	defer conn.Close()
	defer conn.Bind(ctx)()
	if err := conn.Expect(Protocol); err != nil {
		return Failed, err
	}
	request(conn.Out)
	if err := conn.Out.Send(); err != nil {
		return Failed, err
	}
	list, err := conn.In.List()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return Failed, err
	}
	if _, err := list.Scan(conn.In.From(), attr.Int("status", &status)); err != nil || status != OK {
		return status, err
	}
	_, err = list.Scan(conn.In.From(), fields...)
	return status, err
}
