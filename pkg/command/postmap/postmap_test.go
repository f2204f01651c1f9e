package postmap_test

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/pkg/command"
	"posthaste/pkg/command/postalias"
	"posthaste/pkg/command/postmap"
)

// TestMain makes the test binary the commands, by the name it is called as.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "postmap":
		os.Exit(postmap.Main(os.Args))
	case "postalias":
		os.Exit(postalias.Main(os.Args))
	}
	os.Exit(m.Run())
}

// owners gives main.cf settings that pass the checks on this machine.
func owners(t *testing.T) string {
	t.Helper()
	_, errUser := user.Lookup("mail")
	_, errGroup := user.LookupGroup("tty")
	if errUser != nil || errGroup != nil {
		t.Skip("no user mail to be mail_owner, or no group tty to be setgid_group")
	}
	return "mail_owner = mail\nsetgid_group = tty\n"
}

func configDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := "myhostname = mail.example.com\ncompatibility_level = 3.6\nsyslog_name = posthaste-test\n" +
		"queue_directory = " + dir + "\ndata_directory = " + dir + "\n" + owners(t)
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGoldens runs the scripts in testdata and compares with what Debian's commands
// (3.7.11) wrote, standard output and error together.
func TestGoldens(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash to run the scripts with")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, config := t.TempDir(), configDir(t)
	for _, name := range []string{"postmap", "postalias"} {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	scripts, _ := filepath.Glob("testdata/*.sh")
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			t.Parallel()
			path, _ := filepath.Abs(script)
			cmd := exec.Command(bash, path)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "MAIL_CONFIG="+config, "LC_ALL=C")
			out, _ := cmd.CombinedOutput()
			golden, err := os.ReadFile(strings.TrimSuffix(path, ".sh") + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			got, want := strings.Split(string(out), "\n"), strings.Split(string(golden), "\n")
			for i := range max(len(got), len(want)) {
				var g, w string
				if i < len(got) {
					g = got[i]
				}
				if i < len(want) {
					w = want[i]
				}
				if g != w {
					t.Fatalf("line %d: got %q, want %q\nall:\n%s", i+1, g, w, out)
				}
			}
		})
	}
}

func run(t *testing.T, config, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := command.Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Environ: []string{"MAIL_CONFIG=" + config}}
	status = postmap.Run(append([]string{"postmap"}, args...), env)
	return status, out.String(), errs.String()
}

func TestRun(t *testing.T) {
	dir := configDir(t)
	file := filepath.Join(dir, "t")
	if status, _, stderr := run(t, dir, "a 1\nB two\n", "-i", "hash:"+file); status != 0 || stderr != "" {
		t.Fatalf("create: %d %s", status, stderr)
	}
	if status, stdout, _ := run(t, dir, "A\nb\nc\n", "-q", "-", "hash:"+file); status != 0 || stdout != "A\t1\nb\ttwo\n" {
		t.Errorf("query: %d %q", status, stdout)
	}
	if status, _, _ := run(t, dir, "", "-d", "A", "hash:"+file); status != 0 {
		t.Errorf("delete: %d", status)
	}
	if status, stdout, _ := run(t, dir, "", "-s", "hash:"+file); status != 0 || stdout != "b\ttwo\n" {
		t.Errorf("dump: %d %q", status, stdout)
	}
	if status, _, stderr := run(t, filepath.Join(dir, "none"), "", "-q", "x", "static:y"); status != 1 || !strings.Contains(stderr, "postmap: fatal: open ") {
		t.Errorf("no main.cf: %d %q", status, stderr)
	}
}

func TestRebuild(t *testing.T) {
	dir := configDir(t)
	file := filepath.Join(dir, "aliases")
	if err := os.WriteFile(file, []byte("postmaster: root\nlist: a, b (two)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	env := command.Env{Stdin: strings.NewReader(""), Stdout: &errs, Stderr: &errs, Environ: []string{"MAIL_CONFIG=" + dir}}
	if status := postalias.Rebuild(env, []string{"hash:" + file, "cdb:" + file}, 0); status != 0 || errs.Len() > 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	for _, typ := range []string{"hash:", "cdb:"} {
		if _, stdout, _ := run(t, dir, "", "-q", "list", typ+file); stdout != "a, b (two)\n" {
			t.Errorf("%s: %q", typ, stdout)
		}
	}
	st, err := os.Stat(file + ".db")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want that of the source: %v", st.Mode(), err)
	}
}
