package sched

import (
	"maps"
	"slices"
	"time"
)

// Scheduler is the whole scheduling state. It is not safe for concurrent use.
type Scheduler struct {
	cfg        Config
	transports map[string]*Transport
	rotation   []*Transport // round robin of connection requests
	turn       int
	messages   int
	rcpts      int
	queues     int
	ready      int // requests that could start now, of all transports
	restingN   int // destinations that are dead and idle
	out        []Action
	timers     timers
}

// New returns an empty scheduler.
func New(cfg Config) *Scheduler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Info == nil {
		cfg.Info = func(string, ...any) {}
	}
	if cfg.Warn == nil {
		cfg.Warn = func(string, ...any) {}
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 2
	}
	return &Scheduler{cfg: cfg, transports: make(map[string]*Transport)}
}

// Messages is the number of messages between Add and Remove.
func (s *Scheduler) Messages() int { return s.messages }

// Recipients is the number of recipients in memory.
func (s *Scheduler) Recipients() int { return s.rcpts }

// Startable is the number of requests that wait for nothing but an agent.
func (s *Scheduler) Startable() int { return s.ready }

// Add takes a message into memory. Its first recipients come with Assign.
func (s *Scheduler) Add(m *Message) {
	m.limit = s.cfg.MessageRecipientMinimum
	m.reading = true
	s.messages++
}

// Assign hands over a batch of recipients of m, sorted so that those of one
// destination stand together; unread is how many are left in the file. An empty
// batch is allowed; when nothing of m is in memory then, BatchDone follows.
func (s *Scheduler) Assign(m *Message, batch []Routed, unread int) {
	now := s.cfg.Now()
	m.reading, m.away = false, false
	m.unread, m.lastRead = unread, now
	touched := make([]*Job, 0, 2)
	var last *Entry
	for i := 0; i < len(batch); {
		r := &batch[i]
		n := i + 1
		for n < len(batch) && batch[n].Transport == r.Transport && batch[n].Queue == r.Queue {
			n++
		}
		last = nil
		for ; i < n; i++ {
			last = s.place(m, &batch[i], last, n-i)
			if last == nil {
				continue
			}
			if j := last.p.j; len(touched) == 0 || touched[len(touched)-1] != j {
				touched = append(touched, j)
			}
		}
	}
	for _, j := range touched {
		s.link(j)
	}
	s.balance(m)
	s.check(m)
}

// place puts one recipient into an entry: last, when that one still fits, or a
// new one. It is the first of so many for this destination. The result is nil
// when the recipient can only be deferred on the spot.
func (s *Scheduler) place(m *Message, r *Routed, last *Entry, left int) *Entry {
	q, why := s.target(r)
	if q == nil {
		e := &Entry{Message: m, Recipients: []Recipient{r.Recipient}}
		m.entries++
		m.rcpts++
		s.rcpts++
		s.out = append(s.out, Action{Kind: Defer, Message: m, Entry: e, Reason: why})
		return nil
	}
	limit := q.t.Config.RecipientLimit
	if last == nil || last.p.q != q || m.OneByOne || (limit > 0 && len(last.Recipients) >= limit) {
		last = s.newEntry(m, q)
		last.room(left, limit)
	}
	last.Recipients = append(last.Recipients, r.Recipient)
	last.p.j.rcpts++
	m.rcpts++
	s.rcpts++
	return last
}

// target finds the queue for a recipient, going to the retry transport when the
// wanted transport or destination is dead. Without a queue the reason is given.
func (s *Scheduler) target(r *Routed) (*Queue, Reason) {
	t := s.transport(r.Transport)
	if t.dead != nil {
		return s.retryQueue(*t.dead)
	}
	q := s.queue(t, r.Queue, r.Nexthop)
	if q.dead == nil {
		return q, Reason{}
	}
	return s.retryQueue(*q.dead)
}

// retryQueue is the retry transport's queue for a reason, or nil when the retry
// transport cannot be used either.
func (s *Scheduler) retryQueue(why Reason) (*Queue, Reason) {
	t := s.transport(s.cfg.RetryService)
	if t.dead != nil {
		return nil, why
	}
	q := s.queue(t, lower(why.nexthop()), why.nexthop())
	if q.dead != nil {
		return nil, why
	}
	return q, why
}

func (s *Scheduler) transport(name string) *Transport {
	t := s.transports[name]
	if t != nil {
		return t
	}
	set := s.cfg.Transport(name)
	t = &Transport{Name: name, Config: set.normal(), queues: make(map[string]*Queue), blocker: 1}
	t.free = t.Config.RecipientPool
	s.transports[name] = t
	s.rotation = append(s.rotation, t)
	if s.cfg.FeedbackDebug {
		for _, f := range []Feedback{t.Config.Positive, t.Config.Negative} {
			s.cfg.Info("%s: %s feedback type %d value at %d: %.6g", name, f.Param, f.kind(), set.InitialConcurrency, f.at(set.InitialConcurrency))
		}
	}
	return t
}

func (s *Scheduler) queue(t *Transport, name, nexthop string) *Queue {
	q := t.queues[name]
	if q != nil {
		return q
	}
	if s.queues >= 2*s.cfg.MessageRecipientLimit && s.restingN > 0 {
		s.dropResting()
	}
	q = &Queue{Name: name, Nexthop: nexthop, t: t, window: t.Config.InitialConcurrency}
	t.queues[name] = q
	s.queues++
	return q
}

// dropResting forgets all dead destinations that have no mail waiting, so that
// their number stays bounded.
func (s *Scheduler) dropResting() {
	for _, t := range s.rotation {
		for _, q := range slices.Collect(maps.Values(t.queues)) {
			if q.dead != nil && q.waiting == 0 && q.busy == 0 {
				s.unthrottle(q)
			}
		}
	}
	s.restingN = 0
}

// forget drops a destination that has no state worth keeping.
func (s *Scheduler) forget(q *Queue) {
	if q.waiting+q.busy > 0 {
		return
	}
	if q.dead != nil || q.suspended {
		s.restingN++ // an upper estimate: it is only a hint for queue
		return
	}
	if q.t.queues[q.Name] == q {
		delete(q.t.queues, q.Name)
		s.queues--
	}
}

// settle brings the counters of what is startable up to date after anything about
// a queue changed.
func (s *Scheduler) settle(q *Queue) {
	n := 0
	if q.dead == nil && !q.suspended {
		n = max(0, min(q.window-q.busy, q.waiting))
	}
	q.t.ready += n - q.ready
	s.ready += n - q.ready
	q.ready = n
	if s.cfg.RoundRobin {
		q.takeTurns()
	}
	if n > 0 && q.blocker == q.t.blocker {
		q.t.unblock()
	}
}

// Actions returns what is to be done now, and forgets it.
func (s *Scheduler) Actions() []Action {
	s.connect()
	out := s.out
	s.out = nil
	return out
}

// connect asks for agent connections, transport by transport.
func (s *Scheduler) connect() {
	n := len(s.rotation)
	for asked := true; asked; {
		asked = false
		for i := range n {
			t := s.rotation[(s.turn+i)%n]
			if t.dead != nil || t.locked || t.pending >= s.cfg.MaxPending || t.ready <= t.pending {
				continue
			}
			t.pending++
			asked = true
			t.locked = t.Config.TransportRateDelay > 0
			s.out = append(s.out, Action{Kind: Connect, Transport: t, Delay: t.Config.TransportRateDelay})
		}
	}
	if n > 0 {
		s.turn = (s.turn + 1) % n
	}
}

// Ready tells that a connection asked for has greeted. The result is the request
// to send on it, or nil when nothing is startable any more: close it then.
func (s *Scheduler) Ready(t *Transport) *Entry {
	t.pending--
	var e *Entry
	if t.dead == nil {
		e = s.next(t)
	}
	if e == nil {
		t.locked = false
	}
	return e
}

// ConnectFailed tells that no usable connection could be made.
func (s *Scheduler) ConnectFailed(t *Transport, why Reason) {
	t.pending--
	t.locked = false
	s.killTransport(t, why)
}

// killTransport marks t dead for transport_retry_time and sends all that waits for
// it to the retry transport.
func (s *Scheduler) killTransport(t *Transport, why Reason) {
	if t.dead != nil {
		return
	}
	t.dead = &why
	t.timer = s.after(s.cfg.TransportRetry, func() { s.reviveTransport(t) })
	for _, name := range slices.Sorted(maps.Keys(t.queues)) {
		s.divert(t.queues[name], why)
	}
}

func (s *Scheduler) reviveTransport(t *Transport) {
	s.stop(t.timer)
	t.timer, t.dead = nil, nil
}

// UnthrottleAll forgets that any transport or destination was dead (trigger F).
func (s *Scheduler) UnthrottleAll() {
	for _, t := range s.rotation {
		s.reviveTransport(t)
		for _, q := range slices.Collect(maps.Values(t.queues)) {
			if q.dead != nil {
				s.unthrottle(q)
			}
		}
	}
}

// Unthrottle does the same for one destination (single message flush).
func (s *Scheduler) Unthrottle(transport, queue string) {
	t := s.transports[transport]
	if t == nil {
		return
	}
	s.reviveTransport(t)
	if q := t.queues[queue]; q != nil && q.dead != nil {
		s.unthrottle(q)
	}
}

// Outcome says how far a delivery came.
type Outcome int

const (
	Replied   Outcome = iota // the agent gave a complete final reply
	Unsent                   // the request could not be written: the agent has nothing
	Unreplied                // the request was written, no well-formed reply came
)

// Result is the end of a delivery. Destination is set when the agent blames the
// destination (DSN part of the reply); it must be a valid 4.x.x or 5.x.x code then.
type Result struct {
	Outcome     Outcome
	Incomplete  bool // reply status not 0: something is to be tried again
	Destination *Reason
	HasReason   bool // the reply's reason was not empty
}

// Done tells that the delivery of e ended.
func (s *Scheduler) Done(e *Entry, r Result) {
	q := e.p.q
	t := q.t
	t.locked = false
	if r.Outcome == Unsent {
		s.unstart(e)
		why := Reason{"4.3.0", "mail transport unavailable"}
		s.killTransport(t, why)
		s.divert(q, why)
		return
	}
	if r.Outcome == Unreplied || r.Incomplete {
		e.Message.Deferred = true
	}
	died := false
	if r.Outcome == Replied {
		s.reviveTransport(t)
		if r.Incomplete && r.Destination != nil {
			died = s.negative(q, *r.Destination)
		}
		if !r.HasReason {
			s.positive(q)
		}
	}
	q.busy--
	e.p.busy--
	q.lastDone = s.cfg.Now().Unix()
	if t.Config.DestinationRateDelay > 0 {
		s.suspend(q)
	}
	s.settle(q)
	if died {
		s.divert(q, *r.Destination)
	}
	s.release(e)
	s.forget(q)
}

// Deferred tells that the recipients of a Defer action are written down.
func (s *Scheduler) Deferred(e *Entry) {
	e.Message.Deferred = true
	s.release(e)
}

// release ends the life of a request.
func (s *Scheduler) release(e *Entry) {
	m, n := e.Message, len(e.Recipients)
	m.entries--
	m.rcpts -= n
	s.rcpts -= n
	if p := e.p; p != nil {
		p.j.rcpts -= n
		s.dropPeer(p)
		s.trim(p.j)
		s.share(p.j.t)
		s.refill(p.j, false)
	}
	s.check(m)
}

// check reports a message with nothing left in memory.
func (s *Scheduler) check(m *Message) {
	if m.entries == 0 && !m.reading && !m.away {
		m.away = true
		s.out = append(s.out, Action{Kind: BatchDone, Message: m})
	}
}

// NextBatch is called after BatchDone for a message with unread recipients: the
// result is how many to read before Assign.
func (s *Scheduler) NextBatch(m *Message) int {
	m.reading, m.away = true, false
	return min(maxBatch, max(1, m.limit-m.rcpts))
}

// Remove takes a message out of memory. Nothing of it may be waiting or busy.
func (s *Scheduler) Remove(m *Message) {
	for _, j := range m.jobs {
		s.unlink(j)
		j.upos.remove()
		j.t.free += j.limit
		m.limit -= j.limit
		j.limit = 0
		s.share(j.t)
	}
	m.jobs = nil
	s.messages--
}

func lower(text string) string {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
