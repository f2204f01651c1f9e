package qmgr

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"posthaste/pkg/daemon/qmgr/envelope"
	"posthaste/pkg/daemon/qmgr/sched"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/spool/bouncelog"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/quick"
)

// message is what goes with a sched.Message. Only one goroutine at a time has it:
// its activation, its completion, or the reader of its next recipients; deliveries
// only read env.
type message struct {
	*sched.Message
	env         *envelope.Envelope
	active      time.Time // entered the active queue
	deferred    bool      // something is to be tried again
	expire      bool      // forced expiration
	unthrottle  bool      // dead destinations are to be tried
	ignoreDefer bool      // defer_transports does not apply
	probe       bool
	redirected  bool
	retryLater  bool           // recipients could not be read: not all are accounted for
	fresh       int            // recipients counted in manager.reading
	logged      map[int64]bool // offsets of recipients in the defer log that is reused
}

// activate takes a file into the active queue, reads its envelope and resolves its
// first recipients. It returns nil when the file is gone, busy or corrupt.
func (m *manager) activate(c candidate) (*message, []sched.Routed) {
	if err := m.spool.Move(c.queue, queue.Active, c.id); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("%s: rename from %s to %s: %v", c.id, c.queue, queue.Active, maillog.Errno(err))
		}
		return nil, nil
	}
	if c.queue == queue.Incoming {
		m.returnToken()
	}
	msg := &message{active: time.Now(), ignoreDefer: c.ignoreDefer}
	msg.Message = &sched.Message{ID: c.id, Info: msg, Activated: msg.active}
	rcpts, ok := m.open(msg)
	if !ok {
		m.reading.Add(-int64(msg.fresh))
		return nil, nil
	}
	msg.OneByOne = msg.env.VERP != ""
	if msg.env.Trace&deliver.MTAVerify != 0 {
		msg.probe = true
		m.probes.Add(1)
	}
	if m.confirmCleared && msg.env.WarnSent {
		msg.env.Trace |= deliver.DelaySent
	}
	return msg, m.route(msg, rcpts)
}

// open reads a file in the active queue. What cannot be delivered now is moved where
// it belongs.
func (m *manager) open(msg *message) ([]deliver.Recipient, bool) {
	id := msg.ID
	f, err := m.spool.Open(queue.Active, id, os.O_RDWR)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("open %s %s: %v", queue.Active, id, maillog.Errno(err))
			m.putBack(id, queue.Deferred, m.minimalBackoff)
		}
		return nil, false
	}
	defer f.Close()
	if err := queue.Lock(f, true); err != nil {
		if errors.Is(err, queue.ErrBusy) {
			m.log.Info("%s: skipped, still being delivered", id)
		} else {
			m.log.Warn("%s: lock: %v", id, maillog.Errno(err))
		}
		m.putBack(id, queue.Incoming, lockedDelay)
		return nil, false
	}
	env, rcpts, err := envelope.Read(quick.NewFile(f), m.readerOptions(msg, m.firstBatch, true))
	switch {
	case errors.Is(err, envelope.ErrCorrupt):
		m.corrupt(id)
		return nil, false
	case err != nil:
		m.log.Warn("%s: read %s: %v", id, queue.Active, maillog.Errno(err))
		m.putBack(id, queue.Deferred, m.minimalBackoff)
		return nil, false
	}
	msg.env = env
	var st syscall.Stat_t
	if errno := quick.Fstat(f, &st); errno != 0 {
		m.log.Warn("%s: fstat: %v", id, maillog.Errno(errno))
		m.putBack(id, queue.Deferred, m.minimalBackoff)
		return nil, false
	}
	mode := fs.FileMode(st.Mode) & fs.ModePerm
	msg.expire = mode&queue.ModeExpire != 0
	if mode&queue.ModeUnthrottle != 0 {
		msg.unthrottle, msg.ignoreDefer = true, true
		if err := f.Chmod(mode &^ queue.ModeUnthrottle); err != nil {
			m.log.Warn("%s: fchmod: %v", id, maillog.Errno(err))
		}
	}
	m.oldLog(msg)
	return rcpts, true
}

// oldLog removes the log of the last delivery attempt. A message that is to be
// returned keeps it, and those in it need not be tried again.
func (m *manager) oldLog(msg *message) {
	if msg.expire {
		msg.logged = make(map[int64]bool)
		for e, err := range bouncelog.Read(m.spool, queue.Defer, msg.ID, m.log) {
			if err != nil {
				break
			}
			msg.logged[e.Offset] = true
		}
		if len(msg.logged) > 0 {
			msg.deferred = true
			return
		}
	}
	if !quick.Exists(m.spool.Path(queue.Defer, msg.ID)) {
		return
	}
	if err := m.spool.Remove(queue.Defer, msg.ID); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("remove %s %s: %v", queue.Defer, msg.ID, maillog.Errno(err))
	}
}

func (m *manager) readerOptions(msg *message, n int, first bool) envelope.Options {
	return envelope.Options{
		ID: msg.ID, Path: m.spool.Path(queue.Active, msg.ID), VERPFilter: m.verpFilter, Log: m.log,
		Sender: func(e *envelope.Envelope, rcpts int) {
			m.log.Info("%s: from=<%s>, size=%d, nrcpt=%d (queue active)", msg.ID, m.shown(e.Sender), e.Size.ContentLength, rcpts)
		},
		More: func(have int) bool {
			if have >= n || first && have >= m.rcptMinimum && m.loaded.Load()+m.reading.Load() >= int64(m.rcptLimit) {
				return false
			}
			m.reading.Add(1)
			msg.fresh++
			return true
		},
	}
}

// refill reads at most n more recipients of a message and resolves them. On failure
// the message keeps what it has and is tried again later.
func (m *manager) refill(msg *message, n int) []sched.Routed {
	f, err := m.spool.Open(queue.Active, msg.ID, os.O_RDWR)
	if err == nil {
		defer f.Close()
		var rcpts []deliver.Recipient
		if rcpts, err = msg.env.More(f, m.readerOptions(msg, n, false)); err == nil {
			return m.route(msg, rcpts)
		}
	}
	if errors.Is(err, envelope.ErrCorrupt) {
		err = errors.New("corrupt queue file")
	}
	m.log.Warn("%s: read more recipients: %v", msg.ID, maillog.Errno(err))
	msg.env.Unread = 0
	msg.retryLater = true
	return nil
}

// putBack moves a file out of active, to be looked at again after a delay.
func (m *manager) putBack(id, to string, delay time.Duration) {
	err := m.spool.SetTime(queue.Active, id, time.Now().Add(delay).Truncate(time.Second))
	if err == nil {
		err = m.spool.Move(queue.Active, to, id)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("%s: rename from %s to %s: %v", id, queue.Active, to, maillog.Errno(err))
	}
}

// corrupt moves a damaged file aside.
func (m *manager) corrupt(id string) {
	m.log.Warn("saving corrupt file \"%s\" from queue \"%s\" to queue \"%s\"", id, queue.Active, queue.Corrupt)
	if err := m.spool.Move(queue.Active, queue.Corrupt, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("%s: rename from %s to %s: %v", id, queue.Active, queue.Corrupt, maillog.Errno(err))
	}
}
