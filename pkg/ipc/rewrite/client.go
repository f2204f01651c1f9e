package rewrite

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
)

// Limits of the client's memory of answers. Postfix remembers one answer a
// request type for the same time; a process that serves many at once needs
// more than one.
const (
	CacheTTL  = 30 * time.Second
	CacheSize = 256
)

// ErrAddress is returned for an address that the protocol cannot carry: one with
// a NUL, or longer than attr.MaxValue.
var ErrAddress = errors.New("address cannot be sent to the rewrite service")

// Config says where the service is. An empty Service is "rewrite", other zeros
// are the defaults of package dial; Class and Protocol are set by New.
type Config = dial.PoolConfig

// FromConfig takes the parameters of the client out of main.cf.
func FromConfig(c dial.Params, log dial.Logger) Config {
	return dial.PoolFrom(c, "rewrite_service_name", log)
}

// Client asks trivial-rewrite. It is safe for concurrent use.
type Client struct {
	cfg  Config
	pool *dial.Pool
	now  func() time.Time

	mu    sync.Mutex
	cache map[Request]answer
}

type answer struct {
	reply Reply // of Rewrite: only Recipient
	until time.Time
}

// New returns a client; it connects on the first request.
func New(cfg Config) *Client {
	if cfg.Service == "" {
		cfg.Service = "rewrite"
	}
	cfg.Class, cfg.Protocol = dial.Private, Protocol
	return &Client{
		cfg:   cfg,
		now:   time.Now,
		cache: make(map[Request]answer),
		pool:  dial.NewPool(cfg),
	}
}

// Rewrite returns the canonical form of an address in external form by rule
// Local or Remote. An empty address stays empty.
func (c *Client) Rewrite(ctx context.Context, rule, addr string) (string, error) {
	if addr == "" {
		return "", nil
	}
	if rule != Local && rule != Remote {
		return "", errors.New("unknown rewriting rule " + rule)
	}
	r, err := c.ask(ctx, Request{Kind: RequestRewrite, Rule: rule, Address: addr}, func(in *attr.Reader) (Reply, int, error) {
		address, server, err := readRewritten(in)
		if err == nil && address == "" {
			c.warn("rewrite_clnt: null result for: <%s>", addr)
			err = errNull
		}
		return Reply{Recipient: address}, server, err
	})
	return r.Recipient, err
}

// Resolve finds transport, next hop and final recipient for an address in internal
// form. sender may be empty. Look at the Fail and Error flags before the
// rest.
func (c *Client) Resolve(ctx context.Context, sender, addr string) (Reply, error) {
	return c.resolve(ctx, RequestResolve, sender, addr)
}

// ResolveVerify is Resolve with the transports of address probes.
func (c *Client) ResolveVerify(ctx context.Context, sender, addr string) (Reply, error) {
	return c.resolve(ctx, RequestVerify, sender, addr)
}

func (c *Client) resolve(ctx context.Context, kind, sender, addr string) (Reply, error) {
	return c.ask(ctx, Request{Kind: kind, Sender: sender, Address: addr}, func(in *attr.Reader) (Reply, int, error) {
		r, server, err := readReply(in)
		if err != nil || r.Flags&Fail != 0 {
			return r, server, err
		}
		if r.Transport == "" {
			c.warn("resolve_clnt: null transport result for: <%s>", addr)
			err = errNull
		} else if r.Recipient == "" && addr != "" {
			c.warn("resolve_clnt: null recipient result for: <%s>", addr)
			err = errNull
		}
		return r, server, err
	})
}

// Close closes the idle connections.
func (c *Client) Close() error { return c.pool.Close() }

// A server that answers nothing or says that it restarts is asked again.
var (
	errNull    = errors.New("null result")
	errRestart = errors.New("server is restarting")
)

func (c *Client) ask(ctx context.Context, q Request, read func(*attr.Reader) (Reply, int, error)) (Reply, error) {
	for _, s := range []string{q.Address, q.Sender} {
		if len(s) > attr.MaxValue || strings.IndexByte(s, 0) >= 0 {
			return Reply{}, ErrAddress
		}
	}
	if r, ok := c.recall(q); ok {
		return r, nil
	}
	var reply Reply
	err := c.pool.Do(ctx, func(conn *dial.Conn) error {
		if err := WriteRequest(conn.Out, q); err != nil {
			return err
		}
		r, server, err := read(conn.In)
		if err != nil {
			return err
		}
		if server != 0 {
			return errRestart
		}
		reply = r
		return nil
	})
	if err == nil && reply.Flags&Fail == 0 {
		c.remember(q, reply)
	}
	return reply, err
}

func (c *Client) recall(q Request) (Reply, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.cache[q]
	return a.reply, ok && c.now().Before(a.until)
}

// remember bounds the cache: when it is full, what is too old goes, and if that
// is not enough all of it.
func (c *Client) remember(q Request, r Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.cache) >= CacheSize {
		for k, a := range c.cache {
			if !now.Before(a.until) {
				delete(c.cache, k)
			}
		}
		if len(c.cache) >= CacheSize {
			clear(c.cache)
		}
	}
	c.cache[q] = answer{r, now.Add(CacheTTL)}
}

func (c *Client) warn(format string, a ...any) {
	if c.cfg.Log != nil {
		c.cfg.Log.Warn(format, a...)
	}
}
