// Package flush is the daemon that remembers for each destination in
// fast_flush_domains which deferred messages wait for it, and moves them back
// to the incoming queue when asked: for ETRN, `postqueue -s` and `-i`, and
// when a log has grown old (spec ipc.md §2.9, queue.md §3.2).
//
// A log is a file of queue ids in the queue "flush", named after the site. It
// is a hint: a message that is not in a log is still delivered by qmgr's own
// schedule, so nothing here is fsynced, and a request that fails costs time,
// never mail.
package flush

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/idna"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	protocol "posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/trigger"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// maxIDs is how many distinct queue ids of one log are remembered while it is
// flushed; repeats beyond that are moved twice, which does no harm.
const maxIDs = 10000

// Main runs the daemon.
func Main(args []string) int {
	var d *daemon
	return service.Run(service.Service{
		Name:     "flush",
		Kind:     service.Single,
		Requires: service.Zero,
		Setup: func(rt *service.Runtime) (err error) {
			d, err = newDaemon(rt)
			return err
		},
		Serve: func(ctx context.Context, conn *service.Conn) error { return d.serve(ctx, conn) },
	}, args, os.Environ())
}

// daemon is the state of the service: all of it settings.
type daemon struct {
	log      *maillog.Logger
	spool    *queue.Spool
	domains  *table.MatchList
	refresh  time.Duration // fast_flush_refresh_time: an older log is delivered
	purge    time.Duration // fast_flush_purge_time: an older empty log is removed
	wakeQmgr func(ctx context.Context, requests string) error
	now      func() time.Time
}

func newDaemon(rt *service.Runtime) (*daemon, error) {
	c := rt.Config
	domains, err := table.NewMatchList(table.Env{Config: c, Log: rt.Log, Daemon: true}, "fast_flush_domains",
		c.String("fast_flush_domains"), table.MatchDomain, 0)
	if err != nil {
		return nil, err
	}
	qmgr := c.String("queue_service_name")
	return &daemon{
		log: rt.Log, spool: rt.Queue, domains: domains,
		refresh: c.Duration("fast_flush_refresh_time"), purge: c.Duration("fast_flush_purge_time"),
		wakeQmgr: func(ctx context.Context, requests string) error {
			return trigger.Send(ctx, dial.Public, qmgr, requests)
		},
		now: time.Now,
	}, nil
}

// serve handles one client: one request.
func (d *daemon) serve(ctx context.Context, conn io.ReadWriter) error {
	in, out := attr.NewReader(conn, attr.Null, "flush socket"), attr.NewWriter(conn, attr.Null)
	if err := protocol.Announce(out); err != nil {
		return err
	}
	req, ok, err := protocol.ReadRequest(in)
	if err != nil {
		return err
	}
	if !ok {
		return protocol.WriteReply(out, protocol.Bad)
	}
	switch req.Name {
	case protocol.Add:
		return protocol.WriteReply(out, d.add(ctx, req.Site, req.QueueID))
	case protocol.SendSite:
		return protocol.WriteReply(out, d.sendSite(ctx, req.Site))
	case protocol.SendFile:
		return protocol.WriteReply(out, d.sendFile(ctx, req.QueueID))
	case protocol.Refresh, protocol.Purge:
		// The client does not wait for the work.
		if err := protocol.WriteReply(out, protocol.OK); err != nil {
			return err
		}
		age := d.refresh
		if req.Name == protocol.Purge {
			age = 0
		}
		return d.refreshAll(ctx, age)
	}
	return nil // an unknown request is left without an answer
}

// SiteFile is the name of a site's log: lower case ASCII, everything but
// letters and digits an underscore. It is empty for a name that IDNA refuses.
func SiteFile(site string) string {
	if !isASCII(site) {
		ascii, err := idna.Lookup.ToASCII(site)
		if err != nil {
			return ""
		}
		site = ascii
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(site))
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}

// logName finds a site's log; status tells why there is none.
func (d *daemon) logName(ctx context.Context, site string) (name string, status protocol.Status) {
	name = SiteFile(site)
	if !queue.ValidID(name) {
		return "", protocol.Bad
	}
	eligible, err := d.domains.Match(ctx, site)
	switch {
	case err != nil:
		return "", protocol.Failed
	case !eligible:
		return "", protocol.Denied
	}
	return name, protocol.OK
}

// add appends a queue id to a site's log.
func (d *daemon) add(ctx context.Context, site, id string) protocol.Status {
	if !queue.ValidID(id) {
		return protocol.Bad
	}
	name, status := d.logName(ctx, site)
	if status != protocol.OK {
		return status
	}
	f, err := d.openLog(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY)
	if err != nil {
		d.log.Warn("open fast flush logfile %s: %v", name, err)
		return protocol.Failed
	}
	defer f.Close()
	if _, err := f.WriteString(id + "\n"); err != nil {
		d.log.Warn("write fast flush logfile %s: %v", name, err)
		return protocol.Failed
	}
	return protocol.OK
}

// openLog opens and locks a log.
func (d *daemon) openLog(name string, flags int) (*os.File, error) {
	f, err := d.spool.OpenLog(queue.Flush, name, flags|syscall.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	if err := queue.LockWait(f, true); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sendSite delivers what is logged for a site: qmgr forgets which of its
// destinations are dead, then finds the messages in the incoming queue.
func (d *daemon) sendSite(ctx context.Context, site string) protocol.Status {
	name, status := d.logName(ctx, site)
	if status != protocol.OK {
		return status
	}
	d.trigger(ctx, "F")
	if err := d.flushLog(ctx, name); err != nil {
		d.log.Warn("flush logfile %s: %v", name, err)
		return protocol.Failed
	}
	return protocol.OK
}

// sendFile delivers one message. The mode bit tells qmgr to forget that its
// destinations are dead.
func (d *daemon) sendFile(ctx context.Context, id string) protocol.Status {
	if !queue.ValidID(id) {
		return protocol.Bad
	}
	path := d.spool.Path(queue.Deferred, id)
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		if err := os.Chmod(path, info.Mode().Perm()|0o040); err == nil {
			d.moveToIncoming(id)
			d.trigger(ctx, "I")
		}
	}
	return protocol.OK
}

func (d *daemon) trigger(ctx context.Context, requests string) {
	if err := d.wakeQmgr(ctx, requests); err != nil {
		d.log.Warn("unable to wake up the queue manager: %v", err)
	}
}

// moveToIncoming makes one message due now.
func (d *daemon) moveToIncoming(id string) bool {
	now := d.now()
	if err := d.spool.SetTime(queue.Deferred, id, now); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // it may be there already
			return d.spool.SetTime(queue.Incoming, id, now) == nil
		}
		d.log.Warn("%s: update time stamps: %v", id, err)
		return false
	}
	if err := d.spool.Move(queue.Deferred, queue.Incoming, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("%s: rename from deferred to incoming: %v", id, err)
		return false
	}
	return true
}

// flushLog moves the messages of a log and empties it. A log that is not
// there is an empty one.
func (d *daemon) flushLog(ctx context.Context, name string) error {
	f, err := d.openLog(name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	seen := map[string]bool{}
	read, moved := false, false
	for lines := bufio.NewScanner(f); lines.Scan() && ctx.Err() == nil; {
		read = true
		id := lines.Text()
		switch {
		case !queue.ValidID(id):
			d.log.Warn("bad queue id \"%.30s...\" in fast flush logfile %s", id, name)
		case seen[id]:
		default:
			if len(seen) < maxIDs {
				seen[id] = true
			}
			moved = d.moveToIncoming(id) || moved
		}
	}
	if read {
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("truncate: %w", err)
		}
	}
	now := d.now()
	os.Chtimes(f.Name(), now, now) // the age of an empty log decides when it is removed
	if moved {
		d.trigger(ctx, "I")
	}
	return nil
}

// refreshAll delivers logs that were last read more than age ago, and removes
// empty logs past the purge time.
func (d *daemon) refreshAll(ctx context.Context, age time.Duration) error {
	for name, err := range d.spool.Scan(queue.Flush) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		path := d.spool.Path(queue.Flush, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		now := d.now()
		if info.Size() == 0 {
			if info.ModTime().Add(d.purge).Before(now) {
				os.Remove(path)
			}
			continue
		}
		if accessed(info).Add(age).Before(now) || age == 0 {
			if err := d.flushLog(ctx, name); err != nil {
				d.log.Warn("flush logfile %s: %v", name, err)
			}
		}
	}
	return nil
}

func accessed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(int64(st.Atim.Sec), int64(st.Atim.Nsec))
	}
	return info.ModTime()
}
