package milter

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"posthaste/test/world"
)

// prepareChecks lays the tables out that cases name.
func prepareChecks(t testing.TB) func(l *lab) {
	return func(l *lab) {
		writeFile(t, l, checkPath, checkRules)
		writeFile(t, l, "/etc/postfix/mchecks", milterRules)
	}
}

// play passes the cases that match through a machine.
func play(t testing.TB, o world.Options, wanted func(c editCase) bool) map[string]outcome {
	l := newLabWith(t, o, true, prepareChecks(t))
	all := map[string]outcome{}
	cases := slices.Clone(editCases) // settings change as seldom as may be
	slices.SortStableFunc(cases, func(a, b editCase) int { return slices.Compare(a.conf, b.conf) })
	for _, c := range cases {
		if wanted(c) {
			l.configure(t, c.conf)
			m := c.mail
			fill(&m)
			all[c.name] = l.run(t, m, c.scripts()...)
		}
	}
	return all
}

// judge compares with Debian's, but for what a case says is ours.
func judge(t *testing.T, want, got map[string]outcome) {
	for _, c := range editCases {
		w, ok := want[c.name]
		if !ok {
			continue
		}
		g := got[c.name]
		for _, part := range c.differs {
			w.blank(part)
			g.blank(part)
		}
		if d := compare(w, g); d != "" {
			t.Errorf("%s: differs from Debian's (-):\n%s", c.name, d)
		}
	}
}

func (o *outcome) blank(part string) {
	switch part {
	case "seen":
		o.Seen = ""
	case "log":
		o.Log = ""
	case "replies":
		o.Replies = ""
	}
}

// TestEdits plays every case to Debian's suite and to ours: replies, queue
// files record by record and offset by offset, what the filters saw, and log
// lines.
func TestEdits(t *testing.T) {
	sideBySide(t, func(c editCase) bool { return c.conf == nil })
}

// TestEditsConfigured is TestEdits for the cases with settings of their own,
// for each of which the suites are restarted.
func TestEditsConfigured(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: restarts the suites many times, which takes a minute")
	}
	sideBySide(t, func(c editCase) bool { return c.conf != nil })
}

// shards is how many pairs of machines share the cases of a test; most of
// their time they wait.
const shards = 5

// sideBySide plays cases to both suites. Those with the same settings stay
// together.
func sideBySide(t *testing.T, wanted func(editCase) bool) {
	t.Parallel()
	for i := range uint32(shards) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			mine := func(c editCase) bool {
				key := strings.Join(c.conf, "\n")
				if c.conf == nil {
					key = c.name
				}
				return wanted(c) && crc32.ChecksumIEEE([]byte(key))%shards == i
			}
			judge(t, play(t, world.Options{Suite: world.Debian}, mine), play(t, world.Options{Suite: world.Ours}, mine))
		})
	}
}

// pairNames are the cases for each pairing of smtpd and cleanup.
var pairNames = []string{"none", "add", "insert 5 after padded", "delete adjacent", "rcpt add par", "rcpt del alias", "from par", "body twice", "all",
	"quarantine", "discard", "reject", "shutdown", "replycode multi", "header event reject", "large body", "long header", "die", "nested headers"}

// TestPairings hands Milters over between our smtpd and Debian's cleanup, and
// the other way round.
func TestPairings(t *testing.T) {
	t.Parallel()
	some := func(c editCase) bool { return slices.Contains(pairNames, c.name) }
	want := play(t, world.Options{Suite: world.Debian}, some)
	for _, o := range []world.Options{
		{Suite: world.Debian, Swap: []string{"cleanup"}},
		{Suite: world.Debian, Swap: []string{"smtpd"}},
		{Suite: world.Ours, Swap: []string{"cleanup"}},
	} {
		t.Run(o.Suite.String()+" but "+o.Swap[0], func(t *testing.T) {
			t.Parallel()
			judge(t, want, play(t, o, some))
		})
	}
}
