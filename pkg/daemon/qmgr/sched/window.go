package sched

// Concurrency window of a destination: spec routing.md §4.5.

const hysteresis = 1.0

// positive records a delivery that found the destination well. The delivery still
// counts as busy.
func (s *Scheduler) positive(q *Queue) {
	q.cohorts = 0
	cfg := &q.t.Config
	if q.dead != nil {
		w := q.busy
		if w == 0 {
			w = cfg.InitialConcurrency
		}
		s.revive(q, w)
		return
	}
	limit := cfg.ConcurrencyLimit
	if (limit == 0 || q.window < limit) && q.window < q.busy+cfg.InitialConcurrency {
		fb := cfg.Positive.at(q.window)
		s.debugFeedback(q, "unthrottle", fb)
		q.success += fb
		for q.success+fb/2 >= hysteresis {
			q.window++
			q.success -= hysteresis
			q.failure = 0
			if fb == 0 {
				break
			}
		}
		if limit > 0 && q.window > limit {
			q.window = limit
		}
	}
	s.debugQueue(q, "unthrottle")
}

// negative records a delivery that found the destination in trouble. It returns
// true when the destination is dead now.
func (s *Scheduler) negative(q *Queue, why Reason) bool {
	if q.dead != nil {
		return false
	}
	cfg := &q.t.Config
	q.cohorts += 1 / float64(q.window)
	dead := cfg.FailedCohortLimit > 0 && q.cohorts >= cfg.FailedCohortLimit
	if !dead {
		fb := cfg.Negative.at(q.window)
		s.debugFeedback(q, "throttle", fb)
		q.failure -= fb
		for q.failure-fb/2 < 0 && fb > 0 {
			q.window--
			q.success = 0
			q.failure += hysteresis
		}
		q.window = max(q.window, 1)
	}
	if dead {
		s.kill(q, why)
	}
	s.debugQueue(q, "throttle")
	return dead
}

// kill marks a destination dead for minimal_backoff_time.
func (s *Scheduler) kill(q *Queue, why Reason) {
	q.dead = &why
	q.window = 0
	s.stop(q.timer)
	q.timer = s.after(s.cfg.MinimalBackoff, func() { s.unthrottle(q) })
	s.settle(q)
}

// revive makes a destination usable again with the given window.
func (s *Scheduler) revive(q *Queue, window int) {
	s.stop(q.timer)
	q.timer, q.dead, q.suspended = nil, nil, false
	q.window, q.success, q.failure, q.cohorts = window, 0, 0, 0
	s.settle(q)
}

// unthrottle ends the rest of a dead or suspended destination.
func (s *Scheduler) unthrottle(q *Queue) {
	switch {
	case q.dead != nil:
		s.revive(q, q.t.Config.InitialConcurrency)
	case q.suspended:
		s.stop(q.timer)
		q.timer, q.suspended = nil, false
		s.settle(q)
	}
	s.forget(q)
}

// suspend lets a destination rest between two deliveries (destination_rate_delay).
// A dead destination is revived when that time is over.
func (s *Scheduler) suspend(q *Queue) {
	q.suspended = true
	s.stop(q.timer)
	q.timer = s.after(q.t.Config.DestinationRateDelay, func() { s.unthrottle(q) })
	s.settle(q)
}

func (s *Scheduler) debugFeedback(q *Queue, what string, fb float64) {
	if s.debugs(q.t) {
		s.cfg.Info("qmgr_queue_%s: feedback %.6g", what, fb)
	}
}

func (s *Scheduler) debugQueue(q *Queue, what string) {
	if s.debugs(q.t) {
		s.cfg.Info("qmgr_queue_%s: queue %s: limit %d window %d success %.6g failure %.6g fail_cohorts %.6g",
			what, q.Name, q.t.Config.ConcurrencyLimit, q.window, q.success, q.failure, q.cohorts)
	}
}

func (s *Scheduler) debugs(t *Transport) bool {
	return s.cfg.FeedbackDebug && t.Name != s.cfg.ErrorService && t.Name != s.cfg.RetryService
}
