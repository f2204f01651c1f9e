// Package pickup is the daemon that takes what postdrop left in the maildrop
// and hands it to cleanup (spec queue.md §8.4).
//
// A maildrop file is the work of a user and is not believed: it must be a
// plain file with one link, its records must come in their order, and only
// the record types and attributes of the tables below are passed on. The file
// is removed when cleanup has the message on stable storage, or when it can
// never become a message; after any other trouble it stays for the next scan.
package pickup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/trigger"
	"posthaste/pkg/message/header"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// Tolerances for the time stamp of a maildrop file before it is remarked on.
const (
	maxFuture = 2 * time.Hour
	maxAge    = 24 * time.Hour
)

// maxScan bounds one scan: it is well below the watchdog's time.
const maxScan = 300 * time.Second

// Main runs the daemon.
func Main(args []string) int {
	var p *pickup
	return service.Run(service.Service{
		Name:     "pickup",
		Kind:     service.Trigger,
		Requires: service.One,
		Start: func(_ context.Context, rt *service.Runtime) error {
			p = newPickup(rt.Config, rt.Log, rt.Queue, rt.Owner.UID)
			return nil
		},
		Trigger: func(ctx context.Context, _ *service.Runtime, _ []byte) { p.scan(ctx) },
	}, args, os.Environ())
}

// pickup is the daemon's settings.
type pickup struct {
	log      *maillog.Logger
	spool    *queue.Spool
	owner    int // uid of mail_owner: its files were requeued by postsuper
	hostname string
	mailName string
	filter   string // content_filter
	flags    cleanup.Flags
	autoUTF8 cleanup.Flags
	limit    int // line_length_limit
	open     func(context.Context) (*cleanup.Session, error)
	now      func() time.Time
	patience time.Duration               // after which the rest is left to another scan
	again    func(context.Context) error // asks for one
}

func newPickup(c *conf.Config, log *maillog.Logger, spool *queue.Spool, owner int) *pickup {
	return &pickup{
		log: log, spool: spool, owner: owner,
		hostname: c.String("myhostname"), mailName: c.String("mail_name"),
		filter:   c.String("content_filter"),
		flags:    (cleanup.FlagBounce | cleanup.FlagsExternal).Override(c.List("receive_override_options")),
		autoUTF8: cleanup.AutoUTF8(c, cleanup.ClassSendmail),
		limit:    c.Int("line_length_limit"),
		open:     func(ctx context.Context) (*cleanup.Session, error) { return cleanup.Open(ctx, c) },
		now:      time.Now,
		patience: maxScan,
		again: func(ctx context.Context) error {
			return trigger.Send(ctx, dial.Public, c.String("pickup_service_name"), "W")
		},
	}
}

// scan reads the maildrop until a pass removes nothing: what arrives during a
// pass has sent a trigger that may have been merged with this one. Where mail
// comes without end that has an end, too, so that a reload and the watchdog get
// their chance.
func (p *pickup) scan(ctx context.Context) {
	start := time.Now()
	for removed := true; removed && ctx.Err() == nil; {
		removed = false
		for id, err := range p.spool.Scan(queue.Maildrop) {
			if err != nil {
				p.log.Fatal("scan_dir_push: open directory %s: %v", queue.Maildrop, err)
				return
			}
			if ctx.Err() != nil {
				return
			}
			if !queue.ValidID(id) || !p.pickUp(ctx, id) {
				continue
			}
			removed = true
			if time.Since(start) > p.patience {
				if err := p.again(ctx); err != nil {
					p.log.Warn("trigger for the rest of the %s: %v", queue.Maildrop, maillog.Errno(err))
				}
				return
			}
		}
	}
}

// pickUp handles one file and reports whether it was removed.
func (p *pickup) pickUp(ctx context.Context, id string) bool {
	if _, ready := p.spool.Ready(queue.Maildrop, id); !ready {
		return false
	}
	path := p.spool.Path(queue.Maildrop, id)
	f, err := queue.SafeOpen(path, os.O_RDONLY)
	if err != nil {
		p.log.Warn("open input file %s: %v", path, err)
		if errors.Is(err, fs.ErrPermission) {
			p.log.Warn("if this file was created by Postfix < 1.1, then you may have to chmod a+r %s/%s", p.spool.Dir(), path)
			return false
		}
		return neverOurs(err) && p.remove(path)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		p.log.Warn("fstat %s: %v", path, maillog.Errno(err))
		return false
	}
	verdict := p.handOver(ctx, &file{File: f, path: path, id: id, info: info})
	return verdict == done && p.remove(path)
}

// neverOurs tells a file that no postdrop made from one that cannot be opened
// now, for want of descriptors or because the disk fails.
func neverOurs(err error) bool {
	var errno syscall.Errno
	return !errors.As(err, &errno) && !errors.Is(err, queue.ErrChanged)
}

func (p *pickup) remove(path string) bool {
	if err := os.Remove(path); err != nil {
		p.log.Warn("remove %s: %v", path, maillog.Errno(err))
		return false
	}
	return true
}

// file is a maildrop file that is being copied.
type file struct {
	*os.File
	path, id string
	info     fs.FileInfo
}

func (f *file) uid() int { return int(f.info.Sys().(*syscall.Stat_t).Uid) }

// requeued tells a file that postsuper -r put here from a new submission.
func (f *file) requeued(owner int) bool { return f.uid() == owner && f.info.Mode()&0o004 == 0 }

// verdict is what becomes of a maildrop file.
type verdict bool

const (
	keep verdict = false
	done verdict = true
)

// handOver passes one message to cleanup.
func (p *pickup) handOver(ctx context.Context, f *file) verdict {
	s, err := p.open(ctx)
	if err != nil {
		p.log.Warn("%s: %v", f.path, err)
		return keep
	}
	flags := p.flags
	if f.requeued(p.owner) {
		flags &^= cleanup.FlagMilter
	} else {
		flags |= p.autoUTF8
	}
	if err := s.SetFlags(flags); err != nil {
		s.Abort()
		p.log.Warn("%s: write to cleanup service: %v", f.path, err)
		return keep
	}
	c := &copier{pickup: p, s: s, f: f, in: record.NewReader(f), time: p.arrival(f, s.QueueID)}
	c.in.Path = f.path
	if err := c.message(); err != nil {
		return c.failed(err)
	}
	return c.finish()
}

// arrival is the time that the message will carry as its arrival.
func (p *pickup) arrival(f *file, id string) time.Time {
	now, at := p.now(), f.info.ModTime()
	switch {
	case at.After(now.Add(maxFuture)):
		p.log.Warn("%s: message dated %d seconds into the future", id, int64(at.Sub(now)/time.Second))
		return now
	case now.Sub(at) > maxAge:
		p.log.Warn("%s: message has been queued for %d days", id, int64(now.Sub(at)/(24*time.Hour)))
	}
	return at
}

// copier copies the records of one file.
type copier struct {
	*pickup
	s    *cleanup.Session
	f    *file
	in   *record.Reader
	time time.Time
}

// Errors of a copy.
var (
	errNoSender = errors.New("no envelope sender")
	errPeer     = errors.New("write to the cleanup service")
	errInput    = errors.New("read the file")
)

// badRecord is a record that does not belong where it stands: -1 for the end
// of the file, -2 for damage.
type badRecord int

func (b badRecord) Error() string {
	return fmt.Sprintf("unexpected or malformed record type %d", int(b))
}

// What is not passed on, per section: types, and attributes unless listed.
const (
	envelopeDrop  = "L>"
	extractedDrop = "L>re"
)

var keptAttributes = []string{"envelope_id", "notify_flags", "dsn_orig_rcpt", "ret_flags", "create_time"}

// message copies the whole message up to its end record.
func (c *copier) message() error {
	if c.filter != "" {
		if err := c.put(record.TypeFilter, []byte(c.filter)); err != nil {
			return err
		}
	}
	if err := c.envelope(); err != nil {
		return err
	}
	if err := c.content(); err != nil {
		return err
	}
	return c.extracted()
}

func (c *copier) put(t record.Type, data []byte) error {
	if err := c.s.Rec(t, data); err != nil {
		return fmt.Errorf("%w: %w", errPeer, err)
	}
	return nil
}

// next reads a record that must be of the set.
func (c *copier) next(set string) (record.Type, []byte, error) {
	t, data, err := c.in.Next()
	switch {
	case errors.Is(err, io.EOF):
		return 0, nil, badRecord(-1)
	case errors.Is(err, record.ErrMalformed):
		c.log.Warn("%v", err)
		return 0, nil, badRecord(-2)
	case err != nil:
		return 0, nil, fmt.Errorf("%w: %w", errInput, err)
	case !t.In(set):
		return 0, nil, badRecord(t)
	}
	return t, data, nil
}

func (c *copier) envelope() error {
	var sender *string
	haveTime := false
	for {
		t, data, err := c.next(record.EnvelopeSet)
		if err != nil {
			return err
		}
		switch t {
		case record.TypeMessage:
			if sender == nil {
				return errNoSender
			}
			c.logOrigin(*sender)
			return nil
		case record.TypeFrom:
			if !haveTime {
				if err := c.put(record.TypeTime, fmt.Appendf(nil, "%d", c.time.Unix())); err != nil {
					return err
				}
				haveTime = true
			}
			if sender == nil {
				text := string(data)
				sender = &text
			}
		case record.TypeTime:
			haveTime = true
		}
		if t.In(envelopeDrop) {
			continue
		}
		if err := c.put(t, data); err != nil {
			return err
		}
	}
}

func (c *copier) logOrigin(sender string) {
	if c.f.requeued(c.owner) {
		c.log.Info("%s: uid=%d from=<%s> orig_id=%s", c.s.QueueID, c.f.uid(), sender, c.f.id)
	} else {
		c.log.Info("%s: uid=%d from=<%s>", c.s.QueueID, c.f.uid(), sender)
	}
}

// content copies the message itself under a Received header of ours.
func (c *copier) content() error {
	for _, r := range []struct {
		t    record.Type
		text string
	}{
		{record.TypeMessage, ""},
		{record.TypeNormal, fmt.Sprintf("Received: by %s (%s, from userid %d)", c.hostname, c.mailName, c.f.uid())},
		{record.TypeNormal, fmt.Sprintf("\tid %s; %s", c.s.QueueID, header.MailDate(c.time))},
	} {
		if err := c.put(r.t, []byte(r.text)); err != nil {
			return err
		}
	}
	for first := true; ; first = false {
		t, data, err := c.next(record.ContentSet)
		if err != nil {
			return err
		}
		if t == record.TypeExtracted {
			return c.put(t, data)
		}
		// A first line that begins with white space would become part of
		// our Received header.
		if first && len(data) > 0 && (data[0] == ' ' || data[0] == '\t') {
			if err := c.put(record.TypeNormal, nil); err != nil {
				return err
			}
		}
		if err := c.put(t, data); err != nil {
			return err
		}
	}
}

func (c *copier) extracted() error {
	for {
		t, data, err := c.next(record.ExtractedSet)
		if err != nil {
			return err
		}
		if t == record.TypeAttr {
			if name, _, err := record.ParseAttr(data); err != nil || !slices.Contains(keptAttributes, name) {
				continue
			}
		}
		if t.In(extractedDrop) {
			continue
		}
		if err := c.put(t, data); err != nil || t == record.TypeEnd {
			return err
		}
	}
}

// failed decides about a file that could not be copied to its end.
func (c *copier) failed(err error) verdict {
	var bad badRecord
	switch {
	case errors.As(err, &bad):
		c.log.Warn("uid=%d: %v", c.f.uid(), bad)
		c.s.Abort()
		return done
	case errors.Is(err, errNoSender):
		c.log.Warn("%s: uid=%d: no envelope sender", c.s.QueueID, c.f.uid())
		c.s.Abort()
		return done
	case errors.Is(err, errInput): // the disk may be better some time
		c.log.Warn("%s: read: %v", c.f.path, maillog.Errno(err))
		c.s.Abort()
		return keep
	}
	return c.finish() // cleanup may have said why it stopped listening
}

// finish waits for cleanup's verdict.
func (c *copier) finish() verdict {
	r, err := c.s.Finish()
	if err != nil {
		r = cleanup.Result{Status: cleanup.StatusWrite}
	}
	if r.Status == cleanup.OK {
		return done
	}
	if r.Reason == "" {
		c.log.Warn("%s: error writing %s: %s", c.f.path, c.s.QueueID, r.Status.Text())
	}
	return verdict(r.Status&(cleanup.StatusBad|cleanup.StatusRcpt) != 0)
}
