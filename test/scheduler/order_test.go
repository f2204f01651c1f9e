package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// scenario is a mailing list that meets single messages.
type scenario struct {
	name          string // also the transport and the top domain
	listDomains   int
	singleDomains int  // 0: the singles go where the list goes
	perUser       bool // one recipient a request
	settings      []string
	processes     int
	pause         time.Duration
}

const (
	listSize = 5000
	singles  = 200
)

var scenarios = []scenario{
	{name: "manysites", listDomains: 500, singleDomains: 200, processes: 10, pause: 2 * time.Millisecond},
	{name: "onesite", listDomains: 1, processes: 30, pause: 2 * time.Millisecond},
	{name: "othersite", listDomains: 1, singleDomains: 200, processes: 10, pause: 2 * time.Millisecond},
	{name: "peruser", listDomains: 500, singleDomains: 200, perUser: true, processes: 20},
	{name: "dear", listDomains: 500, singleDomains: 200, processes: 10, pause: 2 * time.Millisecond,
		settings: []string{"dear_delivery_slot_cost = 10", "dear_delivery_slot_loan = 0", "dear_delivery_slot_discount = 0"}},
	{name: "never", listDomains: 500, singleDomains: 200, processes: 10, pause: 2 * time.Millisecond,
		settings: []string{"never_delivery_slot_cost = 0"}},
	{name: "narrow", listDomains: 500, singleDomains: 200, processes: 10, pause: 2 * time.Millisecond,
		settings: []string{"narrow_recipient_limit = 100", "narrow_extra_recipient_limit = 10"}},
}

func (sc scenario) main() []string {
	s := append([]string{"initial_destination_concurrency = 5"}, sc.settings...)
	if sc.perUser {
		s = append(s, sc.name+"_destination_recipient_limit = 1")
	}
	return s
}

// play lets the list come first, holds all deliveries until the singles are in
// the active queue, and returns the places of the singles in the order of requests.
func (sc scenario) play(t *testing.T, m *machine) (places []int, total int) {
	s := m.sink(sc.name, sc.processes, sc.pause)
	now := time.Now()
	m.put(queue.Incoming, letter{sender: "list@here.test", rcpts: addresses("list", sc.name, listSize, sc.listDomains), created: now})
	m.trigger("I")
	m.wait(20*time.Second, sc.name+": the list's first request", func() bool { return s.count() > 0 })
	time.Sleep(1100 * time.Millisecond) // job order has seconds
	kind, domains := "single", sc.singleDomains
	if domains == 0 {
		kind, domains = "list", sc.listDomains
	}
	sender := "single-" + sc.name + "@here.test"
	for _, rcpt := range addresses(kind, sc.name, singles, domains) {
		m.put(queue.Incoming, letter{sender: sender, rcpts: []string{rcpt}, created: time.Now()})
	}
	m.trigger("I")
	m.wait(20*time.Second, sc.name+": singles active", func() bool { return m.CountLog("from=<"+sender+">") == singles })
	time.Sleep(300 * time.Millisecond)
	s.open()
	m.wait(60*time.Second, sc.name+": all delivered", func() bool { return m.files(queue.Active)+m.files(queue.Incoming) == 0 })
	rcpts := 0
	requests := s.requests()
	for i, r := range requests {
		rcpts += len(r.Recipients)
		if !isList(r) {
			places = append(places, i)
		}
	}
	if rcpts != listSize+singles || len(places) != singles {
		t.Errorf("%s: %d recipients delivered, %d single messages", sc.name, rcpts, len(places))
	}
	return places, len(requests)
}

// summary is where the singles stand, in percent of the whole: the mean, then
// the first, every quarter, the last.
func summary(places []int, total int) [6]float64 {
	slices.Sort(places)
	var out [6]float64
	for _, p := range places {
		out[0] += float64(p)
	}
	out[0] = out[0] / float64(max(1, len(places))) * 100 / float64(total)
	for i := range 5 {
		out[i+1] = float64(places[i*(len(places)-1)/4]) * 100 / float64(total)
	}
	return out
}

// tolerance between the two queue managers, in percent of the whole order.
const tolerance = 4

// TestOrder compares the order of deliveries with that of Debian's queue manager:
// everything else is the same, and the agents are the test's.
func TestOrder(t *testing.T) {
	t.Parallel()
	compare(t, "qmgr", scenarios)
}

func TestOrderOfOldManager(t *testing.T) {
	t.Parallel()
	compare(t, "oqmgr", []scenario{scenarios[0], scenarios[1], scenarios[2]})
}

func compare(t *testing.T, program string, scenarios []scenario) {
	var figures [2][][6]float64
	t.Run("suites", func(t *testing.T) {
		for _, suite := range []world.Suite{world.Ours, world.Debian} {
			t.Run(suite.String(), func(t *testing.T) {
				t.Parallel()
				figures[suite] = run(t, program, suite, scenarios)
			})
		}
	})
	if t.Failed() || figures[world.Ours] == nil || figures[world.Debian] == nil {
		return
	}
	for i, sc := range scenarios {
		ours, debian := figures[world.Ours][i], figures[world.Debian][i]
		t.Logf("%-10s debian mean %5.1f%% (first, quarters, last %.1f); ours %5.1f%% (%.1f)", sc.name, debian[0], debian[1:], ours[0], ours[1:])
		for k := range ours {
			if math.Abs(ours[k]-debian[k]) > tolerance {
				t.Errorf("%s: singles at %.1f, with Debian's at %.1f", sc.name, ours, debian)
				break
			}
		}
	}
}

func run(t *testing.T, program string, suite world.Suite, scenarios []scenario) (out [][6]float64) {
	o := world.Options{Suite: world.Ours}
	if suite == world.Debian {
		o.Swap = []string{program}
	}
	routes := make([]string, 0, len(scenarios))
	for _, sc := range scenarios {
		o.Main = append(o.Main, sc.main()...)
		routes = append(routes, fmt.Sprintf("{ .%s = %s: }", sc.name, sc.name))
	}
	o.Main = append(o.Main, "transport_maps = inline:{ "+strings.Join(routes, ", ")+" }")
	m := newMachine(t, o)
	m.called(program)
	m.start()
	defer m.Stop()
	for _, sc := range scenarios {
		places, total := sc.play(t, m)
		if t.Failed() {
			t.FailNow()
		}
		out = append(out, summary(places, total))
	}
	return out
}
