package interchange

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

// shown masks what differs between two times a command is typed.
var shown = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d \d\d:\d\d:\d\d`), "DATE"},
	{regexp.MustCompile(`"arrival_time": \d+`), `"arrival_time": T`},
	{regexp.MustCompile(`"queue_id": "\w+"`), `"queue_id": "ID"`},
	{regexp.MustCompile(`fresh\d+@`), "fresh@"},
	{regexp.MustCompile(`PID: \d+`), "PID: N"},
	{regexp.MustCompile(`\[\d+\]: `), "[N]: "},
	{regexp.MustCompile(`\b[0-9A-F]{8,12}\b[*!#]?`), "ID"},
	{regexp.MustCompile(`(?m)^\w{3} [ \d]\d \d\d:\d\d:\d\d `), ""},
	{regexp.MustCompile(`(?m)^.*waiting for the Postfix mail system to terminate\n`), ""}, // said when it takes a second
	{regexp.MustCompile(`status 141\n`), "status 0\n"},                                    // Debian's postkick dies of SIGPIPE when the service is faster than its last byte
	{regexp.MustCompile(`create_time=\d+`), "create_time=T"},
}

func typedMask(s string) string {
	for _, m := range shown {
		s = m.re.ReplaceAllString(s, m.with)
	}
	return mask(s)
}

// TestCommands types at each running suite first its own commands and then
// the other suite's: they must say, log and do the same.
func TestCommands(t *testing.T) {
	t.Parallel()
	suites, each := []world.Suite{world.Debian, world.Ours}, [2]map[string]string{{}, {}}
	var wait sync.WaitGroup
	for i, suite := range suites {
		wait.Go(func() {
			t.Run(suite.String(), func(t *testing.T) { typeCommands(t, suite, each[i]) })
		})
	}
	wait.Wait()
	verdicts, good := each[0], 0
	maps.Copy(verdicts, each[1])
	for _, v := range verdicts {
		if v == "as its own" {
			good++
		}
	}
	fmt.Fprintf(os.Stdout, "= interchange: %d of %d exchanged commands do as the suite's own\n", good, 2*len(commandParts))
	if _, write, _ := chosen(); write {
		if err := writeCommands(verdicts); err != nil {
			t.Error(err)
		}
	}
}

func typeCommands(t *testing.T, suite world.Suite, verdicts map[string]string) {
	w := world.Test(t, cell{suite: suite, chroot: "y"}.options())
	if err := w.Libraries(); err != nil {
		t.Fatal(err)
	}
	if r := w.Sh(prepare, rows, "y", ""); r.Code != 0 {
		t.Fatalf("prepare: %s%s", r.Out, r.Err)
	}
	h, err := startHelpers(w)
	defer h.close()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	ids := w.Sh(`
sendmail -f alice@mail.example.com keep@wait.test <<<$'Subject: kept\n\nkept'; sendmail -f alice@mail.example.com alice <<<$'Subject: held\nX-Hold: y\n\nheld'
for i in $(seq 200); do p=$(find /var/spool/postfix/deferred -type f -printf '%f\n'); h=$(find /var/spool/postfix/hold -type f -printf '%f\n'); [ -n "$p" ] && [ -n "$h" ] && break; sleep .1; done
echo $p $h`)
	id := strings.Fields(ids.Out)
	if len(id) != 2 {
		t.Fatalf("no messages: %+v", ids)
	}
	// A part's first passage makes the files that are there in the second.
	for _, part := range commandParts {
		t.Run(part.name, func(t *testing.T) {
			key := suite.String() + " " + part.name
			verdicts[key] = "fails"
			if !has(world.Ours, "../../../sbin/"+filepath.Base(part.paths[0])) && !has(world.Ours, "../../../bin/"+filepath.Base(part.paths[0])) {
				verdicts[key] = "our suite has no " + part.name
				t.Skip("SKIP: ", verdicts[key])
			}
			want := typed(w, part, id)
			if err := exchange(w, part, 1-suite); err != nil {
				t.Fatal(err)
			}
			got := typed(w, part, id)
			if err := exchange(w, part, suite); err != nil {
				t.Fatal(err)
			}
			if d := difference(want, got); d != "" {
				t.Errorf("the other's %s differs from the suite's own (-) in:\n%s", part.name, d)
				return
			}
			verdicts[key] = "as its own"
		})
	}
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
}

// typed runs a script and returns what was said and what the commands logged.
func typed(w *world.World, part commandPart, id []string) string {
	before := len(w.Syslog())
	r := w.Sh(typing+part.script, id[0], id[1])
	time.Sleep(200 * time.Millisecond) // the last records may still be on their way
	text := typedMask(r.Out + r.Err)
	var logged []string
	for line := range strings.Lines(w.Syslog()[before:]) {
		if fromCommand.MatchString(line) {
			logged = append(logged, typedMask(process.ReplaceAllString(line, "$1: ")))
		}
	}
	slices.Sort(logged)
	return text + "\nlogged:\n" + typedMask(strings.Join(logged, ""))
}

// fromCommand are the records of commands and of what they cause at once.
var fromCommand = regexp.MustCompile(`(post(queue|super|cat|map|alias|conf|log|kick|lock|drop|fix-script)|sendmail|battery|lines)(\[\d+\])?: |postfix/(pickup|master|showq|flush)\[`)

// exchange puts a suite's commands at their places.
func exchange(w *world.World, part commandPart, s world.Suite) error {
	for _, path := range part.paths {
		r := w.Sh(`set -e; if [ ! -e "$1" ] && [ ! -L "$1" ]; then exit 0; fi
mode=755 group=root; case $2 in */postdrop|*/postqueue) mode=2555 group=postdrop;; esac
rm -f "$2"; cp -d "$1" "$2"; [ -L "$2" ] || { chgrp $group "$2"; chmod $mode "$2"; }`, world.Inside(s)+path, path)
		if r.Code != 0 {
			return fmt.Errorf("exchange %s: %s", path, r.Err)
		}
	}
	return nil
}
