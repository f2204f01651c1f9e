package postscreen

import (
	"sync"
)

// shared is what the sessions have in common.
type shared struct {
	cacheMu sync.Mutex // before mu
	cache   *cache     // nil without one, and while we drain

	mu       sync.Mutex // never held while anything is waited for
	sessions map[*session]struct{}
	clients  map[string]*client
	testing  int // sessions under test: neither refused nor handed over
	handing  int // hand-offs in progress
	stress   bool
	toldOld  bool // about respectful_logging
}

// client is what is known about an address as long as it has a session.
type client struct {
	sessions int
	welcomed bool // "PASS NEW" was logged
	expire   stamps
}

func (s *shared) init() {
	s.sessions, s.clients = map[*session]struct{}{}, map[string]*client{}
}

// beat tells the watchdog that the sessions are well: each wait of theirs has a
// limit of its own, which may be longer than the watchdog's.
func (s *shared) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		session.alive()
	}
}

// withCache runs f with the cache, if there is one.
func (s *shared) withCache(f func(*cache)) bool {
	s.cacheMu.Lock()
	defer s.cacheMu.Unlock()
	if s.cache == nil {
		return false
	}
	f(s.cache)
	return true
}

// closeCache gives the cache up for a successor; open sessions finish without.
func (s *shared) closeCache() {
	s.cacheMu.Lock()
	defer s.cacheMu.Unlock()
	if s.cache != nil {
		_ = s.cache.t.Close()
		s.cache = nil
	}
}

// enter knows of a session.
func (s *shared) enter(session *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[session] = struct{}{}
}

// test counts a session as under test. It reports whether that is the stress
// that begins, and how many there are.
func (s *shared) test(session *session, limit int) (strained bool, testing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.testing++
	session.counted = true
	if !s.stress && s.testing >= (limit*9+9)/10 {
		s.stress, strained = true, true
	}
	return strained, s.testing
}

// identify adds the session to its client's.
func (s *shared) identify(session *session, enabled testSet) (concurrent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[session.addr]
	if c == nil {
		c = &client{expire: newStamps(enabled)}
		s.clients[session.addr] = c
	}
	c.sessions++
	session.client = c
	return c.sessions
}

// uncount takes a session off those under test. It reports the number left when
// the stress is over.
func (s *shared) uncount(session *session, limit int) (relaxed bool, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !session.counted {
		return false, 0
	}
	session.counted = false
	s.testing--
	if s.stress && s.testing <= limit*7/10 {
		s.stress, relaxed = false, true
	}
	return relaxed, s.testing
}

// leave forgets a session.
func (s *shared) leave(session *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
	if c := session.client; c != nil {
		if c.sessions--; c.sessions == 0 {
			delete(s.clients, session.addr)
		}
	}
}

// pace is the one in force.
func (d *daemon) pace() pace {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	if d.shared.stress {
		return d.set.paces[1]
	}
	return d.set.paces[0]
}

// handing is the number of hand-offs in progress.
func (d *daemon) handing() int {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	return d.shared.handing
}

// handOver counts hand-offs.
func (s *shared) handOver(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handing += n
}

// count is the number of sessions under test.
func (s *shared) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.testing
}

// once reports true the first time.
func (s *shared) once() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.toldOld
	s.toldOld = true
	return first
}
