// Package crew runs functions on goroutines that stay for a while when they
// have done, because the stack of each has grown to what such a function
// needs, which a new goroutine's has to do step by step, copying.
package crew

import "time"

// idleTime is how long a goroutine waits for more work.
const idleTime = 100 * time.Millisecond

// Crew is a group of goroutines of one trade. It has no limit: who needs one
// counts. Its methods may be called at any time by anybody.
type Crew struct {
	work chan func()
}

// New returns a crew without members.
func New() *Crew { return &Crew{work: make(chan func())} }

// Go runs f on a member who is free, or on a new one.
func (c *Crew) Go(f func()) {
	select {
	case c.work <- f:
	default:
		go c.member(f)
	}
}

// member runs f, and what else comes.
func (c *Crew) member(f func()) {
	f()
	idle := time.NewTimer(idleTime)
	defer idle.Stop()
	for {
		select {
		case f := <-c.work:
			idle.Stop()
			f()
			idle.Reset(idleTime)
		case <-idle.C:
			return
		}
	}
}
