package sched

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/pkg/ipc/deliver"
)

// defaults are Postfix's.
func defaults() TransportConfig {
	one := Feedback{Base: 1, Param: "x"}
	return TransportConfig{ConcurrencyLimit: 20, RecipientLimit: 50, InitialConcurrency: 5, Positive: one, Negative: one,
		FailedCohortLimit: 1, SlotCost: 5, SlotLoan: 3, SlotDiscount: 50, MinimumSlots: 3,
		RecipientPool: 20000, ExtraRecipients: 1000, RefillLimit: 100, RefillDelay: 5 * time.Second}
}

func config(cfg func(name string) TransportConfig) Config {
	return Config{MessageActiveLimit: 20000, MessageRecipientLimit: 20000, MessageRecipientMinimum: 10,
		MinimalBackoff: 300 * time.Second, TransportRetry: 60 * time.Second, RetryService: "retry", ErrorService: "error",
		MaxPending: 2, Transport: cfg}
}

func plain(string) TransportConfig { return defaults() }

func rcpt(transport, dest, user string) Routed {
	return Routed{Recipient: deliver.Recipient{Address: user + "@" + dest}, Transport: transport, Queue: dest, Nexthop: dest}
}

func message(s *Scheduler, id string, rcpts ...Routed) *Message {
	m := &Message{ID: id, Activated: time.Now()}
	s.Add(m)
	s.Assign(m, rcpts, 0)
	return m
}

// step performs the wanted connections and returns what was started and what else
// is to be done.
func step(s *Scheduler) (started []*Entry, other []Action) {
	for {
		s.Tick()
		actions := s.Actions()
		if len(actions) == 0 {
			return started, other
		}
		for _, a := range actions {
			if a.Kind != Connect {
				other = append(other, a)
			} else if e := s.Ready(a.Transport); e != nil {
				started = append(started, e)
			}
		}
	}
}

var (
	success = Result{}
	site    = Result{Incomplete: true, HasReason: true, Destination: &Reason{"4.4.1", "delivery temporarily suspended: refused"}}
)

func kinds(actions []Action) string {
	var b strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&b, "%d", a.Kind)
	}
	return b.String()
}

func TestDelivery(t *testing.T) {
	s := New(config(plain))
	m := message(s, "A", rcpt("smtp", "x.example", "a"), rcpt("smtp", "x.example", "b"), rcpt("smtp", "y.example", "c"))
	started, other := step(s)
	if len(started) != 2 || len(other) != 0 {
		t.Fatalf("started %d, other %v", len(started), other)
	}
	if e := started[0]; len(e.Recipients) != 2 || e.Nexthop() != "x.example" || e.Transport() != "smtp" {
		t.Errorf("first request: %+v", e)
	}
	s.Done(started[0], success)
	if _, other = step(s); len(other) != 0 {
		t.Fatalf("done too early")
	}
	s.Done(started[1], Result{Incomplete: true})
	if _, other = step(s); kinds(other) != "2" || !m.Deferred {
		t.Fatalf("no BatchDone: %v, deferred %v", other, m.Deferred)
	}
	s.Remove(m)
	if s.Messages() != 0 || s.Recipients() != 0 || s.queues != 0 {
		t.Errorf("left: %d messages, %d recipients, %d queues", s.Messages(), s.Recipients(), s.queues)
	}
}

func TestRecipientLimitAndVERP(t *testing.T) {
	s := New(config(func(string) TransportConfig {
		c := defaults()
		c.RecipientLimit = 2
		return c
	}))
	var rcpts []Routed
	for i := range 5 {
		rcpts = append(rcpts, rcpt("smtp", "x", fmt.Sprint(i)))
	}
	message(s, "A", rcpts...)
	if started, _ := step(s); len(started) != 3 {
		t.Errorf("%d requests for 5 recipients with limit 2", len(started))
	}
	m := &Message{ID: "B", OneByOne: true}
	s.Add(m)
	s.Assign(m, rcpts[:2], 0)
	if started, _ := step(s); len(started) != 2 {
		t.Errorf("%d requests for 2 VERP recipients", len(started))
	}
}

// The windows that spec §4.5 gives for the default feedback.
func TestWindow(t *testing.T) {
	cfg := defaults()
	cfg.FailedCohortLimit = 0
	s := New(config(func(string) TransportConfig { return cfg }))
	tr := s.transport("smtp")
	q := s.queue(tr, "x", "x")
	want := func(n int) {
		t.Helper()
		if q.window != n {
			t.Fatalf("window %d, want %d", q.window, n)
		}
	}
	want(5)
	s.negative(q, Reason{})
	want(3)
	s.negative(q, Reason{})
	want(2)
	s.negative(q, Reason{})
	s.negative(q, Reason{})
	want(1)
	for n := 2; n <= 5; n++ {
		q.busy = q.window
		s.positive(q)
		want(n)
	}
	q.busy = 0
	s.positive(q) // window not below busy + initial concurrency
	want(5)
	for range 50 {
		q.busy = q.window
		s.positive(q)
	}
	want(20)
}

func TestFeedbackValues(t *testing.T) {
	for _, c := range []struct {
		text string
		want Feedback
		bad  bool
	}{
		{"1", Feedback{Base: 1}, false}, {"0.25", Feedback{Base: .25}, false}, {"1/4", Feedback{Base: .25}, false},
		{"1/concurrency", Feedback{Base: 1, PerConcurrency: true}, false}, {"0", Feedback{}, false},
		{"2", Feedback{Base: 1}, true}, {"-1", Feedback{Base: 1}, true}, {"x", Feedback{Base: 1}, true}, {"1/0", Feedback{Base: 1}, true}, {"NaN", Feedback{Base: 1}, true},
	} {
		got, err := ParseFeedback("", c.text)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
	if f := (Feedback{Base: 1, PerConcurrency: true}); f.at(4) != .25 {
		t.Errorf("1/concurrency at 4: %g", f.at(4))
	}
}

func TestDeadDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(config(plain))
		var ms []*Message
		for i := range 7 {
			ms = append(ms, message(s, fmt.Sprint(i), rcpt("smtp", "x", "u")))
		}
		started, _ := step(s)
		if len(started) != 5 {
			t.Fatalf("%d started", len(started))
		}
		for i, e := range started[:3] {
			s.Done(e, site)
			if dead := s.transports["smtp"].queues["x"].dead != nil; dead != (i == 2) {
				t.Fatalf("after %d failures: dead %v", i+1, dead)
			}
		}
		moved, _ := step(s)
		if len(moved) != 2 || moved[0].Transport() != "retry" || moved[0].Nexthop() != "4.4.1 delivery temporarily suspended: refused" {
			t.Fatalf("diverted: %+v", moved)
		}
		late := message(s, "late", rcpt("smtp", "x", "u"))
		if again, _ := step(s); len(again) != 1 || again[0].Transport() != "retry" {
			t.Fatalf("assigned to a dead destination: %+v", again)
		}
		// A good delivery that was under way revives it with the busy number.
		s.Done(started[3], success)
		if q := s.transports["smtp"].queues["x"]; q.dead != nil || q.window != 2 {
			t.Fatalf("not revived: %+v", q)
		}
		s.Done(started[4], Result{Outcome: Unreplied})
		if !started[4].Message.Deferred {
			t.Error("no reply, and not deferred")
		}
		_, _ = late, ms
	})
}

func TestReviveByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(config(plain))
		s.cfg.MinimalBackoff = 300 * time.Second
		m := message(s, "A", rcpt("smtp", "x", "u"))
		for range 3 {
			started, _ := step(s)
			if len(started) != 1 {
				t.Fatal("not started")
			}
			s.Done(started[0], site)
			step(s)
			s.Remove(m)
			if q := s.transports["smtp"].queues["x"]; q != nil && q.dead == nil {
				t.Fatal("idle destination not forgotten")
			}
			m = message(s, "A", rcpt("smtp", "x", "u"))
		}
		cfg := s.transports["smtp"]
		cfg.Config.FailedCohortLimit = 0.1
		started, _ := step(s)
		s.Done(started[0], site)
		if at, ok := s.Deadline(); !ok || time.Until(at) != 300*time.Second {
			t.Fatalf("deadline %v %v", time.Until(at), ok)
		}
		time.Sleep(301 * time.Second)
		s.Tick()
		if s.queues != 0 {
			t.Fatalf("%d destinations left", s.queues)
		}
	})
}

func TestDeadTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(config(plain))
		m := message(s, "A", rcpt("smtp", "x", "u"), rcpt("smtp", "y", "v"))
		a := s.Actions()
		if len(a) == 0 {
			t.Fatal("no connection wanted")
		}
		for _, a := range a {
			s.ConnectFailed(a.Transport, Reason{"4.3.0", "mail transport unavailable"})
		}
		started, _ := step(s)
		// x and y become one destination of retry, but stay two requests.
		if len(started) != 2 || started[0].Transport() != "retry" || started[0].Nexthop() != "4.3.0 mail transport unavailable" {
			t.Fatalf("%+v", started)
		}
		for _, e := range started {
			s.Done(e, Result{Incomplete: true})
		}
		step(s)
		s.Remove(m)
		// The retry transport dead as well: deferred on the spot.
		s.killTransport(s.transports["retry"], Reason{"4.3.0", "mail transport unavailable"})
		m = message(s, "B", rcpt("smtp", "x", "u"))
		started, other := step(s)
		if len(started) != 0 || kinds(other) != "3" || other[0].Reason.Text != "mail transport unavailable" {
			t.Fatalf("%+v %+v", started, other)
		}
		s.Deferred(other[0].Entry)
		if _, other = step(s); kinds(other) != "2" || !m.Deferred {
			t.Fatalf("%+v", other)
		}
		s.Remove(m)
		time.Sleep(61 * time.Second)
		s.Tick()
		message(s, "C", rcpt("smtp", "x", "u"))
		if started, _ = step(s); len(started) != 1 || started[0].Transport() != "smtp" {
			t.Fatalf("transport not revived: %+v", started)
		}
	})
}

func TestUnsentIsRetried(t *testing.T) {
	s := New(config(plain))
	message(s, "A", rcpt("smtp", "x", "u"))
	started, _ := step(s)
	s.Done(started[0], Result{Outcome: Unsent})
	if started, _ = step(s); len(started) != 1 || started[0].Transport() != "retry" {
		t.Fatalf("%+v", started)
	}
}

// Killing the retry transport under waiting requests defers them.
func TestRetryDies(t *testing.T) {
	s := New(config(func(string) TransportConfig {
		c := defaults()
		c.ConcurrencyLimit = 1
		return c
	}))
	for i := range 3 {
		message(s, fmt.Sprint(i), rcpt("retry", "4.0.0 x", "u"))
	}
	started, _ := step(s)
	s.Done(started[0], Result{Outcome: Unsent})
	_, other := step(s)
	if kinds(other) != "333" {
		t.Fatalf("%s", kinds(other))
	}
	for _, a := range other {
		s.Deferred(a.Entry)
	}
	if _, other = step(s); kinds(other) != "222" {
		t.Fatalf("%s", kinds(other))
	}
}

func TestRateDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(config(func(string) TransportConfig {
			c := defaults()
			c.DestinationRateDelay = 10 * time.Second
			return c
		}))
		for i := range 2 {
			message(s, fmt.Sprint(i), rcpt("smtp", "x", "u"))
		}
		started, _ := step(s)
		if len(started) != 1 {
			t.Fatalf("%d at once", len(started))
		}
		s.Done(started[0], success)
		if started, _ = step(s); len(started) != 0 {
			t.Fatal("no rest between deliveries")
		}
		time.Sleep(10 * time.Second)
		if started, _ = step(s); len(started) != 1 {
			t.Fatal("not resumed")
		}
		s.Done(started[0], success)
		time.Sleep(10 * time.Second)
		if s.Tick(); s.queues != 0 {
			t.Fatalf("%d destinations left", s.queues)
		}
	})
}

func TestTransportRateDelay(t *testing.T) {
	s := New(config(func(string) TransportConfig {
		c := defaults()
		c.TransportRateDelay = time.Second
		return c
	}))
	message(s, "A", rcpt("smtp", "x", "u"))
	message(s, "B", rcpt("smtp", "y", "u"))
	a := s.Actions()
	if len(a) != 1 || a[0].Delay != time.Second {
		t.Fatalf("%+v", a)
	}
	e := s.Ready(a[0].Transport)
	if more := s.Actions(); len(more) != 0 {
		t.Fatalf("a second one during the first: %+v", more)
	}
	s.Done(e, Result{Outcome: Unreplied})
	if more := s.Actions(); kinds(more) != "20" {
		t.Fatalf("locked for ever: %+v", more)
	}
}

// A small message overtakes a big one that has been served for a while.
func TestPreemption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := defaults()
		cfg.RecipientLimit, cfg.ConcurrencyLimit, cfg.InitialConcurrency = 1, 1, 1
		cfg.SlotLoan, cfg.SlotDiscount = 0, 0
		s := New(config(func(string) TransportConfig { return cfg }))
		var big []Routed
		for i := range 100 {
			big = append(big, rcpt("local", "d", fmt.Sprint(i)))
		}
		message(s, "big", big...)
		serve := func() string {
			started, _ := step(s)
			if len(started) != 1 {
				t.Fatalf("%d started", len(started))
			}
			id := started[0].Message.ID
			s.Done(started[0], success)
			return id
		}
		time.Sleep(time.Second)
		if id := serve(); id != "big" {
			t.Fatal(id)
		}
		message(s, "small", rcpt("local", "d", "s"))
		served := 0
		for served = 1; serve() == "big"; served++ {
			if served > 20 {
				t.Fatal("never preempted")
			}
		}
		// One delivery slot costs five deliveries of the big message.
		if served < 4 || served > 6 {
			t.Errorf("preempted after %d deliveries", served)
		}
		if id := serve(); id != "big" {
			t.Errorf("big message not resumed: %s", id)
		}
	})
}

func TestNoPreemptionWithoutCost(t *testing.T) {
	cfg := defaults()
	cfg.RecipientLimit, cfg.ConcurrencyLimit, cfg.SlotCost = 1, 1, 0
	s := New(config(func(string) TransportConfig { return cfg }))
	var big []Routed
	for i := range 40 {
		big = append(big, rcpt("local", "d", fmt.Sprint(i)))
	}
	message(s, "big", big...)
	message(s, "small", rcpt("local", "d", "s"))
	for i := range 41 {
		started, _ := step(s)
		if id := started[0].Message.ID; (id == "small") != (i == 40) {
			t.Fatalf("delivery %d: %s", i, id)
		}
		s.Done(started[0], success)
	}
}

func TestRefill(t *testing.T) {
	s := New(config(func(string) TransportConfig {
		c := defaults()
		c.RecipientPool, c.RefillLimit = 50, 20
		return c
	}))
	m := &Message{ID: "A"}
	s.Add(m)
	var first []Routed
	for i := range 60 {
		first = append(first, rcpt("smtp", "x"+fmt.Sprint(i), "u"))
	}
	s.Assign(m, first, 200)
	if m.limit != 60 {
		t.Fatalf("limit %d, want minimum 10 + pool 50", m.limit)
	}
	started, other := step(s)
	if len(started) != 60 || len(other) != 0 {
		t.Fatalf("%d started, %v", len(started), other)
	}
	for i, e := range started {
		s.Done(e, success)
		if _, other = step(s); len(other) > 0 {
			if i != 19 || other[0].Kind != Refill || other[0].N != 20 {
				t.Fatalf("after %d: %+v", i+1, other)
			}
			break
		}
	}
	// All are done before the refill arrives: the message must not end.
	for _, e := range started[20:] {
		s.Done(e, success)
	}
	if _, other = step(s); len(other) != 0 {
		t.Fatalf("%+v", other)
	}
	s.Assign(m, nil, 0)
	if _, other = step(s); kinds(other) != "2" {
		t.Fatalf("%+v", other)
	}
	s.Remove(m)
	if free := s.transports["smtp"].free; free != 50 {
		t.Errorf("pool %d after the end", free)
	}
}

// Random traffic: everything ends, limits hold, counters return to zero.
func TestRandomTraffic(t *testing.T) {
	for seed := range int64(20) {
		synctest.Test(t, func(t *testing.T) { traffic(t, seed) })
	}
}

func traffic(t *testing.T, seed int64) {
	r := rand.New(rand.NewSource(seed))
	cfg := defaults()
	cfg.ConcurrencyLimit, cfg.RecipientPool, cfg.RefillLimit = 1+r.Intn(6), 5+r.Intn(60), 1+r.Intn(10)
	cfg.RecipientLimit = r.Intn(4)
	if seed%5 == 0 {
		cfg.DestinationRateDelay = time.Second
	}
	s := New(config(func(string) TransportConfig { return cfg }))
	s.cfg.MessageRecipientLimit = 40
	type state struct {
		m    *Message
		rest []Routed
	}
	states := make(map[*Message]*state)
	var busy, deferring []*Entry
	var reads []*state
	var readN []int
	delivered, wanted, removed := 0, 0, 0
	assign := func(st *state, n int) {
		n = min(n, len(st.rest))
		batch := append([]Routed(nil), st.rest[:n]...)
		st.rest = st.rest[n:]
		s.Assign(st.m, batch, len(st.rest))
	}
	const total = 60
	made := 0
	for turn := 0; removed < total; turn++ {
		if turn > 200000 {
			t.Fatalf("seed %d: stuck: %d of %d removed, %d busy, %d reads", seed, removed, total, len(busy), len(reads))
		}
		if made < total && r.Intn(3) == 0 {
			made++
			st := &state{m: &Message{ID: fmt.Sprint(made), Activated: time.Now(), OneByOne: r.Intn(10) == 0}}
			for i := range 1 + r.Intn(1+r.Intn(120)) {
				st.rest = append(st.rest, rcpt([]string{"smtp", "local"}[r.Intn(2)], fmt.Sprint("d", r.Intn(7)), fmt.Sprint(i)))
			}
			wanted += len(st.rest)
			states[st.m] = st
			s.Add(st.m)
			assign(st, 1+r.Intn(30))
		}
		time.Sleep(time.Duration(r.Intn(2000)) * time.Millisecond)
		s.Tick()
		for _, a := range s.Actions() {
			switch a.Kind {
			case Connect:
				if r.Intn(200) == 0 {
					s.ConnectFailed(a.Transport, Reason{"4.3.0", "gone"})
				} else if e := s.Ready(a.Transport); e != nil {
					busy = append(busy, e)
				}
			case Refill:
				reads, readN = append(reads, states[a.Message]), append(readN, a.N)
			case Defer:
				deferring = append(deferring, a.Entry)
			case BatchDone:
				if st := states[a.Message]; len(st.rest) > 0 {
					reads, readN = append(reads, st), append(readN, s.NextBatch(a.Message))
				} else {
					s.Remove(a.Message)
					removed++
				}
			}
		}
		if len(reads) > 0 && r.Intn(2) == 0 {
			st, n := reads[0], readN[0]
			reads, readN = reads[1:], readN[1:]
			assign(st, n)
		}
		if len(deferring) > 0 {
			delivered += len(deferring[0].Recipients)
			s.Deferred(deferring[0])
			deferring = deferring[1:]
		}
		for n := r.Intn(4); n > 0 && len(busy) > 0; n-- {
			i := r.Intn(len(busy))
			e := busy[i]
			busy = append(busy[:i], busy[i+1:]...)
			res := success
			switch r.Intn(12) {
			case 0, 1:
				res = site
			case 2:
				res = Result{Outcome: Unreplied}
			case 3:
				res = Result{Incomplete: true}
			case 4:
				res = Result{Outcome: Unsent}
			}
			if res.Outcome != Unsent {
				delivered += len(e.Recipients)
			}
			s.Done(e, res)
		}
		check(t, s)
	}
	if delivered != wanted {
		t.Errorf("seed %d: %d recipients handled, %d wanted", seed, delivered, wanted)
	}
	if s.Messages() != 0 || s.Recipients() != 0 {
		t.Errorf("seed %d: %d messages, %d recipients left", seed, s.Messages(), s.Recipients())
	}
	for _, tr := range s.rotation {
		if tr.free != cfg.RecipientPool || tr.order.head != nil || tr.unread.head != nil || tr.pending != 0 || tr.ready != 0 {
			t.Errorf("seed %d: %s: pool %d of %d, list %v, pending %d, ready %d", seed, tr.Name, tr.free, cfg.RecipientPool, tr.order.head, tr.pending, tr.ready)
		}
	}
	time.Sleep(time.Hour)
	s.Tick()
	if s.queues != 0 || len(s.timers) != 0 {
		t.Errorf("seed %d: %d queues, %d timers left", seed, s.queues, len(s.timers))
	}
}

// check verifies the counters that are kept incrementally.
func check(t *testing.T, s *Scheduler) {
	t.Helper()
	all := 0
	for _, tr := range s.rotation {
		all += tr.ready
	}
	if all != s.Startable() {
		t.Fatalf("%d startable, counted %d", all, s.Startable())
	}
	for _, tr := range s.rotation {
		ready := 0
		for _, q := range tr.queues {
			if q.busy > tr.Config.ConcurrencyLimit {
				t.Fatalf("%s: %d busy, limit %d", q.Name, q.busy, tr.Config.ConcurrencyLimit)
			}
			waiting := 0
			for e := q.peers.head; e != nil; e = e.next {
				waiting += len(e.v.wait)
			}
			if waiting != q.waiting || q.busy < 0 {
				t.Fatalf("%s: %d waiting, counted %d, busy %d", q.Name, waiting, q.waiting, q.busy)
			}
			if q.dead != nil && waiting > 0 {
				t.Fatalf("%s is dead and has %d waiting", q.Name, waiting)
			}
			ready += q.ready
		}
		if ready != tr.ready {
			t.Fatalf("%s: ready %d, counted %d", tr.Name, ready, tr.ready)
		}
		jobs := 0
		for e := tr.order.head; e != nil; e = e.next {
			jobs++
			if jobs > 10000 {
				t.Fatal("loop in the job list")
			}
			if p := e.v.parent; p != nil && (p.pos.in == nil || p.level >= e.v.level) {
				t.Fatalf("job %s level %d on %s level %d", e.v.m.ID, e.v.level, p.m.ID, p.level)
			}
		}
	}
}

func BenchmarkThroughput(b *testing.B) {
	s := New(config(plain))
	s.cfg.MaxPending = 16
	for i := range 2000 {
		message(s, fmt.Sprint(i), rcpt("smtp", fmt.Sprint("d", i%50), "u"))
	}
	var busy []*Entry
	b.ResetTimer()
	for i := range b.N {
		started, other := step(s)
		busy = append(busy, started...)
		e := busy[0]
		busy = busy[1:]
		s.Done(e, success)
		for _, a := range other {
			if a.Kind == BatchDone {
				s.Remove(a.Message)
			}
		}
		message(s, "n", rcpt("smtp", fmt.Sprint("d", i%50), "u"))
	}
}
