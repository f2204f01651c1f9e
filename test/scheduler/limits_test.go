package scheduler

import (
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// both runs f with our queue manager and with Debian's, at the same time, and returns
// the results if both came to their end.
func both[T any](t *testing.T, f func(t *testing.T, suite world.Suite) T) (ours, debian T, ok bool) {
	var out [2]T
	t.Run("suites", func(t *testing.T) {
		for _, suite := range []world.Suite{world.Ours, world.Debian} {
			t.Run(suite.String(), func(t *testing.T) {
				t.Parallel()
				out[suite] = f(t, suite)
				ok = ok || suite == world.Debian
			})
		}
	})
	return out[world.Ours], out[world.Debian], ok && !t.Failed()
}

// with are the options of our suite with the suite's queue manager.
func with(suite world.Suite, main ...string) world.Options {
	o := world.Options{Main: main}
	if suite == world.Debian {
		o.Swap = []string{"qmgr"}
	}
	return o
}

// TestRateDelays compares when requests start with a delay between deliveries to a
// destination, and between deliveries of a transport.
func TestRateDelays(t *testing.T) {
	t.Parallel()
	ours, debian, ok := both(t, func(t *testing.T, suite world.Suite) (all map[string][]float64) {
		m := newMachine(t, with(suite, "transport_maps = inline:{ {.ra = ra:}, {.rb = rb:} }", "ra_destination_rate_delay = 2s", "rb_transport_rate_delay = 2s"))
		m.start()
		defer m.Stop()
		a, b := m.sink("ra", 10, 0), m.sink("rb", 10, 0)
		a.open()
		b.open()
		start := time.Now()
		for _, to := range []string{"a@x.ra", "b@x.ra", "c@x.ra", "a@y.ra", "b@y.ra", "a@x.rb", "b@y.rb", "c@z.rb"} {
			m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{to}, created: time.Now()})
		}
		m.trigger("I")
		m.wait(30*time.Second, "all delivered", func() bool { return m.CountLog(": removed") == 8 })
		all = make(map[string][]float64)
		for _, s := range []*sink{a, b} {
			for i, r := range s.requests() {
				key := r.NextHop
				if s == b {
					key = "rb"
				}
				all[key] = append(all[key], s.times[i].Sub(start).Seconds())
			}
		}
		return all
	})
	if !ok {
		return
	}
	t.Logf("ours %v; Debian's %v", ours, debian)
	for key, times := range debian {
		for i := range times {
			// From the first on: starting up takes its time.
			if want, got := times[i]-times[0], ours[key][i]-ours[key][0]; math.Abs(got-want) > 1 {
				t.Errorf("%s: request %d after %.1fs, with Debian's %.1fs", key, i, got, want)
			}
		}
	}
}

// TestRecipientSlots compares how many recipients of large messages come into memory.
func TestRecipientSlots(t *testing.T) {
	t.Parallel()
	ours, debian, ok := both(t, func(t *testing.T, suite world.Suite) (counts []int) {
		m := newMachine(t, with(suite, "transport_maps = inline:{ {.la = la:}, {.lb = lb:} }", "qmgr_message_active_limit = 100", "qmgr_message_recipient_limit = 400",
			"la_recipient_limit = 150", "la_extra_recipient_limit = 40", "lb_recipient_limit = 60", "lb_recipient_refill_limit = 7", "lb_recipient_refill_delay = 1s"))
		m.start()
		defer m.Stop()
		a, b := m.sink("la", 500, 0), m.sink("lb", 500, 0)
		for i, s := range []*sink{a, a, b, b} {
			top := []string{"la", "lb"}[i/2]
			m.put(queue.Incoming, letter{sender: "list@here.test", rcpts: addresses(fmt.Sprint("m", i), top, 1000, 50), created: time.Now()})
			m.trigger("I")
			counts = append(counts, s.settled())
		}
		a.open()
		b.open()
		m.wait(40*time.Second, "all delivered", func() bool { return m.CountLog(": removed") == 4 })
		return append(counts, a.recipients(), b.recipients())
	})
	if ok && fmt.Sprint(ours) != fmt.Sprint(debian) {
		t.Errorf("recipients in memory, step by step: %v, with Debian's %v", ours, debian)
	}
}

// TestAgentTimeout has agents that do not greet, and that never reply: only a restart
// of the queue manager helps, and it says so as Debian's does.
func TestAgentTimeout(t *testing.T) {
	t.Parallel()
	for _, greets := range []bool{true, false} {
		t.Run(fmt.Sprintf("greets %v", greets), func(t *testing.T) {
			t.Parallel()
			ours, debian, ok := both(t, func(t *testing.T, suite world.Suite) string {
				m := newMachine(t, with(suite, "default_transport = sink", "daemon_timeout = 3s"))
				m.start()
				defer m.Stop()
				if greets {
					s := m.sink("sink", 1, 0)
					defer s.open()
				} else {
					m.mute("sink")
				}
				m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{"b@there.test"}, created: time.Now()})
				m.trigger("I")
				line, err := m.WaitLog(20*time.Second, "postfix/qmgr", "fatal:")
				if err != nil {
					t.Error(err)
				}
				_, line, _ = strings.Cut(line, "fatal: ")
				return queueID.ReplaceAllString(line, "ID")
			})
			if ok && ours != debian {
				t.Errorf("%q, Debian's %q", ours, debian)
			}
		})
	}
}

// mute listens as a transport and accepts nobody.
func (m *machine) mute(name string) {
	path := m.Path("/var/spool/postfix/private/" + name)
	l, err := net.Listen("unix", path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	os.Chmod(path, 0o666)
}

// TestStartWithStrays compares the start with a full active queue, and with things
// in it that do not belong there.
func TestStartWithStrays(t *testing.T) {
	t.Parallel()
	ours, debian, ok := both(t, func(t *testing.T, suite world.Suite) (said []string) {
		m := newMachine(t, with(suite, "default_transport = sink", "qmgr_message_active_limit = 50", "qmgr_message_recipient_limit = 40",
			"bounce_queue_lifetime = 6d", "qmgr_clog_warn_time = 0"))
		for _, name := range []string{"no-queue-id", "ABCDEF.x"} {
			path := m.Path("/var/spool/postfix/active/" + name)
			if err := os.WriteFile(path, nil, 0o700); err != nil {
				t.Fatal(err)
			}
			os.Chown(path, mailUser, mailUser)
		}
		for i := range 60 {
			m.put(queue.Active, letter{sender: "a@here.test", rcpts: []string{fmt.Sprintf("u%d@there.test", i)}, created: time.Now()})
		}
		m.start()
		defer m.Stop()
		s := m.sink("sink", 10, 0)
		s.open()
		m.wait(30*time.Second, "delivered", func() bool { return m.CountLog(": removed") == 60 })
		said = m.warnings()
		slices.Sort(said)
		return said
	})
	compareLines(t, ours, debian, ok)
}

// TestClogWarnings compares what is said of destinations that fill the active queue.
func TestClogWarnings(t *testing.T) {
	t.Parallel()
	ours, debian, ok := both(t, func(t *testing.T, suite world.Suite) []string {
		m := newMachine(t, with(suite, "transport_maps = inline:{ {.ca = ca:}, {.cb = cb:}, {.cc = cc:}, {.cd = cd:} }", "qmgr_message_active_limit = 50",
			"ca_destination_concurrency_limit = 5", "cc_initial_destination_concurrency = 40", "cc_destination_concurrency_limit = 100"))
		m.start()
		defer m.Stop()
		active := 0
		put := func(addr string) {
			m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{addr}, created: time.Now()})
			m.trigger("I")
			active++
			m.wait(20*time.Second, "active", func() bool { return m.CountLog("(queue active)") == active })
		}
		for _, name := range []string{"ca", "cb", "cc", "cd"} {
			s := m.sink(name, 10, 0)
			if name == "cd" {
				for i := range 5 {
					put(fmt.Sprintf("u@other%d.cd", i))
				}
			}
			for i := range 15 {
				put(fmt.Sprintf("u%d@X.%s", i, name))
			}
			s.open()
			m.wait(20*time.Second, "delivered", func() bool { return m.CountLog(": removed") == active })
		}
		return m.warnings()
	})
	compareLines(t, ours, debian, ok)
	t.Logf("%d lines", len(ours))
}

// warnings are those of the queue manager.
func (m *machine) warnings() (said []string) {
	for line := range strings.Lines(m.quiet()) {
		if _, text, ok := strings.Cut(line, "warning: "); ok && strings.Contains(line, "postfix/qmgr") {
			said = append(said, strings.TrimSpace(text))
		}
	}
	return said
}

func compareLines(t *testing.T, ours, debian []string, ok bool) {
	t.Helper()
	if ok && !slices.Equal(ours, debian) {
		t.Errorf("ours said\n%s\nDebian's\n%s", strings.Join(ours, "\n"), strings.Join(debian, "\n"))
	}
}
