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
