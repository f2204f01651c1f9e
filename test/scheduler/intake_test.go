package scheduler

import (
	"fmt"
	"net/smtp"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// intake sends n messages over so many sessions and tells how long it took until
// the last was accepted, and until the last was delivered.
func (m *machine) intake(n, sessions int, to string) (accepted, delivered time.Duration) {
	m.t.Helper()
	before := m.CountLog("status=sent")
	start := time.Now()
	var wg sync.WaitGroup
	for k := range sessions {
		wg.Go(func() {
			if err := m.send(n/sessions, fmt.Sprintf("u%d@%s", k, to)); err != nil {
				m.t.Errorf("intake: %v", err)
			}
		})
	}
	wg.Wait()
	accepted = time.Since(start)
	m.wait(time.Minute, "new mail delivered", func() bool { return m.CountLog("status=sent") >= before+n/sessions*sessions })
	return accepted, time.Since(start)
}

// send sends messages in one session.
func (m *machine) send(n int, to string) error {
	conn, err := m.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c, err := smtp.NewClient(conn, "mail.example.com")
	if err != nil {
		return err
	}
	defer c.Close()
	for range n {
		if err := c.Mail("a@here.test"); err != nil {
			return err
		}
		if err := c.Rcpt(to); err != nil {
			return err
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "From: <a@here.test>\r\nSubject: new\r\n\r\nbody\r\n")
		if err := w.Close(); err != nil {
			return err
		}
	}
	return c.Quit()
}

var rss = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// memory is what the queue manager occupies, in MB.
func (m *machine) memory() float64 {
	f := rss.FindStringSubmatch(m.Sh(`cat /proc/$(pgrep -x qmgr)/status`).Out)
	if f == nil {
		m.t.Error("no queue manager process")
		return 0
	}
	kb, _ := strconv.Atoi(f[1])
	return float64(kb) / 1024
}

// TestLargeQueue measures intake beside a full hold queue and a full deferred queue
// that is being scanned all the time.
func TestLargeQueue(t *testing.T) {
	waiting, messages := 5000, 300
	if full() {
		waiting, messages = 100000, 3000
	}
	m := newMachine(t, world.Options{Main: []string{"default_transport = discard", "queue_run_delay = 1s"}})
	m.start()
	// The machine may be busy with something else: the best of three rounds counts,
	// and some more if they are slower than they may be.
	best := func(what string, enough float64) (rate float64) {
		var accepted, delivered time.Duration
		for i := 0; i < 3 || i < 10 && float64(messages)/delivered.Seconds() < enough; i++ {
			a, d := m.intake(messages, 10, "there.test")
			if accepted == 0 || d < delivered {
				accepted, delivered = a, d
			}
		}
		n := float64(messages)
		t.Logf("%s: %.0f messages/s accepted, %.0f/s delivered; queue manager %.1f MB", what, n/accepted.Seconds(), n/delivered.Seconds(), m.memory())
		return n / delivered.Seconds()
	}
	m.intake(messages, 10, "there.test") // everything is started
	empty := best("empty queue", 0)
	hourAgo, later := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	began := time.Now()
	for i := range waiting {
		l := letter{sender: "a@here.test", rcpts: []string{fmt.Sprintf("u%d@waiting.test", i)}, created: hourAgo, due: later}
		m.put(queue.Deferred, l)
		m.put(queue.Hold, l)
	}
	t.Logf("%d files in deferred and as many in hold, made in %.1fs", waiting, time.Since(began).Seconds())
	large := best("full queue", empty/2)
	if large < empty/2 {
		t.Errorf("intake of %.0f messages/s fell to %.0f/s", empty, large)
	}
	if n := m.files(queue.Deferred); n != waiting {
		t.Errorf("%d files in deferred", n)
	}
	if mb := m.memory(); mb > 100 {
		t.Errorf("queue manager of %.0f MB", mb)
	}
	for _, word := range []string{"panic:", "fatal:"} {
		if m.CountLog(word) > 0 {
			t.Errorf("log lines with %s", word)
		}
	}
}

// TestFullActiveQueue has more due mail than the active queue takes: new mail goes
// before the rest of the deferred queue.
func TestFullActiveQueue(t *testing.T) {
	t.Parallel()
	active, due := 200, 600
	if full() {
		active, due = 20000, 30000
	}
	m := newMachine(t, world.Options{Main: []string{"default_transport = sink", fmt.Sprintf("qmgr_message_active_limit = %d", active)}})
	hourAgo := time.Now().Add(-time.Hour)
	for i := range due {
		m.put(queue.Deferred, letter{sender: "old@here.test", rcpts: []string{fmt.Sprintf("u%d@d%d.test", i, i%100)}, created: hourAgo, due: hourAgo})
	}
	m.start()
	s := m.sink("sink", 50, 5*time.Millisecond)
	m.wait(90*time.Second, "a full active queue", func() bool { return m.files(queue.Active) == active })
	t.Logf("queue manager with %d active messages: %.1f MB", active, m.memory())
	const fresh = 20
	for i := range fresh {
		m.put(queue.Incoming, letter{sender: "new@here.test", rcpts: []string{fmt.Sprintf("u%d@fresh%d.test", i, i)}, created: time.Now()})
	}
	m.trigger("I")
	s.open()
	m.wait(90*time.Second, "all delivered", func() bool { return s.count() == due+fresh })
	last := 0
	for i, r := range s.requests() {
		if r.Sender == "new@here.test" {
			last = i
		}
	}
	t.Logf("the last new message was delivery %d of %d", last, due+fresh)
	// They may stand behind what was active, and what was being read.
	if limit := active + 4*fresh + 100; last > limit {
		t.Errorf("new mail came behind more than was active: %d", last)
	}
}
