package table

import (
	"context"
	"errors"
	"strings"
	"time"

	"posthaste/pkg/ipc/proxymap"
	"posthaste/pkg/sys/maillog"
)

// proxied is a table that the proxymap or proxywrite service opens for us.
type proxied struct {
	log    *maillog.Logger
	client *proxymap.Client
	table  string
	flags  Flags // instance and request flags as opened
	impl   Flags
}

// openProxy opens proxy:TYPE:NAME. The server is asked at once, since the
// table's flags decide how it is searched.
func openProxy(env Env, req Request) (Backend, error) {
	service, parameter := "proxymap", "proxymap_service_name"
	if req.Mode != ReadOnly {
		service, parameter = "proxywrite", "proxywrite_service_name"
	}
	p := &proxied{
		log:   env.Log,
		table: req.Name,
		flags: req.Flags &^ (ImplMask | UTF8Active),
		client: &proxymap.Client{
			Service: service, Log: env.Log, Timeout: time.Hour, Idle: 5 * time.Second, TTL: 1000 * time.Second,
		},
	}
	for strings.HasPrefix(p.table, "proxy:") {
		p.table = strings.TrimPrefix(p.table, "proxy:")
	}
	if c := env.Config; c != nil {
		p.client.Service = c.String(parameter)
		p.client.QueueDirectory = c.String("queue_directory")
		p.client.Timeout = c.Duration("ipc_timeout")
		p.client.Idle = c.Duration("ipc_idle")
		p.client.TTL = c.Duration("ipc_ttl")
	}
	reply, err := p.client.Do(context.Background(), proxymap.Request{
		Op: proxymap.Open, Table: p.table, Flags: uint32(p.flags & InstanceMask),
	})
	if err != nil {
		return nil, err
	}
	p.impl = Flags(reply.Flags) & ImplMask
	return p, nil
}

// errProxy is the service's word that a table has trouble.
var errProxy = errors.New("table lookup error")

func (p *proxied) do(ctx context.Context, q proxymap.Request, flags Flags) (proxymap.Reply, bool, error) {
	q.Table = p.table
	q.Flags = uint32(p.flags&InstanceMask | flags&RequestMask)
	reply, err := p.client.Do(ctx, q)
	if err != nil {
		var refused *proxymap.Error
		if errors.As(err, &refused) {
			p.log.Warn("%s", refused)
			return reply, false, ConfigError(err)
		}
		return reply, false, RetryError(err)
	}
	switch reply.Status {
	case proxymap.OK:
		return reply, true, nil
	case proxymap.NoKey:
		return reply, false, nil
	case proxymap.Config:
		return reply, false, ConfigError(errProxy)
	}
	return reply, false, RetryError(errProxy)
}

func (p *proxied) Get(ctx context.Context, key string) (string, bool, error) {
	return p.GetFlags(ctx, key, p.flags)
}

// GetFlags sends the request flags along, so that the server folds as asked.
func (p *proxied) GetFlags(ctx context.Context, key string, flags Flags) (string, bool, error) {
	if strings.IndexByte(key, 0) >= 0 {
		return "", false, nil
	}
	reply, found, err := p.do(ctx, proxymap.Request{Op: proxymap.Lookup, Key: key}, flags)
	return reply.Value, found, err
}

func (p *proxied) Put(ctx context.Context, key, value string, flags Flags) error {
	_, _, err := p.do(ctx, proxymap.Request{Op: proxymap.Update, Key: key, Value: value}, flags)
	return err
}

func (p *proxied) Delete(ctx context.Context, key string, flags Flags) (bool, error) {
	_, found, err := p.do(ctx, proxymap.Request{Op: proxymap.Delete, Key: key}, flags)
	return found, err
}

func (p *proxied) Next(ctx context.Context, first bool) (string, string, bool, error) {
	function := proxymap.Next
	if first {
		function = proxymap.First
	}
	reply, found, err := p.do(ctx, proxymap.Request{Op: proxymap.Sequence, Function: function}, p.flags)
	return reply.Key, reply.Value, found, err
}

func (p *proxied) Flags() Flags { return p.impl }
func (p *proxied) Close() error { return p.client.Close() }
