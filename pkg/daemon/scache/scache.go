// Package scache is the daemon that keeps idle connections of delivery agents:
// an agent that is done with an SMTP session passes the socket, and an agent
// that wants to deliver to the same place takes it (spec ipc.md §2.13, §1.5).
//
// A session is stored under the label of its endpoint (address and port), and
// labels of destinations (domains) lead to endpoint labels. What labels and
// properties mean is between the agents. All state is in memory; a session that
// is not taken in time, or that is lost with this process, costs its owner a
// new connection.
package scache

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// Protocol is what the service announces.
const Protocol = "connection_cache_protocol"

// requestTimeout bounds a request from its first byte, with the descriptor
// that is passed in it. Nobody else is served meanwhile.
const requestTimeout = 5 * time.Second

// maxText is how long a label or property may be, in bytes.
const maxText = 32 << 10

// status is the outcome of a request.
type status int

const (
	statusOK   status = 0
	statusBad  status = 1 // malformed
	statusFail status = 2 // not in the cache
)

// daemon is the running scache.
type daemon struct {
	log      *maillog.Logger
	cache    *cache
	ttlLimit int // connection_cache_ttl_limit, seconds
}

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{}
	return service.Run(service.Service{
		Name: "scache", Kind: service.Multi, Requires: service.One, NoMaxUse: true,
		Start: func(_ context.Context, rt *service.Runtime) error {
			d.log, d.cache = rt.Log, newCache(time.Now())
			d.ttlLimit = int(rt.Config.Duration("connection_cache_ttl_limit") / time.Second)
			return nil
		},
		Serve: func(ctx context.Context, conn *service.Conn) error {
			raw, ok := conn.Raw().(syscall.Conn)
			if !ok {
				return errors.New("client is not on a UNIX-domain socket")
			}
			return d.serve(ctx, conn, raw)
		},
		Loop: d.report,
		Done: func(*service.Runtime) {
			d.statistics()
			d.cache.close()
		},
	}, args, os.Environ())
}

// report logs the statistics now and then.
func (d *daemon) report(ctx context.Context, rt *service.Runtime) error {
	return service.Every(ctx, rt.Config.Duration("connection_cache_status_update_time"), d.statistics)
}

// statistics logs the counts since the last time, if there were any.
func (d *daemon) statistics() {
	n := d.cache.takeCounts(time.Now())
	if n.destHits+n.destMiss+n.endpHits+n.endpMiss > 0 || n.maxSessions > 0 {
		d.log.Info("statistics: start interval %s", n.since.Format("Jan _2 15:04:05"))
	}
	if all := n.destHits + n.destMiss; all > 0 {
		d.log.Info("statistics: domain lookup hits=%d miss=%d success=%d%%", n.destHits, n.destMiss, 100*n.destHits/all)
	}
	if all := n.endpHits + n.endpMiss; all > 0 {
		d.log.Info("statistics: address lookup hits=%d miss=%d success=%d%%", n.endpHits, n.endpMiss, 100*n.endpHits/all)
	}
	if n.maxSessions > 0 {
		d.log.Info("statistics: max simultaneous domains=%d addresses=%d connection=%d", n.maxDests, n.maxEndps, n.maxSessions)
	}
}

// stream is a client's connection.
type stream interface {
	io.ReadWriter
	Taken()
	Available()
	SetDeadline(time.Time) error
}

// client is a connection with its attribute streams.
type client struct {
	*daemon
	in  *attr.Reader
	out *attr.Writer
	raw syscall.Conn // the same connection, for descriptors
}

// serve handles one client, which asks any number of times.
func (d *daemon) serve(ctx context.Context, conn stream, raw syscall.Conn) error {
	c := &client{daemon: d, raw: raw, in: attr.NewReader(conn, attr.Null, "scache socket"), out: attr.NewWriter(conn, attr.Null)}
	if err := attr.Announce(c.out, Protocol); err != nil {
		return nil
	}
	for ctx.Err() == nil {
		conn.SetDeadline(time.Time{})
		if _, err := c.in.Buffered().Peek(1); err != nil {
			return nil
		}
		conn.Taken()
		conn.SetDeadline(time.Now().Add(requestTimeout))
		err := c.request()
		conn.Available()
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// requests are what a client may ask for.
var requests = map[string]struct {
	name string // in warnings
	do   func(*client, string, attr.List) error
}{
	"save_endp": {"scache_save_endp_service", (*client).saveEndpoint},
	"find_endp": {"scache_find_endp_service", (*client).findEndpoint},
	"save_dest": {"scache_save_dest_service", (*client).saveDestination},
	"find_dest": {"scache_find_dest_service", (*client).findDestination},
}

// request serves one request. An error ends the connection.
func (c *client) request() error {
	list, err := c.in.List()
	var broken *attr.Error
	if errors.As(err, &broken) && broken.Err == nil {
		c.log.Warn("%v", err)
		return io.EOF
	}
	if err != nil {
		return err
	}
	var name string
	if _, err := list.Scan(c.in.From(), attr.Str("request", &name)); err != nil {
		c.log.Warn("%v", err)
		return nil
	}
	r, known := requests[name]
	if !known {
		c.log.Warn("unrecognized request: \"%s\", ignored", name)
		return c.reply(statusBad)
	}
	return r.do(c, r.name, list)
}

// scan takes the parameters out of a request.
func (c *client) scan(who string, list attr.List, fields ...attr.Field) bool {
	var name string
	_, err := list.Scan(c.in.From(), append([]attr.Field{attr.Str("request", &name)}, fields...)...)
	for _, a := range list {
		if err == nil && len(a.Value) > maxText {
			err = &attr.Error{Text: "attribute " + a.Name + " from " + c.in.From() + " is too long"}
		}
	}
	if err != nil {
		c.log.Warn("%v", err)
		c.log.Warn("%s: bad or missing request parameter", who)
	}
	return err == nil
}

// reply sends the status, and empty properties if the reply has some.
func (c *client) reply(s status, properties ...string) error {
	c.out.Int("status", int(s))
	for _, p := range properties {
		c.out.Str("property", p)
	}
	return c.out.Send()
}

// life is how long something stays, by what the client wants.
func (d *daemon) life(ttl int) time.Duration {
	return time.Duration(min(ttl, d.ttlLimit)) * time.Second
}

func (c *client) saveEndpoint(who string, list attr.List) error {
	var ttl int
	var label, property string
	ok := c.scan(who, list, attr.Int("ttl", &ttl), attr.Str("label", &label), attr.Str("property", &property))
	if ok && ttl <= 0 {
		c.log.Warn("%s: bad or missing request parameter", who)
		ok = false
	}
	if !ok {
		return c.reply(statusBad)
	}
	fd, err := c.receive()
	if err != nil {
		c.log.Warn("%s: unable to receive file descriptor: %v", who, maillog.Errno(err))
		return c.reply(statusFail)
	}
	c.cache.saveEndpoint(c.life(ttl), label, property, fd)
	return c.reply(statusOK)
}

func (c *client) saveDestination(who string, list attr.List) error {
	var ttl int
	var label, property, endpoint string
	ok := c.scan(who, list, attr.Int("ttl", &ttl), attr.Str("label", &label), attr.Str("property", &property), attr.Str("label", &endpoint))
	if ok && ttl <= 0 {
		c.log.Warn("%s: bad or missing request parameter", who)
		ok = false
	}
	if !ok {
		return c.reply(statusBad)
	}
	c.cache.saveDestination(c.life(ttl), label, property, endpoint)
	return c.reply(statusOK)
}

func (c *client) findEndpoint(who string, list attr.List) error {
	var label string
	if !c.scan(who, list, attr.Str("label", &label)) {
		return c.reply(statusBad, "")
	}
	s := c.cache.findEndpoint(label)
	if s == nil {
		return c.reply(statusFail, "")
	}
	return c.give(who, s, s.property)
}

func (c *client) findDestination(who string, list attr.List) error {
	var label string
	if !c.scan(who, list, attr.Str("label", &label)) {
		return c.reply(statusBad, "", "")
	}
	property, s := c.cache.findDestination(label)
	if s == nil {
		return c.reply(statusFail, "", "")
	}
	return c.give(who, s, property, s.property)
}

// give passes a session on. It is gone for us, whatever the client does.
func (c *client) give(who string, s *session, properties ...string) error {
	defer s.close()
	err := c.reply(statusOK, properties...)
	if err == nil {
		err = c.send(s.fd)
	}
	if err != nil {
		c.log.Warn("%s: cannot send file descriptor: %v", who, maillog.Errno(err))
		return io.EOF
	}
	return nil
}
