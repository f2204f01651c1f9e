package qmgr

import (
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
)

// An agent that dies says nothing about its recipients, and the message is too
// old: they, too, must stand in what the sender gets.
func TestExpiredRecipientsWithoutAResult(t *testing.T) {
	for _, rcpts := range [][]string{
		{"a@x.retry", "crash@x.smtp"},
		{"crash@x.smtp", "b@x.smtp"},
		{"crash@x.smtp"},
	} {
		s := newSuite(t)
		s.message(queue.Incoming, "s@t", time.Now().Add(-6*24*time.Hour), rcpts)
		_, stop := s.start(s.spool)
		s.wait("removal", s.settled(queue.Deferred, 0))
		stop()
		s.mu.Lock()
		for _, r := range rcpts {
			if s.returned[r]+s.delivered[r] != 1 {
				t.Errorf("%v: returned %v, delivered %v", rcpts, s.returned, s.delivered)
				break
			}
		}
		s.mu.Unlock()
	}
}

// Nobody can write the defer log: the message stays.
func TestExpiredWithoutDeferService(t *testing.T) {
	s := newSuite(t)
	s.refuse["append"] = true
	s.message(queue.Incoming, "s@t", time.Now().Add(-6*24*time.Hour), []string{"a@x.retry", "crash@x.smtp"})
	_, stop := s.start(s.spool)
	s.wait("deferral", s.settled(queue.Deferred, 1))
	stop()
	if len(s.returned) > 0 {
		t.Errorf("returned %v", s.returned)
	}
}
