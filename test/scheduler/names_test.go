package scheduler

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// called makes the qmgr row of master.cf start another program.
func (m *machine) called(program string) {
	m.t.Helper()
	r := m.Sh(`sed -i 's/^\(qmgr .* \)qmgr$/\1'$1'/' /etc/postfix/master.cf; grep ^qmgr /etc/postfix/master.cf`, program)
	if r.Code != 0 || !strings.HasSuffix(strings.TrimSpace(r.Out), program) {
		m.t.Fatalf("master.cf: %s%s", r.Out, r.Err)
	}
}

var logPrefix = regexp.MustCompile(`^.*?(postfix/\w+)\[\d+\]: `)

// TestOldName starts the queue manager as nqmgr: it works, and says the same as
// Debian's.
func TestOldName(t *testing.T) {
	t.Parallel()
	var said [2][]string
	for _, suite := range []world.Suite{world.Ours, world.Debian} {
		o := world.Options{Suite: suite, Main: []string{"default_transport = sink"}}
		m := newMachine(t, o)
		m.called("nqmgr")
		m.start()
		s := m.sink("sink", 1, 0)
		s.open()
		m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{"b@there.test"}, created: time.Now()})
		m.trigger("I")
		m.wait(20*time.Second, "delivered", func() bool { return m.CountLog(": removed") == 1 })
		for line := range strings.Lines(m.Syslog()) {
			if p := logPrefix.FindStringSubmatch(line); p != nil && strings.Contains(line, "]: warning: ") {
				said[suite] = append(said[suite], p[1]+": "+strings.TrimSpace(line[len(p[0]):]))
			}
		}
		m.Stop()
	}
	if !slices.Equal(said[world.Ours], said[world.Debian]) || len(said[world.Debian]) == 0 {
		t.Errorf("ours said\n%s\nDebian's\n%s", strings.Join(said[world.Ours], "\n"), strings.Join(said[world.Debian], "\n"))
	}
}

// TestShareOfOldManager compares how much of a large message oqmgr takes at once.
func TestShareOfOldManager(t *testing.T) {
	t.Parallel()
	var got [2]int
	for _, suite := range []world.Suite{world.Ours, world.Debian} {
		o := world.Options{Main: []string{"default_transport = sink", "qmgr_message_active_limit = 200", "qmgr_message_recipient_limit = 1000", "qmgr_fudge_factor = 30"}}
		if suite == world.Debian {
			o.Swap = []string{"oqmgr"}
		}
		m := newMachine(t, o)
		m.called("oqmgr")
		m.start()
		s := m.sink("sink", 600, 0)
		m.put(queue.Incoming, letter{sender: "list@here.test", rcpts: addresses("list", "test", 3000, 150), created: time.Now()})
		m.trigger("I")
		got[suite] = s.settled()
		s.open()
		m.wait(20*time.Second, "delivered", func() bool { return m.CountLog(": removed") == 1 })
		m.Stop()
	}
	if got[world.Ours] != got[world.Debian] {
		t.Errorf("first batch of %d recipients, with Debian's %d", got[world.Ours], got[world.Debian])
	}
}
