package postconf

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/command"
	"posthaste/pkg/conf"
)

// TestDefaults compares postconf -d with what Debian's prints for Debian's
// master.cf. The differences are deliberate.
func TestDefaults(t *testing.T) {
	differences := map[string]string{
		"mail_version":                   conf.Version,
		"smtpd_forbid_bare_newline":      "normalize", // safer default of Postfix 3.9
		"smtpd_forbid_unauth_pipelining": "yes",       // safer default of Postfix 3.9
	}
	ofTheMachine := map[string]bool{"myhostname": true, "mydomain": true, "mynetworks": true, "process_id": true}
	want, err := os.ReadFile("testdata/debian-d.txt")
	if err != nil {
		t.Fatal(err)
	}
	master, err := os.ReadFile("testdata/debian-master.cf")
	if err != nil {
		t.Fatal(err)
	}
	dir, text := t.TempDir(), string(master)
	put(t, dir, "master.cf", &text)
	out, stderr, exit := run(t, dir, "-d")
	if exit != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	got, lines := strings.Split(out, "\n"), strings.Split(string(want), "\n")
	all := len(got)
	got = slices.DeleteFunc(got, func(line string) bool {
		name, _, _ := strings.Cut(line, " ")
		return isNew(name)
	})
	if n := all - len(got); n != 43 {
		t.Errorf("%d parameters of later releases, want 43", n)
	}
	if len(got) != len(lines) {
		t.Fatalf("%d lines, want %d", len(got), len(lines))
	}
	for i, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		if v, ok := differences[name]; ok {
			if got[i] == line {
				t.Errorf("%s does not differ", name)
			}
			line = name + " = " + v
		}
		if ofTheMachine[name] {
			if !strings.HasPrefix(got[i], name+" = ") {
				t.Errorf("got %q for %s", got[i], name)
			}
			continue
		}
		if got[i] != line {
			t.Errorf("got %q, want %q", got[i], line)
		}
	}
}

// TestDeliberate checks what the commands do that TestGolden leaves out.
func TestDeliberate(t *testing.T) {
	base := "compatibility_level = 3.6\n"
	for _, c := range []struct {
		args               []string
		main, master       string
		out, err           string
		newMain, newMaster string
	}{
		{args: []string{"-X", "biff", "biff"}, main: "biff = no\nx = 1\n", newMain: "x = 1\n"},
		{args: []string{"-Fe", "a/unix/command="}, main: base, master: "a unix - - - - - b\n",
			err: "fatal: bad field count: \"a/unix/command=\"", newMaster: "a unix - - - - - b\n", newMain: base},
		{args: []string{"-Fe", "a/unix/wakeup="}, main: base, master: "a unix - - - - - b\n",
			err: `fatal: invalid wakeup field "" in ""`, newMaster: "a unix - - - - - b\n", newMain: base},
		{args: []string{"-Fe", "a/unix/command=b {c d} e {}"}, main: base, master: "a unix - - - - - b\n", newMain: base,
			newMaster: "a          unix  -       -       -       -       -       b {c d} e {}\n"},
		{args: []string{"-Fh", "a/unix/command"}, main: base, newMain: base, master: "a unix - - - - - b c\n",
			newMaster: "a unix - - - - - b c\n", out: "b c\n"},
		{args: []string{"-Me", "b/unix=b unix - - - - - c"}, main: base, newMain: base, master: "a unix - - - - - b\n#end",
			newMaster: "a unix - - - - - b\n#end\nb          unix  -       -       -       -       -       c\n"},
		{args: []string{"b=1", "a=2"}, main: "x = 1", newMain: "x = 1\na = 2\nb = 1\n"},
		{args: []string{"-Pe", "a/unix/x=1"}, main: base, newMain: base, master: "#1\na unix - - - - - b\n#2\n  -v\n#3\nb unix - - - - - b\n",
			newMaster: "#1\n#2\n#3\na          unix  -       -       -       -       -       b -v\n    -o x=1\nb unix - - - - - b\n"},
	} {
		dir := t.TempDir()
		put(t, dir, "main.cf", &c.main)
		put(t, dir, "master.cf", &c.master)
		out, stderr, exit := run(t, dir, c.args...)
		if (exit != 0) != (c.err != "") || out != c.out || !strings.Contains(stderr, c.err) {
			t.Errorf("%q: exit %d, %q, %q", c.args, exit, out, stderr)
		}
		if got := get(dir, "main.cf"); got != c.newMain {
			t.Errorf("%q: main.cf %q, want %q", c.args, got, c.newMain)
		}
		if got := get(dir, "master.cf"); got != c.newMaster {
			t.Errorf("%q: master.cf %q, want %q", c.args, got, c.newMaster)
		}
	}
}

func TestEnvironment(t *testing.T) {
	dir, main, empty := t.TempDir(), "biff = no\n", ""
	put(t, dir, "main.cf", &main)
	put(t, dir, "master.cf", &empty)
	var out, stderr bytes.Buffer
	env := command.Env{Stdout: &out, Stderr: &stderr, Environ: []string{"MAIL_CONFIG=" + dir}}
	if exit := Run([]string{"postconf", "-n"}, env); exit != 0 || out.String() != "biff = no\nconfig_directory = "+dir+"\n" {
		t.Errorf("exit %d: %s%s", exit, out.String(), stderr.String())
	}
}

func TestMapTypes(t *testing.T) {
	dir, main, text := t.TempDir(), "", "# comment\nmytype postfix-mytype.so dict_mytype_open\nhash x y\n"
	put(t, dir, "main.cf", &main)
	put(t, dir, "dynamicmaps.cf", &text)
	if err := os.Mkdir(filepath.Join(dir, "dynamicmaps.cf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	text = "other a b\n"
	put(t, dir, "dynamicmaps.cf.d/x.cf", &text)
	out, _, exit := run(t, dir, "-m")
	words := " " + strings.Join(strings.Fields(out), " ") + " "
	if exit != 0 || !strings.Contains(words, " hash ") || strings.Count(words, " hash ") != 1 ||
		!strings.Contains(words, " mytype ") || !strings.Contains(words, " other ") {
		t.Error(exit, out)
	}
}

func TestTLSInfo(t *testing.T) {
	for mode, want := range map[string]string{"compile-version": "Go crypto/tls go", "run-version": "Go crypto/tls go", "public-key-algorithms": "ecdsa\n"} {
		if out, _, exit := run(t, t.TempDir(), "-T", mode); exit != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: %d, %q", mode, exit, out)
		}
	}
	if _, stderr, exit := run(t, t.TempDir(), "-T", "x"); exit != 1 || stderr != "postconf: warning: unknown 'postconf -T' mode: x\n" {
		t.Errorf("%d, %q", exit, stderr)
	}
}

func TestTemplatesWithoutBounce(t *testing.T) {
	dir, main := t.TempDir(), "mail_owner = nosuchuser\n"
	put(t, dir, "main.cf", &main)
	t.Setenv("MAIL_CONFIG", dir)
	if os.Geteuid() == 0 {
		_, stderr, exit := run(t, dir, "-b")
		if exit != 1 || !strings.Contains(stderr, "mail_owner") {
			t.Errorf("%d, %q", exit, stderr)
		}
	}
}

// FuzzEntry checks that what is printed for an entry is read as the same entry.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{"smtp inet n - y - - smtpd -vo a=b -oc=d -o { e = f g } -m 5 x {y z}", "a unix - - - 1? 0 b {} { } -o", "a unix - - - - - b -o {"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\v\f") {
			return // blanks that do not separate fields
		}
		damaged := false
		e, err := parseEntry(text, func(string, ...any) { damaged = true })
		if err != nil || damaged {
			return
		}
		for _, a := range e.args {
			if strings.Count(a, "{") != strings.Count(a, "}") {
				return // cannot be written between braces
			}
		}
		for _, folded := range []bool{false, true} {
			printed := strings.ReplaceAll(e.text(folded), "\n", "")
			again, err := parseEntry(printed, func(string, ...any) { damaged = true })
			if err != nil {
				t.Fatalf("%q: printed as %q: %v", text, printed, err)
			}
			if second := strings.ReplaceAll(again.text(folded), "\n", ""); second != printed && !damaged {
				t.Errorf("%q: printed as %q, then as %q", text, printed, second)
			}
		}
	})
}

// TestQuiet: -q leaves out the warnings about what nothing reads, and no other.
func TestQuiet(t *testing.T) {
	dir := t.TempDir()
	client := "dbname = x\nbogus = y\n"
	put(t, dir, "client.cf", &client)
	main := "bif = no\nmyorigin = $nosuch\nalias_maps = mysql:" + dir + "/client.cf\nbiff = no\nbiff = yes\n"
	master := "x unix - - - - - smtp -o unused=1\n"
	put(t, dir, "main.cf", &main)
	put(t, dir, "master.cf", &master)
	lines := func(args ...string) (list []string) {
		_, stderr, exit := run(t, dir, args...)
		if exit != 0 {
			t.Errorf("%s: %d %s", args, exit, stderr)
		}
		for line := range strings.Lines(stderr) {
			list = append(list, line)
		}
		return list
	}
	loud, quiet := lines("-n"), lines("-qn")
	left := slices.DeleteFunc(slices.Clone(loud), func(line string) bool { return strings.Contains(line, "unused parameter") })
	if len(loud)-len(left) != 3 || len(left) != 2 || !slices.Equal(left, quiet) {
		t.Errorf("%q\n%q", loud, quiet)
	}
}
