package dial

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"
)

// Limits of a pool (ipc.md §1.3), used where its configuration has zeros.
const (
	DefaultIdle     = 5 * time.Second    // ipc_idle
	DefaultTTL      = 1000 * time.Second // ipc_ttl
	DefaultMaxConns = 20                 // open connections of one pool
	RetryDelay      = time.Second
)

// PoolConfig describes a service that answers many requests on a connection.
type PoolConfig struct {
	Dialer
	Class    string
	Service  string
	Protocol string        // its announcement
	Idle     time.Duration // an unused connection is closed after this (ipc_idle)
	TTL      time.Duration // any connection is closed after this (ipc_ttl)
	MaxConns int           // exchanges at one time; more wait for their turn
}

// Params is the part of a configuration that PoolFrom reads; a *conf.Config is
// one.
type Params interface {
	String(name string) string
	Duration(name string) time.Duration
}

// PoolFrom takes what a pool needs out of main.cf: the parameter with the name
// of the service, ipc_timeout, ipc_idle, ipc_ttl. Class and Protocol are for
// the caller to set. The socket is looked for below the working directory.
func PoolFrom(c Params, parameter string, log Logger) PoolConfig {
	return PoolConfig{
		Dialer:  Dialer{Timeout: c.Duration("ipc_timeout"), Log: log},
		Service: c.String(parameter),
		Idle:    c.Duration("ipc_idle"),
		TTL:     c.Duration("ipc_ttl"),
	}
}

// Pool shares connections to one service among goroutines. One exchange at a
// time uses a connection: the protocols are half duplex (ipc.md §1.1).
type Pool struct {
	cfg   PoolConfig
	slots chan struct{}
	idle  *Keeper[*Conn]
}

// NewPool returns an empty pool; connections are made on use.
func NewPool(cfg PoolConfig) *Pool {
	if cfg.Idle <= 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	return &Pool{cfg: cfg, slots: make(chan struct{}, cfg.MaxConns), idle: &Keeper[*Conn]{Idle: cfg.Idle, TTL: cfg.TTL}}
}

// Try makes one exchange on a fresh or kept connection. The function writes one
// request and reads its whole reply; when it fails the connection is closed. A
// connection that does not announce the protocol fails too.
func (p *Pool) Try(ctx context.Context, exchange func(*Conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c, born, err := p.get(ctx)
	if err != nil {
		return err
	}
	release := c.Bind(ctx)
	err = exchange(c)
	if !release() || err != nil {
		c.Close()
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		return err
	}
	p.idle.Put(c, born)
	return nil
}

// Do is Try, repeated each second until it succeeds or ctx ends. From the second
// failure on, or when the first says more than that the peer went away, it
// logs "problem talking to service NAME: reason".
func (p *Pool) Do(ctx context.Context, exchange func(*Conn) error) error {
	for n := 1; ; n++ {
		err := p.Try(ctx, exchange)
		var permanent *PermanentError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &permanent):
			return permanent.Err
		case n > 1 || !wentAway(err):
			p.cfg.warn("problem talking to service %s: %s", p.cfg.Service, Reason(err))
		}
		if err := Sleep(ctx, RetryDelay); err != nil {
			return err
		}
	}
}

// PermanentError is returned by an exchange that must not be repeated; Do
// returns what is in it.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }

func (e *PermanentError) Unwrap() error { return e.Err }

// wentAway is the ordinary end of a server that was idle for long enough.
func wentAway(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOENT) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

func (p *Pool) get(ctx context.Context) (*Conn, time.Time, error) {
	if c, born, ok := p.idle.Take(); ok {
		return c, born, nil
	}
	conn, err := p.cfg.Connect(ctx, p.cfg.Class, p.cfg.Service, Policy{Delay: ConnectDelay})
	if err != nil {
		return nil, time.Time{}, err
	}
	release := conn.Bind(ctx)
	err = conn.Expect(p.cfg.Protocol)
	if !release() || err != nil {
		conn.Close()
		if err == nil {
			err = ctx.Err()
		}
		return nil, time.Time{}, err
	}
	return conn, time.Now(), nil
}

// Close closes the idle connections; those in use are closed after their
// exchange.
func (p *Pool) Close() error { return p.idle.Close() }
