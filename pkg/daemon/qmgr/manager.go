package qmgr

import (
	"context"
	"sync/atomic"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/daemon/qmgr/sched"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/crew"
	"posthaste/pkg/sys/flow"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// manager is the queue manager. Fields in the first group are not changed after
// newManager and may be used by any goroutine; those in the second belong to the
// owner goroutine.
type manager struct {
	*settings
	log        *maillog.Logger
	spool      *queue.Spool
	flow       *flow.Control
	transports *transports
	resolver   *resolver
	rewriter   *rewrite.Client
	notices    *bounce.Client
	services   bounce.Services
	verifier   *verify.Client
	flusher    flush.Client
	sites      *table.MatchList // fast_flush_domains; nil: none
	agents     dial.Dialer
	lines      lines // to agents that wait for another request
	events     chan func()
	started    chan struct{} // closed when run takes events
	loaded     atomic.Int64  // recipients that sched knows of
	reading    atomic.Int64  // recipients read that sched does not know of yet
	probes     atomic.Int64  // address probes in memory

	ctx       context.Context
	sched     *sched.Scheduler
	ids       map[string]bool // queue ids being activated or in memory
	readers   pool
	finishers pool
	talkers   *crew.Crew // to delivery agents
	incoming  *scanner
	deferred  *scanner
	favour    bool      // deferred gets the next place
	lastTaken time.Time // from deferred
}

// newManager makes a queue manager; old is for the scheduler of oqmgr.
func newManager(c *conf.Config, log *maillog.Logger, spool *queue.Spool, tokens *flow.Control, old bool) *manager {
	s := load(c, log)
	perMessage := s.rcptMinimum
	if old {
		s.firstBatch = max(1, min(maxBatch, s.rcptLimit*s.fudge/100))
		perMessage = s.firstBatch
	}
	local := dial.Dialer{Dir: spool.Dir(), Timeout: s.ipcTimeout, Log: log}
	m := &manager{
		settings:   s,
		log:        log,
		spool:      spool,
		flow:       tokens,
		transports: &transports{conf: c, log: log, old: old, known: make(map[string]sched.TransportConfig)},
		services:   bounce.ServicesFrom(c),
		flusher:    flush.Client{Dialer: local, Service: c.String("flush_service_name")},
		agents:     dial.Dialer{Dir: spool.Dir(), Timeout: s.daemonTimeout, Log: log},
		events:     make(chan func(), 1024),
		started:    make(chan struct{}),
		ids:        make(map[string]bool),
		readers:    pool{crew: crew.New(), max: maxReaders},
		talkers:    crew.New(),
		finishers:  pool{crew: crew.New(), max: maxFinishers},
	}
	slow := local
	slow.Timeout = noticeTimeout
	m.notices = &bounce.Client{Dialer: slow}
	rc := rewrite.FromConfig(c, log)
	rc.Dialer.Dir, rc.Dialer.Timeout = spool.Dir(), s.ipcTimeout
	rc.MaxConns = maxReaders
	m.rewriter = rewrite.New(rc)
	m.resolver = newResolver(m.rewriter, s.senderDependent)
	vc := verify.FromConfig(c, log)
	vc.Dialer.Dir = spool.Dir()
	m.verifier = verify.New(vc)
	m.sched = sched.New(sched.Config{
		MessageActiveLimit:      s.activeLimit,
		MessageRecipientLimit:   s.rcptLimit,
		MessageRecipientMinimum: perMessage,
		MinimalBackoff:          s.minimalBackoff,
		TransportRetry:          s.transportRetry,
		ClogWarn:                s.clogWarn,
		FeedbackDebug:           s.feedbackDebug,
		MaxPending:              maxPending,
		ErrorService:            s.errorService,
		RetryService:            retryService,
		RoundRobin:              old,
		Transport:               m.transports.get,
		Info:                    log.Info,
		Warn:                    log.Warn,
	})
	m.incoming = newScanner(m, queue.Incoming)
	m.deferred = newScanner(m, queue.Deferred)
	return m
}

// post hands a result to the owner. After the end of run it is dropped: the process
// is about to exit, and everything that matters is on disk.
func (m *manager) post(f func()) {
	select {
	case m.events <- f:
	case <-m.ctx.Done():
	}
}

// run is the owner goroutine.
func (m *manager) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m.ctx = ctx
	m.reclaim()
	go m.incoming.run(ctx)
	go m.deferred.run(ctx)
	close(m.started)
	m.incoming.request(scanFlags{})
	m.deferred.request(scanFlags{})
	again := time.NewTicker(m.runDelay)
	defer again.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m.act()
		m.arm(timer)
		in, def := m.feeds()
		select {
		case f := <-m.events:
			f()
			m.drain()
		case c := <-in:
			m.take(c)
		case c := <-def:
			m.take(c)
		case <-timer.C:
		case <-again.C:
			m.deferred.request(scanFlags{})
			go m.findStrays()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain handles the results that wait already, before deliveries are started.
func (m *manager) drain() {
	for range 64 {
		select {
		case f := <-m.events:
			f()
		default:
			return
		}
	}
}

// arm sets the timer to the scheduler's next deadline.
func (m *manager) arm(timer *time.Timer) {
	d := time.Hour
	if at, ok := m.sched.Deadline(); ok {
		d = max(0, time.Until(at))
	}
	if m.paced() {
		d = min(d, pace)
	}
	timer.Reset(d)
}

// act lets the scheduler go on and does what it asks for.
func (m *manager) act() {
	m.sched.Tick()
	for actions := m.sched.Actions(); len(actions) > 0; actions = m.sched.Actions() {
		for _, a := range actions {
			m.do(a)
		}
	}
	m.loaded.Store(int64(m.sched.Recipients()))
}

func (m *manager) do(a sched.Action) {
	switch a.Kind {
	case sched.Connect:
		m.talkers.Go(func() { m.deliver(a.Transport, a.Delay) })
	case sched.Refill:
		m.readMore(a.Message, a.N)
	case sched.BatchDone:
		m.finish(a.Message)
	case sched.Defer:
		m.finishers.run(func() {
			m.deferAll(a.Entry, a.Reason)
			m.post(func() {
				m.finishers.done()
				m.sched.Deferred(a.Entry)
			})
		})
	}
}

// feeds are the scanners that may deliver a candidate now: none when the active
// queue is full or enough files are being read, else both; when both have one, they
// take turns.
func (m *manager) feeds() (in, def <-chan candidate) {
	if len(m.ids) >= m.activeLimit {
		m.favour = false
		return nil, nil
	}
	if m.readers.busy() {
		return nil, nil
	}
	order := []*scanner{m.incoming, m.deferred}
	switch {
	case m.paced():
		order = order[:1]
	case m.favour:
		order[0], order[1] = order[1], order[0]
	}
	for _, s := range order {
		select {
		case c := <-s.out:
			m.favour = s == m.incoming
			m.take(c)
			return m.ifRoom()
		default:
		}
	}
	return m.ifRoom()
}

// paced tells that deferred mail has to wait a moment: agents have enough to do, and
// what is activated now would only stand before the new mail that comes later. Some
// goes on, for transports whose agents are not the busy ones.
func (m *manager) paced() bool {
	return m.sched.Startable() > enoughFor*m.processLimit && time.Since(m.lastTaken) < pace
}

func (m *manager) ifRoom() (in, def <-chan candidate) {
	if len(m.ids) >= m.activeLimit || m.readers.busy() {
		return nil, nil
	}
	if m.paced() {
		return m.incoming.out, nil
	}
	return m.incoming.out, m.deferred.out
}

// take starts the activation of a file.
func (m *manager) take(c candidate) {
	if m.ids[c.id] {
		return
	}
	m.ids[c.id] = true
	if c.queue == queue.Deferred {
		m.lastTaken = time.Now()
	}
	m.readers.run(func() {
		msg, routed := m.activate(c)
		m.post(func() {
			m.readers.done()
			if msg == nil {
				delete(m.ids, c.id)
				return
			}
			m.admit(msg, routed)
		})
	})
}

// admit hands an activated message to the scheduler.
func (m *manager) admit(msg *message, routed []sched.Routed) {
	m.reading.Add(-int64(msg.fresh))
	msg.fresh = 0
	if msg.unthrottle {
		for _, r := range routed {
			m.sched.Unthrottle(r.Transport, r.Queue)
		}
	}
	m.sched.Add(msg.Message)
	m.sched.Assign(msg.Message, routed, msg.env.Unread)
}

// readMore reads the next recipients of a message.
func (m *manager) readMore(sm *sched.Message, n int) {
	msg := sm.Info.(*message)
	m.readers.run(func() {
		routed := m.refill(msg, n)
		m.post(func() {
			m.readers.done()
			m.reading.Add(-int64(msg.fresh))
			msg.fresh = 0
			m.sched.Assign(sm, routed, msg.env.Unread)
		})
	})
}

// finish does what follows the last delivery of a batch.
func (m *manager) finish(sm *sched.Message) {
	msg := sm.Info.(*message)
	if sm.Deferred {
		msg.deferred = true
	}
	m.finishers.run(func() {
		more := m.complete(msg)
		m.post(func() {
			m.finishers.done()
			if more {
				sm.Deferred = msg.deferred
				m.readMore(sm, m.sched.NextBatch(sm))
				return
			}
			m.sched.Remove(sm)
			if msg.probe {
				m.probes.Add(-1)
			}
			delete(m.ids, sm.ID)
		})
	})
}

// pool runs functions in goroutines, at most max at once; further ones wait. It
// belongs to the owner goroutine: each function posts a call of done when it ends.
type pool struct {
	crew    *crew.Crew
	max     int
	running int
	waiting []func()
}

func (p *pool) busy() bool { return p.running >= p.max }

func (p *pool) run(f func()) {
	if p.running >= p.max {
		p.waiting = append(p.waiting, f)
		return
	}
	p.running++
	p.crew.Go(f)
}

func (p *pool) done() {
	if len(p.waiting) == 0 {
		p.running--
		p.waiting = nil
		return
	}
	f := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	p.crew.Go(f)
}
