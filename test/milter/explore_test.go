package milter

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"posthaste/test/world"
)

// Outcomes of Debian's suite are kept while exploring.
const kept = "/tmp/filter-debian.json"

func runAll(t *testing.T, o world.Options) map[string]outcome {
	l := newLab(t, o, true)
	all := map[string]outcome{}
	for _, c := range editCases {
		if only := os.Getenv("CASE"); only != "" && !strings.Contains(c.name, only) {
			continue
		}
		l.configure(t, c.conf)
		m := c.mail
		fill(&m)
		all[c.name] = l.run(t, m, c.scripts()...)
	}
	return all
}

func TestExploreDebian(t *testing.T) {
	all := runAll(t, world.Options{Suite: world.Debian})
	b, _ := json.Marshal(all)
	os.WriteFile(kept, b, 0644)
}

func TestExploreSwap(t *testing.T) {
	var want map[string]outcome
	b, _ := os.ReadFile(kept)
	json.Unmarshal(b, &want)
	o := world.Options{Suite: world.Debian, Swap: []string{"cleanup"}}
	if os.Getenv("OURS") != "" {
		o = world.Options{Suite: world.Ours}
	}
	got := runAll(t, o)
	for _, c := range editCases {
		if os.Getenv("CASE") != "" && !strings.Contains(c.name, os.Getenv("CASE")) {
			continue
		}
		if d := compare(want[c.name], got[c.name]); d != "" {
			t.Errorf("=== %s\n%s", c.name, d)
		}
	}
}
