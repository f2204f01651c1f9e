package qmgr

import (
	"os"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
)

// TestBackoff checks that a message waits as long as it is old, within the limits.
func TestBackoff(t *testing.T) {
	for _, tc := range []struct {
		age, wait time.Duration
	}{
		{0, 300 * time.Second},
		{1000 * time.Second, 1000 * time.Second},
		{10000 * time.Second, 4000 * time.Second},
		{-time.Hour, 300 * time.Second}, // the clock was set back
	} {
		s := newSuite(t)
		id := s.message(queue.Incoming, "s@t", time.Now().Add(-tc.age), []string{"a@fail"})
		_, stop := s.start(s.spool)
		s.wait("deferred", s.settled(queue.Deferred, 1))
		stop()
		info, err := os.Stat(s.spool.Path(queue.Deferred, id))
		if err != nil {
			t.Fatal(err)
		}
		if wait := time.Until(info.ModTime()); wait > tc.wait+3*time.Second || wait < tc.wait-8*time.Second {
			t.Errorf("age %v: due in %v, want %v", tc.age, wait, tc.wait)
		}
		if info.ModTime().Nanosecond() != 0 {
			t.Errorf("time stamp %v is not in whole seconds", info.ModTime())
		}
	}
}

// TestStrayName has a file in active that is no queue file: it is left alone.
func TestStrayName(t *testing.T) {
	s := newSuite(t)
	path := s.spool.QueueDir(queue.Active) + "/no-queue-id"
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	id := s.message(queue.Active, "s@t", time.Now(), []string{"a@x"})
	_, stop := s.start(s.spool)
	defer stop()
	s.wantLog("qmgr_move: ignored: queue active id no-queue-id")
	s.wantLog(id + ": removed")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
