package qmgr

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/quick"
)

// complete does what follows the last delivery of a batch, in the order of spec §4.7.
// It returns true when the message has recipients left to read; otherwise the
// message is gone from the active queue.
func (m *manager) complete(msg *message) (more bool) {
	id := msg.ID
	m.flushBounces(msg)
	msg.deferred = msg.deferred || msg.retryLater
	if msg.deferred {
		if _, ok := m.spool.Ready(queue.Active, id); !ok {
			if _, err := os.Lstat(m.spool.Path(queue.Active, id)); err == nil {
				m.corrupt(id)
			}
			return false
		}
	}
	if msg.env.Unread > 0 {
		return true
	}
	m.report(msg)
	if msg.deferred && !msg.retryLater {
		m.lateNotices(msg)
	}
	if msg.deferred {
		age := time.Since(msg.env.Created)
		m.putBack(id, queue.Deferred, min(max(age, m.minimalBackoff), m.maximalBackoff))
		return false
	}
	if err := m.spool.Remove(queue.Active, id); err != nil {
		m.log.Warn("remove %s from %s: %v", id, queue.Active, maillog.Errno(err))
		return false
	}
	m.log.Info("%s: removed", id)
	return false
}

func (m *manager) notice(msg *message) bounce.Message {
	env := msg.env
	return bounce.Message{Queue: queue.Active, ID: msg.ID, Encoding: env.Encoding, SMTPUTF8: int(env.Size.UTF8Flags),
		Sender: env.Sender, EnvelopeID: env.EnvelopeID, Ret: env.Ret}
}

// returnMail asks a service to send its log to the sender.
func (m *manager) returnMail(msg *message, service string, flags bounce.Flags) bool {
	what, err := "bounce", error(nil)
	if msg.env.VERP != "" && !m.disableVERP {
		what = "verp"
		err = m.notices.FlushVERP(m.ctx, service, flags, m.notice(msg), msg.env.VERP)
	} else {
		err = m.notices.Flush(m.ctx, service, flags, m.notice(msg))
	}
	return m.noticed(msg, what, err)
}

func (m *manager) noticed(msg *message, what string, err error) bool {
	if err == nil {
		return true
	}
	if m.ctx.Err() == nil {
		m.log.Info("%s: status=deferred (%s failed)", msg.ID, what)
	}
	return false
}

// flushBounces returns the recipients in the bounce log to the sender.
func (m *manager) flushBounces(msg *message) {
	path := m.spool.Path(queue.Bounce, msg.ID)
	if !quick.Exists(path) {
		return
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		m.log.Warn("stat %s: %v", path, maillog.Errno(err))
		msg.deferred = true
	case info.Size() == 0:
		if err := m.spool.Remove(queue.Bounce, msg.ID); err != nil {
			m.log.Warn("remove %s: %v", path, maillog.Errno(err))
		}
	case !m.returnMail(msg, m.services.Bounce, 0):
		msg.deferred = true
	}
}

// report has the trace log sent: for probes by hand, sendmail -v, NOTIFY=SUCCESS and
// late success after a delay notice.
func (m *manager) report(msg *message) {
	env := msg.env
	if env.Trace&(deliver.UsrVerify|deliver.Record|deliver.DelaySent) == 0 && !env.Wants(dsn.NotifySuccess) {
		return
	}
	if !m.noticed(msg, "trace", m.notices.Trace(m.ctx, m.services.Trace, bounce.Flags(env.Trace), m.notice(msg))) {
		msg.deferred = true
		return
	}
	if env.Trace != deliver.Record || env.TraceOffset < 0 {
		return
	}
	f, err := m.spool.Open(queue.Active, msg.ID, os.O_RDWR)
	if err == nil {
		err = m.spool.Kill(f, env.TraceOffset)
		f.Close()
	}
	if err != nil {
		m.log.Warn("%s: kill trace flags: %v", msg.ID, maillog.Errno(err))
	}
}

// lateNotices returns mail that is too old, or tells the sender that it is late.
func (m *manager) lateNotices(msg *message) {
	env, now := msg.env, time.Now()
	expired := !now.Before(env.Created.Add(m.lifetime(env.Sender)))
	switch {
	case msg.expire || expired:
		if !m.logUnlogged(msg) {
			return // at the next attempt
		}
		word := "expired"
		if msg.expire {
			word = "force-expired"
		}
		m.log.Info("%s: from=<%s>, status=%s, returned to sender", msg.ID, m.shown(env.Sender), word)
		msg.deferred = !m.returnMail(msg, m.services.Defer, bounce.DelRecip)
	case !env.Warn.IsZero() && !now.Before(env.Warn.Add(-time.Second)):
		if m.noticed(msg, "delay warning", m.notices.Warn(m.ctx, m.services.Defer, 0, m.notice(msg))) {
			m.markWarned(msg)
		}
	}
}

// markWarned writes down that the delay notice was sent.
func (m *manager) markWarned(msg *message) {
	env := msg.env
	f, err := m.spool.Open(queue.Active, msg.ID, os.O_RDWR)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%*d", env.WarnLen, -1), env.WarnOffset)
		f.Close()
	}
	if err != nil {
		m.log.Warn("%s: update delay warning time: %v", msg.ID, maillog.Errno(err))
	}
}
