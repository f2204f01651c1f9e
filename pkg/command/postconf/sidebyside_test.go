package postconf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/test/world"
)

// smallMaster is the master.cf of configurations that have none of their own.
const smallMaster = `smtp      inet  n       -       y       -       -       smtpd
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
smtp      unix  -       -       y       -       -       smtp
local     unix  -       n       n       -       -       local
`

// onceAll are the commands that are run for every configuration.
var onceAll = [][]string{
	{"-n"}, {"-nx"}, {"-nf"}, {"-x"}, {"-H", "-C", "user,service"}, {"-hx", "-C", "USER"}, {"-M"}, {"-Mfx"}, {"-P"}, {"-Pxfh"}, {"-Fx"}, {"-d", "relayhost", "smtp_recipient_limit"},
}

// job is one command on one configuration.
type job struct {
	dir   string // of the machine: what the files are copied from
	args  []string
	edits bool // the command has a directory of its own
}

// bench is a machine that sees both programs, and what they are to do there.
type bench struct {
	t    *testing.T
	w    *world.World
	jobs []job
}

const (
	benchDir  = "/tmp/side"
	theirs    = "/usr/sbin/postconf" // of a machine with Debian's suite
	jobsALine = 6                    // in one shell, one after the other
	maxJobs   = 100                  // lines at once: Debian's program sleeps for a second before it fails
)

func newBench(t *testing.T) *bench {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a private machine")
	}
	return &bench{t: t, w: world.Test(t, world.Options{Suite: world.Debian, Memory: true})}
}

// configuration writes the files of a configuration and returns its directory
// in the machine.
func (b *bench) configuration(name string, files map[string]string) string {
	b.t.Helper()
	dir := filepath.Join(benchDir, name)
	b.write(dir, files)
	return dir
}

func (b *bench) write(dir string, files map[string]string) {
	b.t.Helper()
	outside := b.w.Path(dir)
	if err := os.MkdirAll(outside, 0o755); err != nil {
		b.t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for name, text := range files {
		path := filepath.Join(outside, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			b.t.Fatal(err)
		}
	}
}

// isEdit tells whether a command changes files.
func isEdit(args []string) bool {
	for _, a := range args {
		if a == "" || a[0] != '-' || strings.HasPrefix(a, "-T") || strings.HasPrefix(a, "-C") {
			return strings.Contains(a, "=")
		}
		if strings.ContainsAny(a, "eX#") {
			return true
		}
		if strings.HasPrefix(a, "-o") {
			return false
		}
	}
	return false
}

// run runs all jobs with both programs, a few at a time, in one shell.
func (b *bench) run() {
	b.t.Helper()
	var script strings.Builder
	for start := 0; start < len(b.jobs); start += jobsALine {
		for side, program := range []string{theirs, world.Inside(world.Ours) + theirs} {
			for i := start; i < min(start+jobsALine, len(b.jobs)); i++ {
				b.command(&script, i, side, program)
			}
			script.WriteString("\n")
		}
	}
	b.shell(script.String())
}

// command writes the shell command of a job for one of the programs.
func (b *bench) command(script *strings.Builder, i, side int, program string) {
	j := b.jobs[i]
	out := fmt.Sprintf("%s/job.%d.%d", benchDir, i, side)
	dir := j.dir
	if j.edits {
		dir = out + ".d"
		fmt.Fprintf(script, "cp -a %s %s; ", j.dir, dir)
	}
	fmt.Fprintf(script, "cd %s; %s -c %s", dir, program, dir)
	for _, a := range j.args {
		fmt.Fprintf(script, " '%s'", strings.ReplaceAll(a, "'", `'\''`))
	}
	fmt.Fprintf(script, " >%s.out 2>%s.err </dev/null; echo $? >%s.rc; ", out, out, out)
}

// shell runs each line in a shell of its own, many at a time.
func (b *bench) shell(script string) {
	b.t.Helper()
	if err := os.MkdirAll(b.w.Path(benchDir), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.w.Path(benchDir+"/script"), []byte(script), 0o644); err != nil {
		b.t.Fatal(err)
	}
	loop := fmt.Sprintf("xargs -d '\\n' -n 1 -P %d sh -c <%s/script", maxJobs, benchDir)
	if r := b.w.Sh(loop); r.Code != 0 {
		b.t.Fatalf("%+v", r)
	}
}

// outcome is what a job did in one of the suites.
type outcome struct{ out, err, exit, main, master string }

func (b *bench) outcome(i, side int) outcome {
	j := b.jobs[i]
	name := fmt.Sprintf("%s/job.%d.%d", benchDir, i, side)
	read := func(path string) string { return get(b.w.Path(filepath.Dir(path)), filepath.Base(path)) }
	o := outcome{out: read(name + ".out"), err: read(name + ".err"), exit: strings.TrimSpace(read(name + ".rc"))}
	if j.edits {
		o.main, o.master = read(name+".d/main.cf"), read(name+".d/master.cf")
		mask := strings.NewReplacer(name+".d", "DIR")
		o.out, o.err = mask.Replace(o.out), mask.Replace(o.err)
	}
	o.err = strings.ReplaceAll(o.err, world.Inside(world.Ours)+theirs, theirs)
	o.out = strings.ReplaceAll(o.out, conf.Version, "3.7.11") // names this program
	return o
}

// masked are the deliberate differences of the output: a line of ours that
// begins so need not be Debian's, and the other way round.
var masked = []string{
	"smtpd_forbid_bare_newline = ",      // safer default of Postfix 3.9
	"smtpd_forbid_unauth_pipelining = ", // safer default of Postfix 3.9
	"process_id = ",                     // differs from run to run
}

// comparable leaves out what differs on purpose and sorts the messages, whose
// order is random in the original.
func (o outcome) comparable(ours bool) outcome {
	var out strings.Builder
	for line := range strings.Lines(o.out) {
		name, _, _ := strings.Cut(line, "=")
		switch {
		case slices.ContainsFunc(masked, func(m string) bool { return strings.HasPrefix(line, m) }):
		case ours && isNew(strings.TrimSpace(name)):
		default:
			out.WriteString(line)
		}
	}
	o.out, o.err = out.String(), sorted(o.err, true)
	return o
}

// sorted returns text with its lines sorted, if that is wanted.
func sorted(text string, wanted bool) string {
	if !wanted {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// check compares all outcomes.
func (b *bench) check(deliberate func(job) bool) {
	b.t.Helper()
	for i, j := range b.jobs {
		if deliberate(j) {
			continue
		}
		want, got := b.outcome(i, 0).comparable(false), b.outcome(i, 1).comparable(true)
		if want == got {
			continue
		}
		b.t.Errorf("%s: postconf %q:%s%s%s%s%s", filepath.Base(j.dir), j.args, difference("stdout", got.out, want.out), difference("stderr", got.err, want.err),
			difference("exit status", got.exit, want.exit), difference("main.cf", got.main, want.main), difference("master.cf", got.master, want.master))
	}
}

// difference shows the lines that only one of two texts has.
func difference(what, got, want string) string {
	if got == want {
		return ""
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "\n%s:", what)
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for len(g) > 0 && len(w) > 0 && g[0] == w[0] {
		g, w = g[1:], w[1:]
	}
	for len(g) > 0 && len(w) > 0 && g[len(g)-1] == w[len(w)-1] {
		g, w = g[:len(g)-1], w[:len(w)-1]
	}
	const most = 12
	fmt.Fprintf(&out, "\n got  %q\n want %q", g[:min(most, len(g))], w[:min(most, len(w))])
	return out.String()
}

// corpus reads testdata/corpus.txt: files and further commands by name.
func corpus(t *testing.T) (names []string, files map[string]map[string]string, commands map[string][][]string) {
	data, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	files, commands = map[string]map[string]string{}, map[string][][]string{}
	var name, file string
	for line := range strings.Lines(string(data)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case word == "@@":
			name, file = rest, "main.cf"
			names = append(names, name)
			files[name] = map[string]string{file: "compatibility_level = 3.6\nmyhostname = m.example.com\n", "master.cf": smallMaster}
		case name == "":
		case word == "@" && rest == "bare":
			files[name][file] = ""
		case word == "@" && strings.HasPrefix(rest, "run "):
			commands[name] = append(commands[name], splitArgs(rest[len("run "):]))
		case word == "@":
			file = rest
			files[name][file] = ""
		default:
			files[name][file] += line
		}
	}
	return names, files, commands
}

// splitArgs makes arguments of a line: options and single words, or what is an
// edit's text as one word.
func splitArgs(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		if (strings.Contains(w, "=") || w == "#") && len(words) > i+1 && !strings.Contains(strings.Join(words[i+1:], " "), "=") && isEdit(words) ||
			strings.HasPrefix(w, "smtp/inet=") || w == "biff" && i+1 < len(words) && words[i+1] == "=" || w == "#" {
			return append(words[:i:i], strings.Join(words[i:], " "))
		}
	}
	return words
}

// TestCorpus runs every configuration of the corpus through both programs.
func TestCorpus(t *testing.T) {
	b := newBench(t)
	names, files, commands := corpus(t)
	if len(names) < 150 {
		t.Fatalf("%d configurations", len(names))
	}
	for _, name := range names {
		dir := b.configuration(name, files[name])
		for _, args := range append(slices.Clone(onceAll), commands[name]...) {
			b.jobs = append(b.jobs, job{dir, args, isEdit(args)})
		}
	}
	b.run()
	b.check(func(j job) bool { return deliberateInCorpus[filepath.Base(j.dir)+" "+strings.Join(j.args, " ")] != "" })
	t.Logf("%d configurations, %d commands", len(names), len(b.jobs))
}

// deliberateInCorpus names the commands that behave differently on purpose,
// each with the reason.
var deliberateInCorpus = map[string]string{
	"empty -z": "the usage message names -j",
}

// isNew tells the parameters of releases after 3.7, which Debian's program does
// not know.
func isNew(name string) bool {
	p, ok := conf.LookupParameter(name)
	return ok && p.Since != ""
}
