package scheduler

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

// load is a deferred queue.
type load struct {
	messages int
	sites    int // of these four are in trouble
	trouble  int // messages for each site in trouble
}

// sizes gives the load of the issue, or one for `make test`.
func sizes() load {
	if full() {
		return load{messages: 10000, sites: 300, trouble: 1000}
	}
	return load{messages: 1000, sites: 60, trouble: 100}
}

// result is when the mail of the healthy sites arrived, counted from the queue run.
type result struct {
	mean, worst time.Duration // over the sites: of a site's mean arrival
	last        time.Duration
	fresh       time.Duration // slowest of the messages that came in meanwhile
	windows     string        // log
	most        map[string]int
}

// flushDeferred fills the deferred queue and has it delivered by the suite's smtp.
// Without trouble, the sites that would be in trouble are well.
func flushDeferred(t *testing.T, l load, trouble bool, swap ...string) result {
	o := world.Options{Swap: swap, Main: []string{"destination_concurrency_feedback_debug = yes", "smtp_helo_timeout = 3s", "master_service_disable = inet"}}
	m := newMachine(t, o)
	m.start()
	defer m.Stop()
	sites := make([]*site, l.sites)
	for i := range sites {
		sites[i] = &site{addr: fmt.Sprintf("127.1.%d.%d", i/250, i%250+1)}
	}
	refusing, mute, slow, busy, healthy := sites[0], sites[1], sites[2], sites[3], sites[4:]
	if trouble {
		mute.mute, slow.pause, busy.busy = true, 2*time.Second, true
	}
	for _, s := range sites {
		if s != refusing || !trouble {
			s.listen(m)
		}
	}
	hourAgo := time.Now().Add(-time.Hour)
	put := func(s *site, i int) {
		m.put(queue.Deferred, letter{sender: "a@here.test", rcpts: []string{s.mailbox(i)}, created: hourAgo, due: hourAgo})
	}
	for i := range l.messages - 4*l.trouble {
		put(healthy[i%len(healthy)], i)
	}
	for _, s := range sites[:4] {
		for i := range l.trouble {
			put(s, i)
		}
	}
	start := time.Now()
	m.trigger("D")
	arrived := func() (n int) {
		for _, s := range healthy {
			n += len(s.accepted())
		}
		return n
	}
	m.wait(time.Minute, "the run's beginning", func() bool { return arrived() > 0 })
	const fresh = 20
	freshSite := &site{addr: "127.2.0.1"}
	freshSite.listen(m)
	var r result
	for i := range fresh {
		sent := time.Now()
		m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{freshSite.mailbox(i)}, created: sent})
		m.trigger("I")
		m.wait(time.Minute, "new mail", func() bool { return len(freshSite.accepted()) == i+1 })
		r.fresh = max(r.fresh, time.Since(sent))
	}
	m.wait(100*time.Second, "mail for healthy sites", func() bool { return arrived() == l.messages-4*l.trouble })
	for _, s := range healthy {
		var sum time.Duration
		times := s.accepted()
		for _, at := range times {
			sum += at.Sub(start)
			r.last = max(r.last, at.Sub(start))
		}
		mean := sum / time.Duration(len(times))
		r.mean += mean / time.Duration(len(healthy))
		r.worst = max(r.worst, mean)
	}
	r.windows = m.Syslog()
	r.most = map[string]int{"mute": mute.most, "slow": slow.most, "busy": busy.most}
	return r
}

func (r result) String() string {
	return fmt.Sprintf("arrival at a healthy site: mean %.2fs, worst site %.2fs, last message %.2fs; new mail at most %.2fs; most connections %v",
		r.mean.Seconds(), r.worst.Seconds(), r.last.Seconds(), r.fresh.Seconds(), r.most)
}

// TestSitesInTrouble runs a deferred queue with a site that refuses connections, one
// that never greets, one that takes 2 s for each reply and one that says 450: mail for
// the others arrives as without them.
func TestSitesInTrouble(t *testing.T) {
	l := sizes()
	calm := flushDeferred(t, l, false)
	t.Logf("no trouble: %v", calm)
	rough := flushDeferred(t, l, true)
	t.Logf("trouble:    %v", rough)
	if rough.mean > 2*calm.mean+2*time.Second || rough.worst > 2*calm.worst+2*time.Second {
		t.Errorf("mail for healthy sites is delayed by the others")
	}
	if rough.fresh > 5*time.Second {
		t.Errorf("new mail took %v", rough.fresh)
	}
	for name, n := range rough.most {
		if n > 20 {
			t.Errorf("%d connections to the %s site", n, name)
		}
	}
	checkWindows(t, rough.windows)
	if full() {
		debian := flushDeferred(t, l, true, "qmgr")
		t.Logf("Debian's:   %v", debian)
		checkWindows(t, debian.windows)
	}
}

// window is a destination's state as the spec's equations have it (§4.5), with the
// default settings: initial 5, limit 20, feedback 1, cohort limit 1.
type window struct {
	size                      int
	success, failure, cohorts float64
}

var initially = window{size: 5}

// up is the state after a good delivery. The window grows only when it is used: busy
// is not in the log, so both are possible.
func (w window) up() []window {
	w.cohorts = 0
	same := w
	if w.size < 20 {
		w.success++
		for w.success+0.5 >= 1 {
			w.size++
			w.success--
			w.failure = 0
		}
	}
	return []window{w, same}
}

// down is the state after a failed one; the last of a cohort closes the window.
func (w window) down() []window {
	w.cohorts += 1 / float64(w.size)
	if w.cohorts >= 1 {
		w.size = 0
		return []window{w}
	}
	w.failure--
	for w.failure-0.5 < 0 {
		w.size--
		w.success = 0
		w.failure++
	}
	w.size = max(w.size, 1)
	return []window{w}
}

func (w window) like(v window) bool {
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-4 }
	return w.size == v.size && near(w.success, v.success) && near(w.failure, v.failure) && near(w.cohorts, v.cohorts)
}

var windowLine = regexp.MustCompile(`qmgr_queue_(throttle|unthrottle): queue (\S+): limit (\d+) window (\d+) success (\S+) failure (\S+) fail_cohorts (\S+)`)

// checkWindows follows each destination through the log: every state must come from
// the one before, or from a fresh one (an idle destination is forgotten).
func checkWindows(t *testing.T, log string) {
	t.Helper()
	states := make(map[string]window)
	lines, wrong, ups, downs, widest := 0, 0, 0, 0, 0
	for line := range strings.Lines(log) {
		f := windowLine.FindStringSubmatch(line)
		if f == nil {
			continue
		}
		lines++
		number := func(s string) float64 { v, _ := strconv.ParseFloat(s, 64); return v }
		got := window{int(number(f[4])), number(f[5]), number(f[6]), number(f[7])}
		step := window.up
		if f[1] == "throttle" {
			step = window.down
		}
		before, known := states[f[2]]
		possible := step(initially)
		if known {
			possible = append(possible, step(before)...)
		}
		if !slices.ContainsFunc(possible, got.like) {
			if wrong++; wrong <= 5 {
				t.Errorf("%s after %+v (seen: %v)", strings.TrimSpace(line), before, known)
			}
		}
		if f[1] == "throttle" {
			downs++
		} else if got.size > before.size {
			ups++
		}
		widest = max(widest, got.size)
		states[f[2]] = got
	}
	t.Logf("%d window lines of %d destinations: %d times wider, %d failures, widest %d", lines, len(states), ups, downs, widest)
	if lines == 0 || downs == 0 {
		t.Error("no window moved")
	}
}
