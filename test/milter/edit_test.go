package milter

import (
	"slices"
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
	plain := func(c editCase) bool { return c.conf == nil }
	judge(t, play(t, world.Options{Suite: world.Debian}, plain), play(t, world.Options{Suite: world.Ours}, plain))
}

// TestEditsConfigured is TestEdits for the cases with settings of their own,
// for each of which the suites are restarted.
func TestEditsConfigured(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: restarts the suites many times, which takes a minute")
	}
	configured := func(c editCase) bool { return c.conf != nil }
	judge(t, play(t, world.Options{Suite: world.Debian}, configured), play(t, world.Options{Suite: world.Ours}, configured))
}

// pairNames are the cases for each pairing of smtpd and cleanup.
var pairNames = []string{"none", "add", "insert 5 after padded", "delete adjacent", "rcpt add par", "rcpt del alias", "from par", "body twice", "all",
	"quarantine", "discard", "reject", "shutdown", "replycode multi", "header event reject", "large body", "long header", "die", "nested headers"}

// TestPairings hands Milters over between our smtpd and Debian's cleanup, and
// the other way round.
func TestPairings(t *testing.T) {
	some := func(c editCase) bool { return slices.Contains(pairNames, c.name) }
	want := play(t, world.Options{Suite: world.Debian}, some)
	for _, o := range []world.Options{
		{Suite: world.Debian, Swap: []string{"cleanup"}},
		{Suite: world.Debian, Swap: []string{"smtpd"}},
		{Suite: world.Ours, Swap: []string{"cleanup"}},
	} {
		t.Run(o.Suite.String()+" but "+o.Swap[0], func(t *testing.T) { judge(t, want, play(t, o, some)) })
	}
}
