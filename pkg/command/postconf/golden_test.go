package postconf

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/command"
)

// golden is a configuration and what Debian's postconf made of it.
type golden struct {
	Main, Master *string
	Files        map[string]string
	Cmds         []struct {
		Args         []string
		Out, Err     string
		Exit         int
		Main, Master *string // after the command, when changed
	}
}

// deliberate are the commands that behave differently on purpose. Each is
// checked by TestDeliberate.
var deliberate = map[string]string{
	"edit1 -X biff biff":                                         "the original crashes",
	"fedit -F -e smtp/unix/command=":                             "the original crashes",
	"fedit -F -e a/unix/wakeup=":                                 "the original writes a file that cannot be read any more",
	"fedit -F -e smtp/inet/command=  smtpd   {a b} c ":           "the original loses the braces",
	"mshow -Fh foo/unix":                                         "the original prints no blank behind a short command",
	"mshow -Fh foo/unix/command":                                 "the original prints no blank behind a short command",
	"mshow -Fhf foo/unix/command":                                "the original prints no blank behind a short command",
	"mcomments -Me c/unix=c unix n n n - - x":                    "the original appends to a last line without newline",
	"mcomments -F -e b/unix/chroot=y":                            "the original appends to a last line without newline",
	"medit -M -e new/inet=new inet n - n - - smtpd -o a=b {c d}": "the original loses the braces",
}

func isDeliberate(test string, args []string) bool {
	return deliberate[test+" "+strings.Join(args, " ")] != ""
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(paths) < 60 {
		t.Fatal(len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(data, &g); err != nil {
				t.Fatal(err)
			}
			for i := range g.Cmds {
				g.check(t, name, i)
			}
		})
	}
}

func (g *golden) check(t *testing.T, name string, i int) {
	c := g.Cmds[i]
	if isDeliberate(name, c.Args) {
		return
	}
	dir := t.TempDir()
	put(t, dir, "main.cf", g.Main)
	put(t, dir, "master.cf", g.Master)
	for file, text := range g.Files {
		put(t, dir, file, &text)
	}
	out, stderr, exit := run(t, dir, c.Args...)
	wantMain, wantMaster := g.Main, g.Master
	if c.Main != nil {
		wantMain = c.Main
	}
	if c.Master != nil {
		wantMaster = c.Master
	}
	for _, d := range []struct{ what, got, want string }{
		{"stdout", out, keepEmpty(c.Out)},
		{"stderr", messages(stderr, c.Exit), messages(c.Err, c.Exit)},
		{"main.cf", newline(get(dir, "main.cf")), newline(deref(wantMain))},
		{"master.cf", newline(get(dir, "master.cf")), newline(keepEmpty(deref(wantMaster)))},
	} {
		if d.got != d.want {
			t.Errorf("%q: %s:\n%s\nwant:\n%s", c.Args, d.what, d.got, d.want)
		}
	}
	if exit != c.Exit {
		t.Errorf("%q: exit %d, want %d", c.Args, exit, c.Exit)
	}
}

// newline supplies a missing newline at the end, as this program does.
func newline(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// keepEmpty puts in the empty argument that the original loses.
func keepEmpty(text string) string {
	return strings.NewReplacer("smtp  a b\n", "smtp {} a b\n", "\n    a b\n", "\n    {} a b\n").Replace(text)
}

// messages sorts messages, whose order in the original is random, and of those
// of a failed command keeps the last.
func messages(text string, exit int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if exit != 0 {
		return lines[len(lines)-1]
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func deref(s *string) string {
	if s == nil {
		return "(none)"
	}
	return *s
}

func put(t *testing.T, dir, name string, text *string) {
	t.Helper()
	if text == nil {
		return
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(*text), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func get(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "(none)"
	}
	return string(data)
}

// run runs postconf -c dir; in what it prints, dir becomes DIR.
func run(t *testing.T, dir string, args ...string) (out, stderr string, exit int) {
	t.Helper()
	var o, e bytes.Buffer
	env := command.Env{Stdin: strings.NewReader(""), Stdout: &o, Stderr: &e}
	exit = Run(append([]string{"postconf", "-c", dir}, args...), env)
	mask := strings.NewReplacer(dir, "DIR", " [-j (streaming JSON) ]", "", " [-q (quiet)]", "") // the usage message of 3.7 does not name -j and -q
	return mask.Replace(o.String()), mask.Replace(e.String()), exit
}
