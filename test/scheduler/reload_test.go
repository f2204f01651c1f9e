package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// TestReload reloads the mail system while the active queue is full and agents are
// busy: nothing is lost, nothing delivered twice, no restart is needed.
func TestReload(t *testing.T) {
	t.Parallel()
	const active, messages = 300, 400
	m := newMachine(t, world.Options{Main: []string{"default_transport = sink", fmt.Sprintf("qmgr_message_active_limit = %d", active)}})
	m.start()
	s := m.sink("sink", 20, 5*time.Millisecond)
	for i := range messages {
		m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: addresses(fmt.Sprint("m", i), "test", 2, 2), created: time.Now()})
	}
	m.trigger("I")
	m.wait(20*time.Second, "a full active queue", func() bool { return m.files(queue.Active) == active && s.count() == 20 })
	for i := range 3 {
		if r := m.Run("", "postfix", "reload"); r.Code != 0 {
			t.Fatalf("reload %d: %s", i, r.Err)
		}
		before := m.CountLog("(queue active)")
		m.wait(20*time.Second, "a new queue manager", func() bool { return m.CountLog("(queue active)") > before })
	}
	s.open()
	// What the agents had at the first reload is locked for as long as they work;
	// the new queue manager looks at it again a minute later, or at once when told.
	m.wait(40*time.Second, "empty queue", func() bool {
		left := m.files(queue.Active) + m.files(queue.Incoming)
		if left > 0 && left <= 100 {
			m.trigger("AI")
		}
		return left == 0
	})
	times := make(map[string]int)
	for _, r := range s.requests() {
		for _, rcpt := range r.Recipients {
			times[rcpt.Address]++
		}
	}
	if len(times) != 2*messages {
		t.Errorf("%d of %d recipients delivered", len(times), 2*messages)
	}
	for addr, n := range times {
		if n != 1 {
			t.Errorf("%s was delivered %d times", addr, n)
		}
	}
	for _, word := range []string{"panic:", "fatal:", "error:"} {
		if n := m.CountLog(word); n > 0 {
			t.Errorf("%d log lines with %s", n, word)
		}
	}
	skipped := m.CountLog("skipped, still being delivered")
	if skipped == 0 {
		t.Error("no file was found being delivered")
	}
	t.Logf("%d requests, %d times a file was skipped; removed %d", s.count(), skipped, strings.Count(m.Syslog(), ": removed"))
}
