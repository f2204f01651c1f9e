package qmgr

import (
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
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

// A disk without room for a hash directory keeps a message from leaving the active
// queue. It must not be forgotten there.
func TestStrandedInActive(t *testing.T) {
	s := newSuite(t)
	s.set["queue_run_delay"] = "1s"
	s.set["minimal_backoff_time"], s.set["maximal_backoff_time"] = "1s", "1s"
	var full atomic.Bool
	full.Store(true)
	spool := s.open(queue.FS{Mkdir: func(path string, perm fs.FileMode) error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return os.Mkdir(path, perm)
	}})
	id := s.message(queue.Incoming, "s@t", time.Now(), []string{"a@x.retry"})
	_, stop := s.start(spool)
	defer stop()
	s.wantLog("warning: " + id + ": rename from active to deferred")
	full.Store(false)
	s.wait("deferral", s.settled(queue.Deferred, 1))
}

// A message that was deferred before the clock was set back by years is due all the
// same: no time that we set is further away than maximal_backoff_time.
func TestClockSetBack(t *testing.T) {
	s := newSuite(t)
	far := s.message(queue.Deferred, "s@t", time.Now(), []string{"a@x.smtp"})
	near := s.message(queue.Deferred, "s@t", time.Now(), []string{"b@x.smtp"})
	s.spool.SetTime(queue.Deferred, far, time.Now().Add(10*365*24*time.Hour))
	s.spool.SetTime(queue.Deferred, near, time.Now().Add(time.Hour))
	_, stop := s.start(s.spool)
	defer stop()
	s.wantLog(far + ": removed")
	if s.files(queue.Deferred) != 1 {
		t.Error("what is not due was taken, too")
	}
}
