// Package verify is the daemon that remembers which addresses mail can be
// delivered to. Asked about an address it does not know, or has not looked at
// for long, it sends a probe: a message without content that goes the way of
// any mail until the last server has said what it thinks of the recipient. The
// delivery agent reports that back (spec ipc.md §2.7, queue.md §3.3).
//
// The cache is a hint and nothing here is fsynced: a result that is lost costs
// a probe. A cache that cannot be read or written makes requests fail, and
// starts no probes, as those could not be told from the ones before.
package verify

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/rewrite"
	protocol "posthaste/pkg/ipc/verify"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// Limits of one request and of the probes on their way to cleanup.
const (
	requestTimeout = 10 * time.Second // from the first byte of a request to the reply
	maxAddress     = 4096             // bytes of an address
	maxReason      = 4096             // bytes of a reason that are kept
	maxPosting     = 50
	postTimeout    = 100 * time.Second
	probeFlag      = 256 // trace_flags: a probe by the mail system
)

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{}
	lasting := inMemory(args, os.Getenv)
	return service.Run(service.Service{
		Name: "verify", Kind: service.Multi, Requires: service.One,
		OwnSession: true, // lives as long as the delivery agents that report to it
		NoMaxUse:   lasting, NoMaxIdle: lasting,
		Setup: d.setup,
		Serve: func(ctx context.Context, conn *service.Conn) error { return d.serve(ctx, conn, conn) },
		Loop:  d.clean,
		Done:  d.done,
	}, args, os.Environ())
}

// inMemory finds out before the service starts whether the cache would end
// with the process, which then must not leave for lack of work.
func inMemory(args []string, getenv func(string) string) bool {
	var overrides []string
	for i := 1; i+1 < len(args); i++ {
		if args[i] == "-o" {
			overrides = append(overrides, args[i+1])
		}
	}
	c, err := conf.Load(conf.Options{Dir: getenv("MAIL_CONFIG"), Overrides: overrides})
	return err == nil && c.String("address_verify_map") == ""
}

// daemon is the state of the service.
type daemon struct {
	log       *maillog.Logger
	lifetimes lifetimes
	now       func() time.Time
	probe     func(ctx context.Context, addr string) error
	posting   chan struct{}  // a place for each probe being posted
	posts     sync.WaitGroup // probes being posted

	mu    sync.Mutex // one look-up-and-change of the cache at a time
	store store
}

// setup opens the cache, which a chroot would hide.
func (d *daemon) setup(rt *service.Runtime) (err error) {
	c := rt.Config
	d.log, d.now = rt.Log, time.Now
	d.lifetimes = lifetimes{
		positiveExpire: c.Duration("address_verify_positive_expire_time"), positiveRefresh: c.Duration("address_verify_positive_refresh_time"),
		negativeExpire: c.Duration("address_verify_negative_expire_time"), negativeRefresh: c.Duration("address_verify_negative_refresh_time"),
	}
	d.posting = make(chan struct{}, maxPosting)
	d.probe = prober(rt)
	d.store, err = openStore(rt, c.String("address_verify_map"))
	return err
}

// done waits for the last probes and writes the cache.
func (d *daemon) done(*service.Runtime) {
	d.posts.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.store.close(); err != nil {
		d.log.Warn("close %s: %v", d.store.name(), err)
	}
}

// turns is how a connection tells that a request is being served.
type turns interface {
	Taken()
	Available()
	SetDeadline(time.Time) error
}

// serve handles one client, which asks any number of times.
func (d *daemon) serve(ctx context.Context, conn io.ReadWriter, t turns) error {
	in, out := attr.NewReader(conn, attr.Null, "verify socket"), attr.NewWriter(conn, attr.Null)
	if err := attr.Announce(out, protocol.Protocol); err != nil {
		return nil
	}
	for ctx.Err() == nil {
		t.SetDeadline(time.Time{})
		if _, err := in.Buffered().Peek(1); err != nil {
			return nil
		}
		t.Taken()
		t.SetDeadline(d.deadline())
		more, err := d.request(ctx, in, out)
		t.Available()
		if !more || err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) deadline() time.Time { return time.Now().Add(requestTimeout) }

// request serves one request; more is false when the client is to be dropped.
// A request that lacks something gets no reply.
func (d *daemon) request(ctx context.Context, in *attr.Reader, out *attr.Writer) (more bool, err error) {
	q, err := protocol.ReadRequest(in)
	var unknown *protocol.UnknownRequestError
	var broken *attr.Error
	switch {
	case errors.As(err, &unknown):
		d.log.Warn("%v", unknown)
		return true, gone(protocol.WriteStatus(out, protocol.Bad))
	case errors.As(err, &broken) && broken.Err == nil:
		d.log.Warn("%v", err)
		return true, nil
	case err != nil:
		return false, gone(err)
	case len(q.Address) > maxAddress:
		d.log.Warn("%s request with an address of %d bytes, ignored", q.Kind, len(q.Address))
		return true, gone(protocol.WriteStatus(out, protocol.Bad))
	case q.Kind == protocol.RequestUpdate:
		return true, gone(protocol.WriteStatus(out, d.update(ctx, q)))
	}
	e, probe, err := d.query(ctx, q.Address)
	if err != nil {
		d.log.Warn("%v", err)
		return true, gone(protocol.WriteStatus(out, protocol.Failed))
	}
	if probe {
		d.posts.Add(1)
		go d.post(context.WithoutCancel(ctx), q.Address)
	}
	return true, gone(protocol.WriteAnswer(out, e.status, e.text))
}

// gone is nil for a client that went away.
func gone(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// query tells what is known about an address, and whether the caller is to
// send a probe, which the cache then knows of already; a place in d.posting
// is taken for it.
func (d *daemon) query(ctx context.Context, addr string) (e entry, probe bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, now := cacheKey(addr), d.now().Unix()
	e, found, err := d.lookup(ctx, key)
	switch {
	case err != nil:
		return e, false, err
	case !found:
		e = entry{status: protocol.Probing, text: inProgress}
	case d.lifetimes.expired(e, now):
		e = entry{status: protocol.Probing, probed: e.probed, text: inProgress}
	}
	if d.log.Verbose() > 0 {
		d.log.Info("GOT %s status=%d probed=%d updated=%d text=%s", key, e.status, e.probed, e.updated, e.text)
	}
	if !d.lifetimes.stale(e, now) {
		return e, false, nil
	}
	select {
	case d.posting <- struct{}{}:
	default:
		return e, false, nil // the next question will start it
	}
	next := e
	next.probed = now
	if d.log.Verbose() > 0 {
		d.log.Info("PROBE %s status=%d probed=%d updated=%d", key, next.status, next.probed, next.updated)
	}
	if err := d.store.put(ctx, key, next.String()); err != nil {
		<-d.posting
		return e, false, err
	}
	return e, true, nil
}

// lookup finds the entry of a key; a malformed one is as none.
func (d *daemon) lookup(ctx context.Context, key string) (entry, bool, error) {
	value, found, err := d.store.get(ctx, key)
	if err != nil || !found {
		return entry{}, false, err
	}
	e, valid := parseEntry(value)
	if !valid {
		d.log.Warn("bad address verify table entry: %.100s", value)
	}
	return e, valid, nil
}

// update stores the result of a probe. A failure does not replace a success:
// that stays until it expires.
func (d *daemon) update(ctx context.Context, q protocol.Request) int {
	if q.Result < protocol.Deliverable || q.Result > protocol.Undeliverable {
		d.log.Warn("bad recipient status %d for recipient %s", q.Result, q.Address)
		return protocol.Bad
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := cacheKey(q.Address)
	if q.Result != protocol.Deliverable {
		old, found, err := d.lookup(ctx, key)
		if err != nil {
			d.log.Warn("%v", err)
			return protocol.Failed
		}
		if found && old.status == protocol.Deliverable {
			return protocol.OK
		}
	}
	e := entry{status: q.Result, updated: d.now().Unix(), text: printable(cut(q.Reason, maxReason))}
	if d.log.Verbose() > 0 {
		d.log.Info("PUT %s status=%d probed=%d updated=%d text=%s", key, e.status, e.probed, e.updated, e.text)
	}
	if err := d.store.put(ctx, key, e.String()); err != nil {
		d.log.Warn("%v", err)
		return protocol.Failed
	}
	return protocol.OK
}

// cut shortens s to at most n bytes, not inside a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// post sends a probe. One that could not be sent is not repeated before
// probeTTL, so that a mail system in trouble is not asked over and over.
func (d *daemon) post(ctx context.Context, addr string) {
	defer d.posts.Done()
	defer func() { <-d.posting }()
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	if err := d.probe(ctx, addr); err != nil {
		d.log.Warn("address verification probe for %s: %v", addr, err)
	}
}

// prober returns the function that posts a probe. Its sender is rewritten as
// local mail is, every time, as trivial-rewrite's configuration may change.
func prober(rt *service.Runtime) func(context.Context, string) error {
	c := rt.Config
	rw := rewrite.New(rewrite.FromConfig(c, rt.Log))
	sender, ttl := c.String("address_verify_sender"), c.Duration("address_verify_sender_ttl")
	if sender == "<>" {
		sender = ""
	}
	return func(ctx context.Context, addr string) error {
		from := sender
		if from != "" {
			full, err := rw.Rewrite(ctx, "local", sender)
			if err != nil {
				return err
			}
			from = protocol.ProbeSender(full, ttl, time.Now())
		}
		p, err := cleanup.NewPost(ctx, c, cleanup.PostOptions{
			Sender: from, Recipient: addr, Class: cleanup.ClassVerify, TraceFlags: probeFlag, NoWait: true, Log: rt.Log,
		})
		if err != nil {
			return err
		}
		result, err := p.Close()
		if err == nil && result.Status != cleanup.OK {
			err = errors.New(result.Status.Text())
		}
		return err
	}
}
