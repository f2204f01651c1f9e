package trigger

import (
	"sync"
	"time"
)

// Group makes one trigger of those that several goroutines want at nearly the
// same time. A trigger means "look": a look after the last of them is enough.
type Group struct {
	Every time.Duration // the least time between two triggers
	Send  func()

	mu      sync.Mutex
	last    time.Time
	waiting bool // somebody is about to send
}

// Trigger sends, at once if none was sent for a while, else when the time has
// passed. It returns at once, too, when another caller waits already, who will
// send for both: whatever Trigger's callers have done before the call is done
// when Send is called.
func (g *Group) Trigger() {
	g.mu.Lock()
	if g.waiting {
		g.mu.Unlock()
		return
	}
	if pause := g.Every - time.Since(g.last); pause > 0 {
		g.waiting = true
		g.mu.Unlock()
		time.Sleep(pause)
		g.mu.Lock()
		g.waiting = false
	}
	g.last = time.Now()
	g.mu.Unlock()
	g.Send()
}
