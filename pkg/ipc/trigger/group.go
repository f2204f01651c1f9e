package trigger

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// Group makes one trigger of those that several goroutines want at nearly the
// same time. A trigger means "look": a look after the last of them is enough.
type Group struct {
	Every time.Duration // the least time between two triggers
	Send  func() error  // EAGAIN is tried again, other errors are Send's business

	mu      sync.Mutex
	last    time.Time
	waiting bool // somebody is about to send
}

// Trigger sends, at once if none was sent for a while, else when the time has
// passed. It returns at once, too, when another caller waits already, who will
// send for both: whatever Trigger's callers have done before the call is done
// when Send is called. While the service's listen queue is full one of them
// tries again, up to Timeout: what is in that queue need not be our triggers.
func (g *Group) Trigger() {
	for end := time.Now().Add(Timeout); errors.Is(g.send(), syscall.EAGAIN) && time.Now().Before(end); {
	}
}

// send is one attempt, in due time.
func (g *Group) send() error {
	g.mu.Lock()
	if g.waiting {
		g.mu.Unlock()
		return nil
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
	return g.Send()
}
