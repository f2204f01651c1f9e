package qmgr

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"sync"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// scanFlags say how a scan treats what it finds.
type scanFlags struct {
	all         bool // time stamps do not matter (trigger A)
	ignoreDefer bool // defer_transports does not apply (trigger F)
}

// candidate is a file that may be activated.
type candidate struct {
	queue, id   string
	ignoreDefer bool
}

// scanner streams the files of a queue that are due. The names are never held: the
// scan waits when nobody takes its candidates.
type scanner struct {
	queue string
	out   chan candidate
	m     *manager
	kick  chan struct{}

	mu      sync.Mutex
	pending bool // a scan is asked for
	running bool
	flags   scanFlags // of the running scan, and of requests during it
}

func newScanner(m *manager, name string) *scanner {
	return &scanner{queue: name, m: m, out: make(chan candidate, 8), kick: make(chan struct{}, 1)}
}

// request asks for a scan. During one its flags apply at once, and another follows.
func (s *scanner) request(f scanFlags) {
	s.mu.Lock()
	s.flags.all = s.flags.all || f.all
	s.flags.ignoreDefer = s.flags.ignoreDefer || f.ignoreDefer
	s.pending = true
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default: // the scanner has been told already
	}
}

func (s *scanner) run(ctx context.Context) {
	for {
		select {
		case <-s.kick:
		case <-ctx.Done():
			return
		}
		for s.begin() {
			s.scan(ctx)
		}
		s.m.refillTokens()
	}
}

// begin reports whether a scan was asked for since the last one began.
func (s *scanner) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.pending = s.pending, false
	if !s.running {
		s.flags = scanFlags{}
	}
	return s.running
}

func (s *scanner) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running || s.pending
}

func (s *scanner) now() scanFlags {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flags
}

func (s *scanner) scan(ctx context.Context) {
	for id, err := range s.m.spool.Scan(s.queue) {
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				s.m.log.Warn("scan_dir_push: open directory %s: %v", s.queue, maillog.Errno(err))
			}
			continue
		}
		info, ok := s.m.spool.Ready(s.queue, id)
		if !ok || !s.now().all && !s.m.due(info.ModTime()) {
			continue
		}
		select {
		case s.out <- candidate{s.queue, id, s.now().ignoreDefer}:
		case <-ctx.Done():
			return
		}
	}
}

// due tells whether the time of a file in incoming or deferred has come. We never put
// it off for longer than maximal_backoff_time: a time further away is from before the
// clock was set.
func (m *manager) due(at time.Time) bool {
	wait := time.Until(at)
	return wait <= time.Second || wait > max(m.maximalBackoff, m.minimalBackoff, lockedDelay)+clockSlack
}

// findStrays looks for files in the active queue that nobody works on: one that could
// not be moved elsewhere, because the disk was full for instance, would stay there
// until the next start.
func (m *manager) findStrays() {
	var ids []string
	for id, err := range m.spool.Scan(queue.Active) {
		if err == nil {
			ids = append(ids, id)
		}
	}
	m.post(func() {
		found := false
		for _, id := range ids {
			if m.ids[id] {
				continue
			}
			switch err := m.spool.Move(queue.Active, queue.Incoming, id); {
			case err == nil:
				found = true
			case !errors.Is(err, fs.ErrNotExist):
				m.log.Warn("%s: rename from %s to %s: %v", id, queue.Active, queue.Incoming, maillog.Errno(err))
			}
		}
		if found {
			m.incoming.request(scanFlags{})
		}
	})
}

// trigger acts on the request bytes of public/qmgr (spec §4.1).
func (m *manager) trigger(requests []byte) {
	var f scanFlags
	var in, def bool
	for _, b := range requests {
		switch b {
		case 'W', 'I':
			in = true
		case 'D':
			def = true
		case 'F':
			f.ignoreDefer = true
		case 'A':
			f.all = true
		}
	}
	<-m.started
	if f.ignoreDefer {
		m.resolver.forget()
		done := make(chan struct{})
		m.post(func() { m.sched.UnthrottleAll(); close(done) })
		select {
		case <-done: // before a scan finds something for a dead destination
		case <-m.ctx.Done():
		}
	}
	if in {
		m.incoming.request(f)
	}
	if def {
		m.deferred.request(f)
	}
}

// reclaim moves what a predecessor had in the active queue back to incoming.
func (m *manager) reclaim() {
	for id, err := range m.names(queue.Active) {
		if err != nil {
			continue
		}
		if !queue.ValidID(id) {
			m.log.Warn("qmgr_move: ignored: queue %s id %s", queue.Active, id)
			continue
		}
		if err := m.spool.SetTime(queue.Active, id, time.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("%s: update time stamp: %v", id, maillog.Errno(err))
		}
		if err := m.spool.Move(queue.Active, queue.Incoming, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("%s: rename from %s to %s: %v", id, queue.Active, queue.Incoming, maillog.Errno(err))
		}
	}
}

// names are those of all files in a queue, also of what is no queue file.
func (m *manager) names(q string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		w, err := m.spool.Walk(q)
		if err != nil {
			yield("", err)
			return
		}
		defer w.Close()
		for {
			e, err := w.Next()
			if err == io.EOF || !e.Leave && !yield(e.Name, err) {
				return
			}
		}
	}
}

// returnToken gives cleanup a token for a message that left incoming.
func (m *manager) returnToken() {
	if m.inFlowDelay <= 0 {
		return
	}
	if n, err := m.flow.Count(); err != nil {
		m.log.Warn("%v", err)
	} else if n < m.processLimit {
		m.flow.Put(1)
	}
}

// refillTokens fills the pipe when no scan of incoming is under way.
func (m *manager) refillTokens() {
	if m.inFlowDelay <= 0 || m.incoming.busy() {
		return
	}
	n, err := m.flow.Count()
	switch {
	case err != nil:
		m.log.Warn("%v", err)
	case n < m.processLimit:
		m.flow.Put(m.processLimit - n)
	case n > m.processLimit:
		m.flow.Take(n - m.processLimit)
	}
}
