// Package tlsmgr is the daemon that keeps what the TLS clients and servers of
// several processes share: the keys of session tickets and caches of sessions;
// it also hands out random bytes (spec ipc.md §2.11).
//
// A cache and the ticket keys live as long as this process. That is so with the
// original too, which empties a cache's database whenever it opens it; ours
// keeps sessions in memory, within limits, and holds the database empty and
// locked, so that nobody else takes it for a cache of his. A session that is
// lost costs one full handshake.
//
// Randomness is the kernel's, so that there is no tls_random_exchange_name.
package tlsmgr

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/tlsmgr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// requestTimeout bounds a request from its first byte to the reply.
const requestTimeout = 10 * time.Second

// daemon is the state of the service.
type daemon struct {
	log    *maillog.Logger
	now    func() time.Time
	caches map[string]*cache // of all types; those without a database are disabled
	keys   keyring
}

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{now: time.Now}
	return service.Run(service.Service{
		Name: "tlsmgr", Kind: service.Multi, Requires: service.One, NoMaxUse: true, NoMaxIdle: true,
		Setup: d.setup, // databases are outside of the jail
		Serve: func(ctx context.Context, conn *service.Conn) error { return d.serve(ctx, conn) },
		Loop:  d.clean,
		Done: func(*service.Runtime) {
			for _, c := range d.caches {
				c.close()
			}
		},
	}, args, os.Environ())
}

// stream is a client's connection.
type stream interface {
	io.ReadWriter
	Taken()
	Available()
	SetDeadline(time.Time) error
}

// serve handles one client, which asks any number of times.
func (d *daemon) serve(ctx context.Context, conn stream) error {
	in, out := attr.NewReader(conn, attr.Null, "tlsmgr socket"), attr.NewWriter(conn, attr.Null)
	if err := attr.Announce(out, protocol.Protocol); err != nil {
		return nil
	}
	for first := true; ctx.Err() == nil; first = false {
		conn.SetDeadline(time.Time{})
		if _, err := in.Buffered().Peek(1); err != nil {
			return nil
		}
		conn.Taken()
		conn.SetDeadline(time.Now().Add(requestTimeout))
		err := d.request(in, out, first)
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

// wakeup is what master sends instead of a request, to have us started.
const wakeup = "W\x00"

// request serves one request. An error ends the connection.
func (d *daemon) request(in *attr.Reader, out *attr.Writer, first bool) error {
	if head, _ := in.Buffered().Peek(len(wakeup)); first && string(head) == wakeup {
		return io.EOF
	}
	list, err := in.List()
	var broken *attr.Error
	if errors.As(err, &broken) {
		d.log.Warn("%v", err)
		return io.EOF
	}
	if err != nil {
		return err
	}
	r, err := protocol.Parse(list, in.From(), d.log.Warn)
	if errors.Is(err, protocol.ErrUnknown) {
		return nil
	}
	answer, known := answers[r.Name]
	if !known {
		return out.Int("status", protocol.Bad).Send()
	}
	answer(d, &r, err == nil, out)
	return out.Send()
}

// answers write the replies; good is false for a malformed request.
var answers = map[string]func(d *daemon, r *protocol.Request, good bool, out *attr.Writer){
	protocol.Seed:      (*daemon).seed,
	protocol.Policy:    (*daemon).policy,
	protocol.Lookup:    (*daemon).lookup,
	protocol.Update:    (*daemon).update,
	protocol.Delete:    (*daemon).delete,
	protocol.TicketKey: (*daemon).ticketKey,
}

func (d *daemon) seed(r *protocol.Request, good bool, out *attr.Writer) {
	if good && (r.Size <= 0 || r.Size > protocol.MaxSeed) {
		d.log.Warn("bogus seed length \"%d\" in \"%s\" request", r.Size, r.Name)
		good = false
	}
	if !good {
		out.Int("status", protocol.Bad).Data("seed", nil)
		return
	}
	seed := make([]byte, r.Size)
	rand.Read(seed)
	out.Int("status", protocol.OK).Data("seed", seed)
}

// cache is the cache of a request; nil, with a warning, if there is no such
// type, and if the request is malformed.
func (d *daemon) cache(r *protocol.Request, good bool) *cache {
	if !good {
		return nil
	}
	c := d.caches[r.Cache]
	if c == nil {
		d.log.Warn("bogus cache type \"%s\" in \"%s\" request", r.Cache, r.Name)
	}
	return c
}

// enabled is as cache, for requests that need one with a database.
func (d *daemon) enabled(r *protocol.Request, good bool) *cache {
	c := d.cache(r, good)
	if c != nil && !c.enabled {
		return nil
	}
	return c
}

func (d *daemon) policy(r *protocol.Request, good bool, out *attr.Writer) {
	c := d.cache(r, good)
	if c == nil {
		out.Int("status", protocol.Bad).Int("cachable", 0).Int("timeout", 0)
		return
	}
	cachable := 0
	if c.enabled {
		cachable = 1
	}
	out.Int("status", protocol.OK).Int("cachable", cachable).Int("timeout", int(c.timeout/time.Second))
}

func (d *daemon) lookup(r *protocol.Request, good bool, out *attr.Writer) {
	c := d.enabled(r, good)
	if c == nil {
		out.Int("status", protocol.Bad).Data("session", nil)
		return
	}
	c.tell("lookup %s session id=%s", c.name, r.ID)
	session, found := c.get(r.ID, d.now())
	if !found {
		out.Int("status", protocol.Failed).Data("session", nil)
		return
	}
	out.Int("status", protocol.OK).Data("session", session)
}

func (d *daemon) update(r *protocol.Request, good bool, out *attr.Writer) {
	status := protocol.Bad
	if c := d.enabled(r, good); c != nil {
		c.tell("put %s session id=%s [data %d bytes]", c.name, r.ID, len(r.Session))
		status = protocol.OK
		if !c.put(r.ID, r.Session, d.now()) {
			status = protocol.Failed
		}
	}
	out.Int("status", status)
}

func (d *daemon) delete(r *protocol.Request, good bool, out *attr.Writer) {
	status := protocol.Bad
	if c := d.enabled(r, good); c != nil {
		c.tell("delete %s session id=%s", c.name, r.ID)
		status = protocol.Failed
		if c.drop(r.ID) {
			status = protocol.OK
		}
	}
	out.Int("status", status)
}

// ticketKey answers with the key of a name, or for an empty name with the one
// to seal new tickets with. There are no keys when smtpd sessions have no
// life.
func (d *daemon) ticketKey(r *protocol.Request, good bool, out *attr.Writer) {
	if good && len(r.KeyName) != 0 && len(r.KeyName) != protocol.KeyNameLen {
		d.log.Warn("invalid session ticket key name length: %d", len(r.KeyName))
		good = false
	}
	if !good {
		out.Int("status", protocol.Bad).Data("keybuf", nil)
		return
	}
	key, found := d.keys.find(r.KeyName, d.now())
	if !found && d.keys.life == 0 {
		r.KeyName = nil
	}
	if !found {
		out.Int("status", protocol.Failed).Data("keybuf", r.KeyName)
		return
	}
	data, _ := key.MarshalBinary()
	out.Int("status", protocol.OK).Data("keybuf", data)
}
