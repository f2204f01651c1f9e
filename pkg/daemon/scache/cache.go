package scache

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the cache. The oldest makes room for what comes beyond them.
const (
	maxSessions     = 4096
	maxDestinations = 4096
)

// session is an open connection; whoever takes it out of the cache closes it.
type session struct {
	fd       int
	label    string
	property string
	timer    *time.Timer
}

func (s *session) close() { unix.Close(s.fd) }

// destination leads from a destination's label to an endpoint's.
type destination struct {
	label, property, endpoint string
	timer                     *time.Timer
}

// counts are for the statistics.
type counts struct {
	since                           time.Time
	destHits, destMiss              int
	endpHits, endpMiss              int
	maxDests, maxEndps, maxSessions int
}

// cache holds sessions and destinations, oldest first.
type cache struct {
	mu           sync.Mutex
	sessions     map[string][]*session
	destinations map[string][]*destination
	oldest       []*session // all sessions
	known        []*destination
	counts       counts
	closed       bool
}

func newCache(now time.Time) *cache {
	return &cache{
		sessions: map[string][]*session{}, destinations: map[string][]*destination{},
		counts: counts{since: now},
	}
}

// saveEndpoint stores a session.
func (c *cache) saveEndpoint(life time.Duration, label, property string, fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &session{fd: fd, label: label, property: property}
	if c.closed {
		s.close()
		return
	}
	if len(c.oldest) >= maxSessions {
		c.expire(c.oldest[0])
	}
	c.sessions[label] = append(c.sessions[label], s)
	c.oldest = append(c.oldest, s)
	s.timer = time.AfterFunc(life, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.expire(s)
	})
	c.counts.maxSessions = max(c.counts.maxSessions, len(c.oldest))
	c.counts.maxEndps = max(c.counts.maxEndps, len(c.sessions))
}

// expire drops a session if it is still here.
func (c *cache) expire(s *session) {
	if c.take(s) {
		s.close()
	}
}

// take takes a session out; false if it is not here any more.
func (c *cache) take(s *session) bool {
	i := slices.Index(c.oldest, s)
	if i < 0 {
		return false
	}
	s.timer.Stop()
	c.oldest = slices.Delete(c.oldest, i, i+1)
	remove(c.sessions, s.label, s)
	return true
}

func remove[T comparable](m map[string][]T, label string, x T) {
	list := m[label]
	if i := slices.Index(list, x); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(m, label)
	} else {
		m[label] = list
	}
}

// saveDestination remembers that a destination has an endpoint. The same again
// only lives longer.
func (c *cache) saveDestination(life time.Duration, label, property, endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for _, d := range c.destinations[label] {
		if d.endpoint == endpoint && d.property == property {
			d.timer.Reset(life)
			return
		}
	}
	if len(c.known) >= maxDestinations {
		c.forget(c.known[0])
	}
	d := &destination{label: label, property: property, endpoint: endpoint}
	c.destinations[label] = append(c.destinations[label], d)
	c.known = append(c.known, d)
	d.timer = time.AfterFunc(life, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.forget(d)
	})
	c.counts.maxDests = max(c.counts.maxDests, len(c.destinations))
}

func (c *cache) forget(d *destination) {
	i := slices.Index(c.known, d)
	if i < 0 {
		return
	}
	d.timer.Stop()
	c.known = slices.Delete(c.known, i, i+1)
	remove(c.destinations, d.label, d)
}

// findEndpoint takes the session out that has been here longest; nil if there
// is none.
func (c *cache) findEndpoint(label string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.sessions[label]
	if len(list) == 0 {
		c.counts.endpMiss++
		return nil
	}
	c.counts.endpHits++
	s := list[0]
	c.take(s)
	return s
}

// findDestination takes a session out by the first endpoint of a destination
// that has one.
func (c *cache) findDestination(label string) (property string, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.destinations[label] {
		if list := c.sessions[d.endpoint]; len(list) > 0 {
			c.counts.destHits++
			s := list[0]
			c.take(s)
			return d.property, s
		}
	}
	c.counts.destMiss++
	return "", nil
}

// takeCounts returns the statistics and starts a new interval.
func (c *cache) takeCounts(now time.Time) counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts
	c.counts = counts{since: now, maxDests: len(c.destinations), maxEndps: len(c.sessions), maxSessions: len(c.oldest)}
	return n
}

// close drops everything and takes no more.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for len(c.oldest) > 0 {
		c.expire(c.oldest[0])
	}
	for len(c.known) > 0 {
		c.forget(c.known[0])
	}
}
