package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// course is a destination that answers well and badly in a fixed order.
type course struct {
	name     string // of the transport
	settings []string
	script   string // a letter a delivery: g for good, b for bad; then over again
}

var courses = []course{
	{"fa", nil, "bgbbggbgggbbbbbgggggggggb"},
	{"fb", []string{"positive_feedback = 1/concurrency", "negative_feedback = 1/concurrency", "failed_cohort_limit = 10"}, "bbbbbbbbbbggggggggggggggggb"},
	{"fc", []string{"positive_feedback = 1/4", "negative_feedback = 0.3", "failed_cohort_limit = 3"}, "bbgbbbbgggggbbbbbbbbg"},
	{"fd", []string{"positive_feedback = 0", "negative_feedback = 0", "failed_cohort_limit = 0"}, "bbbbbgggg"},
	{"fe", []string{"positive_feedback = 7", "negative_feedback = x", "failed_cohort_limit = 1", "limit = 4"}, "ggggbb"},
	{"fg", []string{"negative_feedback = 0", "failed_cohort_limit = 1", "limit = 10"}, "bbbbbbbbbbbbbbbbbbb"},
	{"fh", []string{"negative_feedback = 0", "failed_cohort_limit = 2", "limit = 7"}, "bbbbbbbbbbbbbbbbbbb"},
	{"ff", []string{"positive_feedback = 0.5 / concurrency", "negative_feedback = 2/4", "failed_cohort_limit = 100"}, "ggggggggbbbbbbbbbbbbbggggggggg"},
}

// TestFeedback compares what both queue managers log about the concurrency window of
// destinations with good and bad answers in the same order.
func TestFeedback(t *testing.T) {
	t.Parallel()
	var said [2][]string
	for _, suite := range []world.Suite{world.Ours, world.Debian} {
		said[suite] = feedback(t, suite)
	}
	ours, debian := said[world.Ours], said[world.Debian]
	for i := range max(len(ours), len(debian)) {
		if i >= len(ours) || i >= len(debian) || ours[i] != debian[i] {
			from := max(0, i-3)
			t.Fatalf("line %d: ours\n%s\nDebian's\n%s", i, strings.Join(ours[min(from, len(ours)):min(i+3, len(ours))], "\n"),
				strings.Join(debian[min(from, len(debian)):min(i+3, len(debian))], "\n"))
		}
	}
	t.Logf("%d lines", len(ours))
	if len(ours) < 100 {
		t.Error("few lines")
	}
}

func feedback(t *testing.T, suite world.Suite) (said []string) {
	o := world.Options{Main: []string{"destination_concurrency_feedback_debug = yes", "initial_destination_concurrency = 20", "default_destination_concurrency_limit = 30"}}
	if suite == world.Debian {
		o.Swap = []string{"qmgr"}
	}
	var routes []string
	for _, c := range courses {
		routes = append(routes, fmt.Sprintf("{ .%s = %s: }", c.name, c.name))
		for _, s := range c.settings {
			o.Main = append(o.Main, c.name+"_destination_concurrency_"+s)
		}
	}
	o.Main = append(o.Main, "transport_maps = inline:{ "+strings.Join(routes, ", ")+" }")
	m := newMachine(t, o)
	m.start()
	defer m.Stop()
	const messages = 60
	for _, c := range courses {
		s := m.sink(c.name, 1, 0, func(s *sink) {
			s.rest = 10 * time.Millisecond // the reply is seen before the next request goes out
			s.fails = func(n int) bool { return c.script[n%len(c.script)] == 'b' }
		})
		sender := c.name + "@here.test"
		for i := range messages {
			m.put(queue.Incoming, letter{sender: sender, rcpts: []string{fmt.Sprintf("u%d@site.%s", i, c.name)}, created: time.Now()})
		}
		m.trigger("I")
		m.wait(20*time.Second, c.name+": active", func() bool { return m.CountLog("from=<"+sender+">") == messages })
		s.open()
		m.wait(20*time.Second, c.name+": done", func() bool { return m.files(queue.Active)+m.files(queue.Incoming) == 0 })
	}
	for line := range strings.Lines(m.quiet()) {
		_, text, ok := strings.Cut(line, "postfix/qmgr[")
		if !ok {
			continue
		}
		if _, text, ok = strings.Cut(text, "]: "); ok && strings.Contains(text, "feedback") || strings.Contains(text, "qmgr_queue") || strings.HasPrefix(text, "warning") {
			said = append(said, strings.TrimSpace(text))
		}
	}
	// Ours looks at a transport's parameters before it makes a destination: warnings
	// come first.
	slices.SortStableFunc(said, func(a, b string) int {
		return cmp.Compare(strings.Index(b, "warning:"), strings.Index(a, "warning:"))
	})
	return said
}
