package master

import "time"

// timer runs a function of the loop at a time.
type timer struct {
	at time.Time
	do func()
}

// timers are the loop's; there are a few dozen at most.
type timers struct{ list []*timer }

// start adds a timer.
func (ts *timers) start(at time.Time, do func()) *timer {
	t := &timer{at, do}
	ts.list = append(ts.list, t)
	return t
}

// stop removes one; nil is allowed.
func (ts *timers) stop(t *timer) {
	for i, x := range ts.list {
		if x == t {
			ts.list = append(ts.list[:i], ts.list[i+1:]...)
			return
		}
	}
}

// run runs what is due, in order of time.
func (ts *timers) run(now time.Time) {
	for {
		var due *timer
		for _, t := range ts.list {
			if !t.at.After(now) && (due == nil || t.at.Before(due.at)) {
				due = t
			}
		}
		if due == nil {
			return
		}
		ts.stop(due)
		due.do()
	}
}

// wait is the time until the next timer, at most limit.
func (ts *timers) wait(now time.Time, limit time.Duration) time.Duration {
	for _, t := range ts.list {
		limit = min(limit, t.at.Sub(now))
	}
	return max(limit, 0)
}
