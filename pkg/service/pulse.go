package service

import (
	"sync/atomic"
	"time"
)

// pulse is when something last gave a sign of life. It goes by the monotonic
// clock: one who sets the clock, or a machine that sleeps for a night, must
// not look like a daemon that hangs.
type pulse struct {
	born time.Time    // set by start, with its monotonic reading
	last atomic.Int64 // time from born to the last beat
}

// start begins the count; it comes before all else.
func (p *pulse) start() { p.born = time.Now() }

// beat is the sign of life.
func (p *pulse) beat() { p.last.Store(int64(time.Since(p.born))) }

// age is how long before now the last beat was. now must come from time.Now.
func (p *pulse) age(now time.Time) time.Duration {
	return now.Sub(p.born) - time.Duration(p.last.Load())
}
