package qmgr

import (
	"fmt"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
)

// BenchmarkRelay is one message with one recipient from incoming to removed, with
// fake services in the same process.
func BenchmarkRelay(b *testing.B) {
	s := newSuite(b)
	for i := range b.N {
		s.message(queue.Incoming, "s@t", time.Now(), []string{fmt.Sprintf("u%d@h%d.smtp", i, i%20)})
	}
	b.ResetTimer()
	_, stop := s.start(s.spool)
	defer stop()
	s.wait("all delivered", func() bool {
		time.Sleep(5 * time.Millisecond)
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.delivered) == b.N
	})
}
