package anvil

import (
	"sync"
	"time"

	"posthaste/pkg/ipc/anvil"
)

// maxIdents bounds the table. Events of idents beyond it are not counted, so
// that a flood of addresses costs accuracy and not memory.
const maxIdents = 500_000

// remote is what is known of one ident. All event counters belong to the time
// unit that began at start, and are reset together.
type remote struct {
	count   int // open connections
	rate    int // connections
	mail    int
	rcpt    int
	newtls  int
	auth    int
	start   time.Time
	expires *time.Timer // runs while count is 0
}

// counters is the table of idents with its maxima.
type counters struct {
	unit time.Duration // anvil_rate_time_unit
	now  func() time.Time

	mu      sync.Mutex
	remotes map[string]*remote
	peaks   [peakCount]peak
}

// peak is the largest value of a statistic since it was logged last.
type peak struct {
	value int
	ident string
	when  time.Time
}

// The statistics, in the order in which they are logged.
const (
	peakConnRate = iota
	peakConnCount
	peakMail
	peakRcpt
	peakNewTLS
	peakAuth
	peakCache
	peakCount
)

func newCounters(unit time.Duration) *counters {
	return &counters{unit: unit, now: time.Now, remotes: map[string]*remote{}}
}

func (c *counters) raise(which, value int, ident string) {
	if p := &c.peaks[which]; value > p.value {
		*p = peak{value, ident, c.now()}
	}
}

// takePeaks returns the maxima and resets them.
func (c *counters) takePeaks() [peakCount]peak {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peaks
	c.peaks = [peakCount]peak{}
	return p
}

// get returns an ident's record, with counters of the current time unit; nil
// if there is none.
func (c *counters) get(ident string) *remote {
	r := c.remotes[ident]
	if r != nil && c.now().Sub(r.start) > c.unit {
		r.rate, r.mail, r.rcpt, r.newtls, r.auth = 0, 0, 0, 0, 0
		r.start = c.now()
	}
	return r
}

// connect counts a connection. open is the ident that the asking client stood
// for so far, which is counted out.
func (c *counters) connect(ident, open string) (count, rate int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.register(ident, open)
	return r.count, r.rate
}

func (c *counters) register(ident, open string) *remote {
	if open != "" {
		c.release(open)
	}
	r := c.get(ident)
	if r == nil {
		r = &remote{start: c.now()}
		if len(c.remotes) < maxIdents {
			c.remotes[ident] = r
		}
		c.raise(peakCache, len(c.remotes), "")
	}
	if r.expires != nil { // its last connection closed a moment ago
		r.expires.Stop()
		r.expires = nil
	}
	r.count++
	r.rate++
	c.raise(peakConnRate, r.rate, ident)
	c.raise(peakConnCount, r.count, ident)
	return r
}

// disconnect counts a connection out; an ident is forgotten one time unit
// after its last.
func (c *counters) disconnect(ident string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release(ident)
}

func (c *counters) release(ident string) {
	r := c.get(ident)
	if r == nil || r.count == 0 {
		return
	}
	r.count--
	if r.count == 0 {
		r.expires = time.AfterFunc(c.unit, func() { c.forget(ident, r) })
	}
}

func (c *counters) forget(ident string, r *remote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.count == 0 && c.remotes[ident] == r {
		delete(c.remotes, ident)
	}
}

// event counts an event. An unknown ident is registered as connect would do;
// registered says so.
func (c *counters) event(request, ident, open string) (rate int, registered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.get(ident)
	if r == nil {
		r, registered = c.register(ident, open), true
	}
	e := events[request]
	n := e.counter(r)
	*n++
	c.raise(e.peak, *n, ident)
	return *n, registered
}

// events are the requests that count, and where.
var events = map[string]struct {
	counter func(*remote) *int
	peak    int
}{
	anvil.Message:   {func(r *remote) *int { return &r.mail }, peakMail},
	anvil.Recipient: {func(r *remote) *int { return &r.rcpt }, peakRcpt},
	anvil.NewTLS:    {func(r *remote) *int { return &r.newtls }, peakNewTLS},
	anvil.Auth:      {func(r *remote) *int { return &r.auth }, peakAuth},
}

// lookup reads all counters: zeros for an unknown ident.
func (c *counters) lookup(ident string) anvil.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.get(ident)
	if r == nil {
		return anvil.Counters{}
	}
	return anvil.Counters{Count: r.count, Rate: r.rate, Mail: r.mail, Rcpt: r.rcpt, NewTLS: r.newtls, Auth: r.auth}
}
