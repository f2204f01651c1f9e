package sched

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDestinationsTakeTurns is oqmgr: a large message to one destination, then small
// ones to others and to the same.
func TestDestinationsTakeTurns(t *testing.T) {
	cfg := defaults()
	cfg.RecipientLimit, cfg.SlotCost, cfg.RecipientPool = 1, 0, 0
	c := config(func(string) TransportConfig { return cfg })
	c.RoundRobin, c.MaxPending = true, 1
	s := New(c)
	var big []Routed
	for i := range 6 {
		big = append(big, rcpt("t", "x", fmt.Sprint(i)))
	}
	message(s, "X", big...)
	message(s, "y", rcpt("t", "y", "u"))
	message(s, "x", rcpt("t", "x", "u"))
	message(s, "z", rcpt("t", "z", "u"), rcpt("t", "y", "v"))
	var order strings.Builder
	for range 10 {
		started, _ := step(s)
		for _, e := range started {
			order.WriteString(e.Message.ID)
		}
		for _, e := range started {
			s.Done(e, success)
		}
	}
	// x has a window of 5, then 6: five of its requests start at first.
	if got, want := order.String(), "XyzXzXXXXx"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	check(t, s)
}

// TestTurnsAndTrouble has one destination fail among others.
func TestTurnsAndTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(plain)
		c.RoundRobin = true
		s := New(c)
		for i := range 40 {
			message(s, fmt.Sprint(i), rcpt("t", fmt.Sprint("d", i%4), "u"))
		}
		for n := 0; ; n++ {
			started, _ := step(s)
			if len(started) == 0 {
				break
			}
			for i, e := range started {
				r := success
				if e.Transport() == "t" && e.Nexthop() == "d0" && i%2 == 0 {
					r = site
				}
				s.Done(e, r)
			}
			for _, tr := range s.transports {
				for _, q := range tr.queues {
					if (q.ready > 0) != (q.turn.in != nil) {
						t.Fatalf("%s: ready %d, in line %v", q.Name, q.ready, q.turn.in != nil)
					}
				}
			}
		}
		if s.Messages() != 40 || s.Recipients() != 0 {
			t.Errorf("%d messages, %d recipients", s.Messages(), s.Recipients())
		}
		time.Sleep(301 * time.Second)
		s.Tick()
		if s.queues != 0 {
			t.Errorf("%d destinations left", s.queues)
		}
	})
}

// TestClogWarning follows spec §4.7, end.
func TestClogWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			name    string
			limit   int // concurrency
			others  int // messages elsewhere
			mention []string
			not     string
		}{
			{"limit reached", 5, 0, []string{"you may need to increase the main.cf smtp_destination_concurrency_limit from 5"}, "slow down"},
			{"others wait", 0, 40, []string{"this may slow down other mail deliveries", "you may need a separate master.cf transport for x"}, "helo"},
			{"alone", 20, 0, []string{"you may need to reduce smtp connect and helo timeouts", "smtp process limit"}, "separate"},
		} {
			var said []string
			cfg := defaults()
			cfg.ConcurrencyLimit = tc.limit
			c := config(func(string) TransportConfig { return cfg })
			c.MessageActiveLimit, c.ClogWarn = 100, 300*time.Second
			c.Warn = func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) }
			s := New(c)
			for i := range tc.others {
				message(s, fmt.Sprint("o", i), rcpt("smtp", fmt.Sprint("other", i), "u"))
			}
			fill := func(n int) {
				for i := range n {
					message(s, fmt.Sprint(i), rcpt("smtp", "x", "u"))
				}
			}
			fill(20)
			if len(said) != 0 {
				t.Errorf("%s: warned about a fifth: %q", tc.name, said)
			}
			fill(5)
			text := strings.Join(said, "\n")
			if want := fmt.Sprintf("mail for x is using up 21 of %d active queue entries", 21+tc.others); !strings.HasPrefix(text, want) {
				t.Errorf("%s: %q, want %q", tc.name, text, want)
			}
			for _, m := range append(tc.mention, "please avoid flushing", "qmgr_clog_warn_time = 0") {
				if !strings.Contains(text, m) {
					t.Errorf("%s: no %q in\n%s", tc.name, m, text)
				}
			}
			if strings.Contains(text, tc.not) {
				t.Errorf("%s: %q in\n%s", tc.name, tc.not, text)
			}
			n := len(said)
			time.Sleep(299 * time.Second)
			fill(1)
			time.Sleep(2 * time.Second)
			if len(said) != n {
				t.Errorf("%s: warned again after 299 s", tc.name)
			}
			if fill(1); len(said) != 2*n || !strings.Contains(said[n], "using up 27 of") {
				t.Errorf("%s: not warned again after 301 s: %q", tc.name, said[n:])
			}
		}
	})
}
