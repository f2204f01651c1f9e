package interchange

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"posthaste/test/world"
)

// chosen reads the environment variable INTERCHANGE: "full" gives every cell
// every kind, with chroot and without, and writes docs/interchange.md anew,
// which takes about a quarter of an hour; a short run gives most cells the
// kinds that use their daemon. "REGEXP" picks cells by name, "full:REGEXP"
// does and gives them all kinds.
func chosen() (full, write bool, only string) {
	only = os.Getenv("INTERCHANGE")
	if only == "full" {
		return true, true, ""
	}
	only, full = strings.CutPrefix(only, "full:")
	return full, false, only
}

// machines is how many cells run at once.
const machines = 4

// reference is what Debian's whole suite makes of the battery, found once.
var reference = sync.OnceValues(func() (*outcome, error) {
	w, err := world.New(world.Options{Suite: world.Debian, Main: settings, Memory: true})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	o, err := battery(w, "y", "", kinds)
	if err == nil && len(o.failed) > 0 {
		err = fmt.Errorf("Debian's own suite fails the battery:\n%s", strings.Join(o.failed, "\n"))
	}
	return o, err
})

// verdict is what came out of a cell.
type verdict struct {
	kinds, same int
	skipped     string   // why it did not run
	trouble     []string // what failed or differs
	log         string
}

// TestExchange passes the battery through all cells: Debian's suite a second
// time (what differs between two runs of the reference is not masked well
// enough to judge others by), ours, and each with one program of the other.
func TestExchange(t *testing.T) {
	t.Parallel()
	list := cells("y")
	full, write, only := chosen()
	if full {
		list = append(list, cells("n")...)
	} else {
		list = append(list, cells("n")[:2]...)
	}
	if only != "" {
		re, err := regexp.Compile(only)
		if err != nil {
			t.Fatal(err)
		}
		list = slices.DeleteFunc(list, func(c cell) bool { return !re.MatchString(c.name()) })
	}
	_, err := reference()
	if errors.Is(err, world.ErrUnavailable) && (os.Getenv("CI") == "" || os.Geteuid() != 0) {
		t.Skip("SKIP: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	verdicts := make([]verdict, len(list))
	slots := make(chan struct{}, machines)
	var wait sync.WaitGroup
	for i, c := range list {
		wait.Go(func() {
			slots <- struct{}{}
			verdicts[i] = c.judge(c.kinds(full))
			<-slots
		})
	}
	wait.Wait()
	passed, skipped, transcripts := 0, 0, 0
	for i, c := range list {
		t.Run(c.name(), func(t *testing.T) {
			v := verdicts[i]
			transcripts += v.same
			switch {
			case v.skipped != "":
				skipped++
				t.Skip("SKIP: ", v.skipped)
			case len(v.trouble) > 0:
				t.Logf("log:\n%s", v.log)
				t.Error(strings.Join(v.trouble, "\n"))
			default:
				passed++
			}
		})
	}
	fmt.Fprintf(os.Stdout, "= interchange: %d cells of %d programs: %d as Debian's, %d skipped; %d transcripts of %d kinds compared\n", len(list), len(daemons), passed, skipped, transcripts, len(kinds))
	if write {
		if err := writeExchange(list, verdicts); err != nil {
			t.Error(err)
		}
	}
}

// judge runs a cell.
func (c cell) judge(list []kind) (v verdict) {
	if v.skipped = c.unbuilt(); v.skipped != "" {
		return v
	}
	w, err := world.New(c.options())
	if err != nil {
		return verdict{trouble: []string{err.Error()}}
	}
	defer w.Close()
	v.kinds = len(list)
	want, err := reference()
	if err != nil {
		return verdict{trouble: []string{err.Error()}}
	}
	got, err := battery(w, c.chroot, c.edit, list)
	if err != nil {
		return verdict{trouble: []string{err.Error()}}
	}
	v.trouble = got.failed
	for _, k := range list {
		d := difference(want.transcripts[k.name], got.transcripts[k.name])
		if d == "" {
			v.same++
		} else {
			v.trouble = append(v.trouble, fmt.Sprintf("%s: differs from Debian's (-) in:\n%s", k.name, d))
		}
	}
	if v.log = mailLog(w); len(v.log) > 6000 {
		v.log = v.log[len(v.log)-6000:]
	}
	return v
}

// has says whether a suite has a program.
func has(s world.Suite, daemon string) bool {
	root, err := world.Root()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(root, "build", s.String(), "usr/lib/postfix/sbin", daemon))
	return err == nil
}

// unbuilt says that a program to exchange does not exist in our suite.
func (c cell) unbuilt() string {
	if c.daemon != "" && !has(world.Ours, c.daemon) {
		return "our suite has no " + c.daemon
	}
	return ""
}

// options describe the cell's machine. Programs that our suite does not have
// are Debian's.
func (c cell) options() world.Options {
	o := world.Options{Suite: c.suite, Swap: slices.Clone(c.swap), Main: slices.Concat(settings, c.main), Memory: true}
	for _, d := range daemons {
		if c.suite == world.Ours && !has(world.Ours, d) {
			o.Swap = append(o.Swap, d)
		}
	}
	return o
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
		for i := range a {
			if a[i] != b[i] {
				return fmt.Sprintf("(same lines in another order from line %d on)\n- %s\n+ %s", i+1, a[i], b[i])
			}
		}
	}
	if len(out) > 40 {
		out = append(out[:40], "...")
	}
	return strings.Join(out, "\n")
}
