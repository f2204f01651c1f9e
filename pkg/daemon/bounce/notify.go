package bounce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/bouncelog"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// Who is told what is the table in routing.md §5.2.

// Trace flags that ask for a report of what would happen, or did.
const verifyFlags = bounce.UsrVerify | bounce.Record

// entries yields log entries; an error comes last, fs.ErrNotExist when there is
// no log.
type entries = iter.Seq2[bouncelog.Entry, error]

func (d *daemon) logEntries(id string) entries {
	log := &onceLogger{log: d.log, seen: make(map[string]bool)}
	return func(yield func(bouncelog.Entry, error) bool) {
		f, err := d.spool.Open(d.service, id, os.O_RDONLY)
		if err != nil {
			yield(bouncelog.Entry{}, err)
			return
		}
		defer f.Close()
		r := bouncelog.NewReader(f, d.spool.Path(d.service, id), d.service == queue.Defer)
		r.Log, r.UTF8 = log, d.utf8
		for {
			e, err := r.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// onceLogger passes each warning on once: a log is read several times.
type onceLogger struct {
	log  *maillog.Logger
	seen map[string]bool
}

// maxWarnings bounds the warnings about one log.
const maxWarnings = 100

func (l *onceLogger) Warn(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if !l.seen[text] && len(l.seen) < maxWarnings {
		l.seen[text] = true
		l.log.Warn("%s", text)
	}
}

// logMissing tells whether a message has no log.
func (d *daemon) logMissing(id string) bool {
	_, err := os.Lstat(d.spool.Path(d.service, id))
	return errors.Is(err, fs.ErrNotExist)
}

func oneEntry(e bouncelog.Entry) entries {
	return func(yield func(bouncelog.Entry, error) bool) { yield(e, nil) }
}

// flush returns the logged recipients to the sender, and ends the log.
func (d *daemon) flush(ctx context.Context, r bounce.Request) error {
	n, err := d.newNotice(r, "failure", "non-delivery")
	if err != nil {
		return err
	}
	defer n.close()
	if err := d.bounce(ctx, n, d.logEntries(r.ID)); err != nil {
		return err
	}
	return d.finish(n)
}

// one returns a single recipient, for which there is no log.
func (d *daemon) one(ctx context.Context, r bounce.Request) error {
	n, err := d.newNotice(r, "failure", "non-delivery")
	if err != nil {
		return err
	}
	defer n.close()
	e := bouncelog.Entry{
		Rcpt: address.Quote(r.Recipient.Address), Offset: r.Recipient.Offset,
		DSNOrigRcpt: r.Recipient.DSNOrig, Notify: r.Recipient.Notify, Status: r.Status,
	}
	if r.Recipient.Original != "" {
		e.OrigRcpt = address.Quote(r.Recipient.Original)
	}
	if r.Recipient.Address == "" {
		e.Rcpt = bouncelog.EmptyRcpt
	}
	return d.bounce(ctx, n, oneEntry(e))
}

// bounce sends the non-delivery notice for a set of recipients.
func (d *daemon) bounce(ctx context.Context, n *notice, set entries) error {
	switch {
	case d.isDoubleBounce(n.Sender):
		d.log.Warn("%s: undeliverable postmaster notification discarded", n.ID)
		return nil
	case n.Sender == "":
		if !d.notify("2bounce", "bounce") {
			return nil
		}
		return n.send(ctx, letter{to: d.doubleRcpt, postmaster: true, full: true, set: set})
	}
	err := n.send(ctx, letter{to: n.Sender, full: n.Ret != dsn.RetHdrs, notify: dsn.NotifyFailure, set: set})
	if err == nil && d.notify("bounce") {
		if n.send(ctx, letter{to: d.bounceRcpt, postmaster: true, set: set}) != nil {
			d.log.Warn("%s: postmaster notice failed while bouncing to %s", n.ID, n.Sender)
		}
	}
	return err
}

// flushVERP sends a notice a recipient, each to an address that says which one
// it was.
func (d *daemon) flushVERP(ctx context.Context, r bounce.Request) error {
	if r.Sender == "" || d.isDoubleBounce(r.Sender) {
		d.log.Warn("request to send VERP-style notification of bounced mail")
		return d.flush(ctx, r)
	}
	n, err := d.newNotice(r, "failure", "non-delivery")
	if err != nil {
		return err
	}
	defer n.close()
	for e, err := range d.logEntries(r.ID) {
		to := verpSender(r.VERP, r.Sender, e)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				return d.unreadable(r.ID, err)
			}
			to = r.Sender
			e = bouncelog.Entry{Rcpt: bouncelog.UnknownRcpt, Status: dsn.Status{Code: "5.0.0", Action: "failed", Reason: "(error report unavailable)"}}
		}
		if err := n.send(ctx, letter{to: to, full: n.Ret != dsn.RetHdrs, notify: dsn.NotifyFailure, set: oneEntry(e)}); err != nil {
			return err
		}
		if d.notify("bounce") && n.send(ctx, letter{to: d.bounceRcpt, postmaster: true, set: oneEntry(e)}) != nil {
			d.log.Warn("%s: postmaster notice failed while bouncing to %s", n.ID, n.Sender)
		}
	}
	return d.finish(n)
}

// verpSender puts the recipient into the sender: prefix@origin becomes
// prefix+user=domain@origin. It is the original recipient, whom the sender knows.
func verpSender(delimiters, sender string, e bouncelog.Entry) string {
	rcpt := e.OrigRcpt
	if rcpt == "" {
		rcpt = e.Rcpt
	}
	prefix, origin, qualified := cutLast(sender)
	user, domain, hasDomain := cutLast(rcpt)
	out := prefix + delimiters[:1] + user
	if hasDomain {
		out += delimiters[1:] + domain
	}
	if qualified {
		out += "@" + origin
	}
	return out
}

func cutLast(addr string) (local, domain string, found bool) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return addr, "", false
	}
	return addr[:at], addr[at+1:], true
}

// warn sends the delay notice; the log stays. Without a log nobody is late.
func (d *daemon) warn(ctx context.Context, r bounce.Request) error {
	if d.logMissing(r.ID) {
		return nil
	}
	n, err := d.newNotice(r, "delay", "delay")
	if err != nil {
		return err
	}
	defer n.close()
	set := d.logEntries(r.ID)
	switch {
	case d.isDoubleBounce(n.Sender):
		d.log.Warn("%s: undeliverable postmaster notification discarded", n.ID)
		return nil
	case n.Sender == "":
		if !d.notify("delay") {
			return nil
		}
		return n.send(ctx, letter{to: d.delayRcpt, postmaster: true, full: true, retry: true, set: set})
	}
	err = n.send(ctx, letter{to: n.Sender, notify: dsn.NotifyDelay, retry: true, set: set})
	if err == nil && d.notify("delay") {
		if n.send(ctx, letter{to: d.delayRcpt, postmaster: true, retry: true, set: set}) != nil {
			d.log.Warn("%s: postmaster notice failed while warning %s", n.ID, n.Sender)
		}
	}
	return err
}

// trace sends the report of successes, or of a probe, and ends the log.
func (d *daemon) trace(ctx context.Context, r bounce.Request) error {
	class := "success"
	if r.Flags&verifyFlags != 0 {
		class = "verify"
	}
	if d.logMissing(r.ID) {
		return nil
	}
	n, err := d.newNotice(r, class, "delivery status")
	if err != nil {
		return err
	}
	defer n.close()
	l := letter{to: n.Sender, set: d.logEntries(r.ID)}
	switch {
	case d.isDoubleBounce(n.Sender):
		d.log.Info("%s: not sending trace/success notification for double-bounce message", n.ID)
		return d.finish(n)
	case n.Sender == "" && !d.notify("2bounce"):
		d.log.Info("%s: not sending trace/success notification for single-bounce message", n.ID)
		return d.finish(n)
	case n.Sender == "":
		l.to, l.double = d.doubleRcpt, true
	}
	if err := n.send(ctx, l); err != nil {
		return err
	}
	return d.finish(n)
}

// finish ends a log whose notice is in the queue.
func (d *daemon) finish(n *notice) error {
	if n.Flags&bounce.DelRecip != 0 {
		if err := d.markDone(n); err != nil {
			return err
		}
	}
	return d.removeLog(n.ID)
}

// markDone marks the logged recipients in the queue file, so that the queue
// manager finds nothing left to do.
func (d *daemon) markDone(n *notice) error {
	if n.orig.file == nil {
		return nil
	}
	for e, err := range d.logEntries(n.ID) {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return d.unreadable(n.ID, err)
		}
		if e.Offset <= 0 {
			continue
		}
		if err := d.spool.Mark(n.orig.file, e.Offset); err != nil {
			d.log.Warn("update queue file %s: %v", n.orig.path, maillog.Errno(err))
			return err
		}
	}
	return nil
}

func (d *daemon) unreadable(id string, err error) error {
	d.log.Warn("read %s %s: %v", d.service, id, maillog.Errno(err))
	return fmt.Errorf("read log: %w", err)
}

func (d *daemon) isDoubleBounce(addr string) bool { return strings.EqualFold(addr, d.doubleBounce) }
