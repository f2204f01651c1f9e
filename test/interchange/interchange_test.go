package interchange

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"posthaste/test/world"
)

// daemons are the programs that are exchanged one at a time.
var daemons = []string{"master", "smtpd", "cleanup", "trivial-rewrite", "qmgr", "smtp", "local", "virtual", "pipe", "bounce", "pickup", "showq"}

// reference is what Debian's whole suite makes of the battery, found once.
var reference = sync.OnceValues(func() (map[string]string, error) {
	w, err := world.New(world.Options{Suite: world.Debian, Main: settings})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	transcripts, failed, err := battery(w)
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("Debian's own suite fails the battery:\n%s", strings.Join(failed, "\n"))
	}
	return transcripts, err
})

// TestDebian passes the battery through Debian's suite a second time: what
// differs between two runs of the reference is not masked well enough to judge
// others by.
func TestDebian(t *testing.T) { try(t, world.Options{Suite: world.Debian, Main: settings}) }

func TestOurs(t *testing.T) { try(t, world.Options{Suite: world.Ours, Main: settings}) }

// TestOneOfOurs puts each of our programs into Debian's suite.
func TestOneOfOurs(t *testing.T) {
	for _, d := range daemons {
		t.Run(d, func(t *testing.T) {
			t.Parallel()
			try(t, world.Options{Suite: world.Debian, Swap: []string{d}, Main: settings})
		})
	}
}

// TestOneOfDebian puts each of Debian's programs into ours.
func TestOneOfDebian(t *testing.T) {
	for _, d := range daemons {
		t.Run(d, func(t *testing.T) {
			t.Parallel()
			swap := []string{d}
			if d == "smtp" { // it brings its connection cache, which ours has inside
				swap = append(swap, "scache")
			}
			try(t, world.Options{Suite: world.Ours, Swap: swap, Main: settings})
		})
	}
}

// try passes the battery through a machine and compares with the reference.
func try(t *testing.T, o world.Options) {
	w := world.Test(t, o)
	want, err := reference()
	if err != nil {
		t.Fatal(err)
	}
	got, failed, err := battery(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failed {
		t.Error(f)
	}
	different := 0
	for _, k := range kinds {
		if d := difference(want[k.name], got[k.name]); d != "" {
			different++
			t.Errorf("%s: differs from Debian's (-) in:\n%s", k.name, d)
		}
	}
	fmt.Fprintf(os.Stdout, "= interchange: %s with %v swapped: %d kinds, %d failed, %d different\n", o.Suite, o.Swap, len(kinds), len(failed), different)
}

// difference lists lines that only one side has, "-" for want, "+" for got.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	if slices.Equal(a, b) {
		return ""
	}
	counts := map[string]int{}
	for _, l := range a {
		counts[l]++
	}
	for _, l := range b {
		counts[l]--
	}
	var out []string
	for _, l := range slices.Concat(a, b) {
		switch n := counts[l]; {
		case n > 0:
			out = append(out, "- "+l)
		case n < 0:
			out = append(out, "+ "+l)
		}
		delete(counts, l)
	}
	if len(out) == 0 {
		return "(same lines in another order)"
	}
	if len(out) > 40 {
		out = append(out[:40], "...")
	}
	return strings.Join(out, "\n")
}
