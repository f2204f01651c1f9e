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
// see the same, and the same is logged and remembered. Rows that differ are
// played once more by themselves: some dialogues go by tenths of a second, which
// a crowded machine stretches.
func TestDifferential(t *testing.T) {
	rows := wanted(readScenarios(t, "testdata/scenarios.txt"))
	differ := compare(t, rows)
	if len(differ) > 0 {
		rows = slices.DeleteFunc(rows, func(r *row) bool { return differ[r.name] == nil })
		differ = compare(t, rows)
	}
	for _, differences := range differ {
		for _, text := range differences {
			t.Error(text)
		}
	}
}

// compare plays rows with both suites and returns the differences by row.
func compare(t *testing.T, rows []*row) map[string][]string {
	var debian, ours result
	t.Run("suites", func(t *testing.T) {
		t.Run("debian", func(t *testing.T) { debian = run(t, world.Options{Suite: world.Debian}, rows) })
		t.Run("ours", func(t *testing.T) { ours = run(t, world.Options{Suite: world.Ours}, rows) })
	})
	if debian.said == nil || ours.said == nil {
		t.Skip("no machines")
	}
	differ, n := map[string][]string{}, 0
	note := func(r *row, what string, got, want []string) {
		if !slices.Equal(got, want) {
			differ[r.name] = append(differ[r.name], what+": ours:\n  "+strings.Join(got, "\n  ")+"\nDebian's:\n  "+strings.Join(want, "\n  "))
		}
	}
	for _, r := range rows {
		note(r, r.name+", log", ours.logs[r.name], debian.logs[r.name])
		for _, s := range r.scenarios {
			n++
			key := r.name + "/" + s.name
			note(r, key, ours.said[key], debian.said[key])
		}
	}
	t.Logf("%d dialogues, %d rows differ", n, len(differ))
	return differ
}
