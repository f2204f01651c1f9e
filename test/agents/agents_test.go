// Package agents puts the delivery agents to hundreds of small tests beside
// Debian's: mailboxes, commands, aliases, locks, limits, everything that a
// recipient's files can be (spec/delivery.md §1, 3-5). What Debian's agents do
// is recorded in testdata; "go test -args -record" makes it anew.
package agents

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"posthaste/test/world"
)

var record = flag.Bool("record", false, "run Debian's agents and write down what they do")

// shards is how many machines share the scenarios of a module; most of their
// time they wait.
const shards = 10

// deliberate are the scenarios in which our agents do something else on
// purpose; docs/differences.md says why.
var deliberate = map[string]string{
	"virtual-map-regexp-subst": "the table's own error is logged",
	"virtual-map-private":      "the table's own error is logged",
	"virtual-uid-trail":        "a uid that is no number defers",
	"virtual-uid-big":          "a uid that is no number defers",
	"virtual-args":             "depends on when master starts the agent again",
}

func TestLocal(t *testing.T) { compare(t, "local", "local") }

func TestPipeAndVirtual(t *testing.T) { compare(t, "pipe", "pipe", "virtual") }

// compare runs a module of scenarios with our agents in Debian's suite.
func compare(t *testing.T, module string, agents ...string) {
	t.Parallel()
	golden := filepath.Join("testdata", module+".debian.txt")
	if *record {
		if err := os.WriteFile(golden, run(t, module, nil), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	ours, debians := sections(run(t, module, agents)), sections(want)
	for name := range ours {
		if _, known := debians[name]; !known {
			t.Errorf("%s: not recorded", name)
		}
	}
	differ := 0
	for name, want := range debians {
		got, ran := ours[name]
		if deliberate[name] != "" && ran {
			continue
		}
		if !slices.Equal(got, want) {
			differ++
			t.Errorf("%s: lines that only one has (- Debian's, + ours):\n%s", name, difference(want, got))
		}
	}
	fmt.Printf("= %s: %d scenarios, %d differ from Debian's\n", module, len(debians), differ)
}

// run runs a module on several machines of Debian's suite, with some programs
// of ours in it.
func run(t *testing.T, module string, swap []string) []byte {
	out := make([]bytes.Buffer, shards)
	var wg sync.WaitGroup
	for i := range shards {
		w := world.Test(t, world.Options{Suite: world.Debian, Swap: swap, Main: []string{
			"maillog_file = /var/log/mail.log", "inet_protocols = ipv4", "mydestination = $myhostname, localhost"}})
		for _, f := range []string{"harness.py", module + ".py"} {
			data, err := os.ReadFile(f)
			if err == nil {
				err = os.WriteFile(w.Path("/etc/postfix/"+f), data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		// The agent that catches forwarded mail and bounces is always Debian's.
		if r := w.Sh(`cp "$1/usr/lib/postfix/sbin/pipe" /usr/lib/postfix/sbin/dpipe`, world.Inside(world.Debian)); r.Code != 0 {
			t.Fatal(r.Err)
		}
		wg.Go(func() {
			cmd := w.Command("timeout", "300", "python3", "/etc/postfix/harness.py", module)
			cmd.Env = append(cmd.Env, fmt.Sprintf("SHARD=%d/%d", i, shards))
			r := world.Do(cmd, "")
			if r.Code != 0 {
				t.Errorf("%s, machine %d: status %d: %s", module, i, r.Code, r.Err[max(0, len(r.Err)-1000):])
			}
			t.Logf("%s, machine %d:\n%s", module, i, r.Err)
			out[i].WriteString(r.Out)
		})
	}
	wg.Wait()
	var all []byte
	for i := range out {
		all = append(all, out[i].Bytes()...)
	}
	return all
}

// sections cuts output at "## NAME". The lines of each are sorted and repeated
// ones left out: deliveries to several recipients run at the same time, and a
// program that cannot start is started again until the scenario ends.
func sections(text []byte) map[string][]string {
	found := map[string][]string{}
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if after, ok := strings.CutPrefix(line, "## "); ok {
			name = after
			found[name] = []string{}
		} else if name != "" && line != "" {
			found[name] = append(found[name], line)
		}
	}
	for name, lines := range found {
		slices.Sort(lines)
		found[name] = slices.Compact(lines)
	}
	return found
}

// difference lists the lines of which one side has more than the other.
func difference(want, got []string) string {
	count := map[string]int{}
	for _, l := range want {
		count[l]++
	}
	for _, l := range got {
		count[l]--
	}
	var out strings.Builder
	for l, n := range count {
		for ; n > 0; n-- {
			fmt.Fprintf(&out, "- %s\n", l)
		}
		for ; n < 0; n++ {
			fmt.Fprintf(&out, "+ %s\n", l)
		}
	}
	return out.String()
}
