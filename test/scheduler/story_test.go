package scheduler

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// story is what both queue managers do in the same events: requests to agents and
// log lines, step by step.
type story struct {
	*machine
	sink   *sink
	bad    atomic.Bool // the site of the sink is in trouble
	seen   int         // requests told
	logged int         // bytes of the log told
	told   []string
}

var (
	queueID   = regexp.MustCompile(`\b[0-9A-F]{6,}\b`)
	delays    = regexp.MustCompile(`delay=[^,]*, delays=[^,]*`)
	ofProgram = regexp.MustCompile(`postfix/(qmgr|error)\[\d+\]: (.*)`)
)

// step does something, waits until the queue manager is done with so many messages,
// and notes what was seen, sorted.
func (s *story) step(what string, messages int, do func()) {
	s.t.Helper()
	do()
	count := func() (n int) {
		for line := range strings.Lines(s.Syslog()[s.logged:]) {
			if strings.Contains(line, "postfix/error") && strings.Contains(line, "status=") || strings.Contains(line, ": removed") {
				n++
			}
		}
		for _, r := range s.sink.requests()[s.seen:] {
			if !strings.Contains(s.Syslog()[s.logged:], r.ID+": removed") {
				n++
			}
		}
		return n
	}
	s.wait(15*time.Second, what, func() bool { return count() >= messages && s.files(queue.Active)+s.files(queue.Incoming) == 0 })
	log := s.quiet()
	var seen []string
	requests := s.sink.requests()
	for _, r := range requests[s.seen:] {
		seen = append(seen, fmt.Sprintf("request %s %s", r.NextHop, r.Recipients[0].Address))
	}
	for line := range strings.Lines(log[s.logged:]) {
		if f := ofProgram.FindStringSubmatch(line); f != nil {
			text := delays.ReplaceAllString(queueID.ReplaceAllString(f[2], "ID"), "delays")
			seen = append(seen, f[1]+": "+text)
		}
	}
	s.seen, s.logged = len(requests), len(log)
	slices.Sort(seen)
	s.told = append(s.told, "-- "+what)
	s.told = append(s.told, seen...)
}

// mail puts a message for a user into incoming.
func (s *story) mail(addr string) func() {
	return func() {
		s.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{addr}, created: time.Now()})
		s.trigger("I")
	}
}

// command runs a command in the machine.
func (s *story) command(argv ...string) {
	s.t.Helper()
	if r := s.Run("", argv...); r.Code != 0 {
		s.t.Fatalf("%v: %s%s", argv, r.Out, r.Err)
	}
}

// id is the queue file with that recipient in the deferred queue.
func (s *story) id(addr string) string {
	s.t.Helper()
	f := regexp.MustCompile(`(?m)([0-9A-F]{6,}): to=<`+regexp.QuoteMeta(addr)+`>`).FindAllStringSubmatch(s.Syslog(), -1)
	if f == nil {
		s.t.Fatalf("no log line of %s", addr)
	}
	return f[len(f)-1][1]
}

func tell(t *testing.T, suite world.Suite) []string {
	o := world.Options{Main: []string{"initial_destination_concurrency = 1", "minimal_backoff_time = 10s", "fast_flush_domains = d1.bad",
		"transport_maps = inline:{ {.bad = sink:}, {.nosuch = nosuch:} }"}}
	if suite == world.Debian {
		o.Swap = []string{"qmgr"}
	}
	s := &story{machine: newMachine(t, o)}
	s.start()
	defer s.Stop()
	s.sink = s.machine.sink("sink", 5, 0, func(k *sink) { k.fails = func(int) bool { return s.bad.Load() } })
	s.sink.open()

	s.step("no such transport", 1, s.mail("a@x.nosuch"))
	s.step("dead transport", 1, s.mail("b@x.nosuch"))
	s.bad.Store(true)
	s.step("a destination dies", 1, s.mail("a@d1.bad"))
	s.step("is dead", 1, s.mail("c@d1.bad"))
	s.bad.Store(false)
	s.step("and stays so", 1, s.mail("d@d1.bad"))
	s.step("another is not", 1, s.mail("d@d2.bad"))
	s.step("one message is flushed", 1, func() { s.command("postqueue", "-i", s.id("c@d1.bad")) })
	s.step("that revived the destination", 1, s.mail("e@d1.bad"))
	s.bad.Store(true)
	s.step("dies again", 1, s.mail("f@d1.bad"))
	s.bad.Store(false)
	s.step("is dead again", 1, s.mail("g@d1.bad"))
	s.step("all is flushed", 6, func() { s.command("postqueue", "-f") })
	s.bad.Store(true)
	s.step("dies for the third time", 1, s.mail("h@d1.bad"))
	s.step("and is dead", 1, s.mail("k@d1.bad"))
	s.bad.Store(false)
	s.step("the site is flushed", 1, func() { s.command("postqueue", "-s", "d1.bad") })
	s.bad.Store(true)
	s.step("dies for the fourth time", 1, s.mail("l@d1.bad"))
	s.bad.Store(false)
	time.Sleep(11 * time.Second)
	s.step("was revived by time", 1, s.mail("m@d1.bad"))
	if err := s.Set("defer_transports = sink"); err != nil {
		t.Fatal(err)
	}
	s.command("postfix", "reload")
	time.Sleep(time.Second)
	s.step("deferred transport", 5, s.mail("n@d1.bad"))
	s.step("and another message", 1, s.mail("o@d1.bad"))
	s.step("one is flushed", 1, func() { s.command("postqueue", "-i", s.id("o@d1.bad")) })
	s.step("all are flushed", 4, func() { s.command("postqueue", "-f") })
	return s.told
}

// TestStory compares dead transports and destinations, the ways to flush, revival by
// time, and defer_transports with Debian's queue manager.
func TestStory(t *testing.T) {
	t.Parallel()
	var told [2][]string
	t.Run("suites", func(t *testing.T) {
		for _, suite := range []world.Suite{world.Ours, world.Debian} {
			t.Run(suite.String(), func(t *testing.T) {
				t.Parallel()
				told[suite] = tell(t, suite)
			})
		}
	})
	ours, debian := told[world.Ours], told[world.Debian]
	if t.Failed() || ours == nil || debian == nil {
		return
	}
	for i := range max(len(ours), len(debian)) {
		if i >= len(ours) || i >= len(debian) || ours[i] != debian[i] {
			t.Fatalf("line %d: ours\n%s\n\nDebian's\n%s", i, strings.Join(ours[:min(i+1, len(ours))], "\n"), strings.Join(debian[min(max(0, i-2), len(debian)):min(i+2, len(debian))], "\n"))
		}
	}
	t.Logf("%d lines:\n%s", len(ours), strings.Join(ours, "\n"))
}
