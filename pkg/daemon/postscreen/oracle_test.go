package postscreen

import (
	"os"
	"slices"
	"strings"
	"testing"

	"posthaste/test/world"
)

// wanted leaves the scenarios that POSTSCREEN_ONLY asks for.
func wanted(rows []*row) []*row {
	only := os.Getenv("POSTSCREEN_ONLY")
	if only == "" {
		return rows
	}
	return slices.DeleteFunc(rows, func(r *row) bool { return !slices.Contains(strings.Split(only, ","), r.name) })
}

func TestShow(t *testing.T) {
	suite := map[string]world.Suite{"debian": world.Debian, "ours": world.Ours}
	which, ok := suite[os.Getenv("POSTSCREEN_SHOW")]
	if !ok {
		t.Skip("for people: POSTSCREEN_SHOW=debian or ours")
	}
	rows := wanted(readScenarios(t, "testdata/scenarios.txt"))
	res := run(t, world.Options{Suite: which}, rows)
	for _, r := range rows {
		t.Logf("== %s\n  %s", r.name, strings.Join(res.logs[r.name], "\n  "))
		for _, s := range r.scenarios {
			t.Logf("-- %s\n  %s", s.name, strings.Join(res.said[r.name+"/"+s.name], "\n  "))
		}
	}
}

// TestDifferential plays all dialogues with Debian's suite and with ours: clients
// see the same, and the same is logged and remembered.
func TestDifferential(t *testing.T) {
	rows := wanted(readScenarios(t, "testdata/scenarios.txt"))
	var debian, ours result
	t.Run("suites", func(t *testing.T) {
		t.Run("debian", func(t *testing.T) { debian = run(t, world.Options{Suite: world.Debian}, rows) })
		t.Run("ours", func(t *testing.T) { ours = run(t, world.Options{Suite: world.Ours}, rows) })
	})
	if debian.said == nil || ours.said == nil {
		t.Skip("no machines")
	}
	n := 0
	for _, r := range rows {
		if got, want := strings.Join(ours.logs[r.name], "\n  "), strings.Join(debian.logs[r.name], "\n  "); got != want {
			t.Errorf("%s: our log:\n  %s\nDebian's:\n  %s", r.name, got, want)
		}
		for _, s := range r.scenarios {
			n++
			key := r.name + "/" + s.name
			if got, want := strings.Join(ours.said[key], "\n  "), strings.Join(debian.said[key], "\n  "); got != want {
				t.Errorf("%s: ours:\n  %s\nDebian's:\n  %s", key, got, want)
			}
		}
	}
	t.Logf("%d dialogues", n)
}
