package qmgr

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"posthaste/pkg/daemon/qmgr/envelope"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/bouncelog"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// logUnlogged adds to the defer log the recipients that are neither done nor in it,
// before a message is returned on the strength of that log: an agent that dies, or
// cannot reach the defer service, leaves such, and the sender would never hear
// of them. It reports whether the log is complete.
func (m *manager) logUnlogged(msg *message) bool {
	if msg.env.Redirect != "" {
		return true // one address stands for all, and the rest are never done
	}
	f, err := m.spool.Open(queue.Active, msg.ID, os.O_RDONLY)
	if err != nil {
		m.log.Warn("open %s %s: %v", queue.Active, msg.ID, maillog.Errno(err))
		return false
	}
	defer f.Close()
	logged, err := m.inDeferLog(msg.ID)
	if err != nil {
		m.log.Warn("read %s %s: %v", queue.Defer, msg.ID, maillog.Errno(err))
		return false
	}
	o := envelope.Options{ID: msg.ID, Path: f.Name(), VERPFilter: m.verpFilter, More: func(n int) bool { return n < maxBatch }}
	env, rcpts, err := envelope.Read(f, o)
	for err == nil {
		for _, r := range rcpts {
			if !logged.has(r) && !m.logLost(msg, r) {
				return false
			}
		}
		if env.Unread <= 0 || len(rcpts) == 0 {
			return true
		}
		rcpts, err = env.More(f, o)
	}
	m.log.Warn("%s: read recipients: %v", msg.ID, maillog.Errno(err))
	return false
}

// logLost writes down a recipient of whom no agent has told anything.
func (m *manager) logLost(msg *message, rcpt deliver.Recipient) bool {
	st := dsn.Status{Code: "4.3.0", Action: "delayed", Reason: "unknown mail transport error"}
	if m.notices.Append(m.ctx, m.services.Defer, msg.ID, bounce.Flags(msg.env.Trace), rcpt, st) != nil {
		m.log.Warn("%s: defer service failure", msg.ID)
		return false
	}
	m.logDelivery(msg, rcpt, st, "deferred")
	return true
}

// deferLog is who stands in a defer log. An address counts as well as an offset: a
// delivery that an agent passed on to another is logged without the latter.
type deferLog struct {
	offsets   map[int64]bool
	addresses map[string]bool // in external form, lower case
}

func (l *deferLog) has(r deliver.Recipient) bool {
	return l.offsets[r.Offset] || l.addresses[strings.ToLower(address.Quote(r.Address))] || l.addresses[strings.ToLower(r.Address)]
}

func (m *manager) inDeferLog(id string) (*deferLog, error) {
	l := &deferLog{offsets: make(map[int64]bool), addresses: make(map[string]bool)}
	for e, err := range bouncelog.Read(m.spool, queue.Defer, id, nil) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		if e.Offset > 0 {
			l.offsets[e.Offset] = true
		}
		for _, a := range []string{e.Rcpt, e.OrigRcpt} {
			if a != "" {
				l.addresses[strings.ToLower(a)] = true
			}
		}
	}
	return l, nil
}
