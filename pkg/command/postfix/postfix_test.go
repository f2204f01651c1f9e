package postfix

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
)

func TestStrftime(t *testing.T) {
	when := time.Date(2026, 11, 2, 6, 5, 4, 0, time.UTC)
	for format, want := range map[string]string{"%Y%m%d-%H%M%S": "20261102-060504", "x%%%j": "x%306", "%s": "1793599504", "plain": "plain"} {
		if got, err := strftime(format, when); got != want || err != nil {
			t.Errorf("%s: %s, %v", format, got, err)
		}
	}
	for _, bad := range []string{"%Q", "%D"} {
		if got, err := strftime(bad, when); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

func TestRecords(t *testing.T) {
	tl := &tool{config: conf.FromMap(map[string]string{"queue_directory": "/q", "mail_owner": "o", "setgid_group": "g"})}
	records, err := tl.parseRecords("x", "# comment\n$queue_directory/maildrop:d:$mail_owner:$setgid_group:730:uc\n$command_directory/x:h:y\n$queue_directory/a:f:root:-:644\n")
	if err != nil || len(records) != 2 {
		t.Fatalf("%+v, %v", records, err)
	}
	if want := (record{"/q/maildrop", "d", "o", "g", 0o730, "uc"}); records[0] != want {
		t.Errorf("%+v", records[0])
	}
	if want := (record{"/q/a", "f", "root", "", 0o644, ""}); records[1] != want {
		t.Errorf("%+v", records[1])
	}
	for _, bad := range []string{"$queue_directory:d:root\n", "$queue_directory:d:root:-:rwx\n"} {
		if _, err := tl.parseRecords("x", bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestUpgradeConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "master.cf")
	var text strings.Builder
	for _, e := range entries {
		if e.name != "anvil" && e.name != "postlog" && e.name != "#dnsblog" {
			fmt.Fprintln(&text, strings.Replace(e.line, "flush     unix  -", "flush     unix  n", 1))
		}
	}
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(text.String(), "\n")), 0o640); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tl := &tool{config: conf.FromMap(map[string]string{"inet_protocols": "all"}), dirs: directories{config: dir, meta: dir}, env: command.Env{Stdout: &out, Stderr: &out}}
	for range 2 { // the second time there is nothing to do
		if code := tl.upgradeConfiguration(); code != 0 {
			t.Fatalf("exit status %d: %s", code, out.String())
		}
	}
	if got, _ := os.ReadFile(path); string(got) != text.String()+"anvil\t  unix\t-\t-\tn\t-\t1\tanvil\n#dnsblog   unix  -       -       n       -       0       dnsblog\npostlog   unix-dgram n  -       n       -       1       postlogd\n" {
		t.Errorf("master.cf:\n%s", got)
	}
	if n := strings.Count(out.String(), "Editing "+path+", adding missing entry for "); n != 3 {
		t.Errorf("output: %s", out.String())
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", st.Mode())
	}
}

// site is a mail system of programs that do nothing, in which to check.
func site(t *testing.T) (tl *tool, logged *maillog.Buffer) {
	dir := t.TempDir()
	for _, d := range []string{"etc", "lib", "bin", "sbin", "meta"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"bin/postsuper", "bin/postconf", "sbin/master"} {
		if err := os.WriteFile(filepath.Join(dir, p), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tl = &tool{
		env: command.Env{Stdout: os.Stdout, Stderr: os.Stderr}, rootless: true, explicit: true,
		config: conf.FromMap(map[string]string{"config_directory": dir + "/etc", "queue_directory": dir + "/spool", "data_directory": dir + "/data"}),
		dirs: directories{command: dir + "/bin", daemon: dir + "/sbin", data: dir + "/data", meta: dir + "/meta",
			queue: dir + "/spool", config: dir + "/etc", shlib: "no"},
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/main.cf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tl.script, logged = maillog.Capture()
	t.Chdir(dir)
	return tl, logged
}

func TestCheck(t *testing.T) {
	tl, logged := site(t)
	if err := os.WriteFile("etc/master.cf", []byte("anvil unix - - n - 1 anvil\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tl.createMissing(); err != nil {
		t.Fatal(err)
	}
	t.Chdir(tl.dirs.queue)
	if code := tl.check(nil); code != 0 || len(logged.Lines()) != 0 {
		t.Errorf("a sound site: %d %q", code, logged.Lines())
	}
	if st, err := os.Stat("maildrop"); err != nil || st.Mode().Perm() != 0o730 {
		t.Errorf("maildrop: %v %v", st, err)
	}
	_ = os.WriteFile("corrupt/ABC", nil, 0o600)
	_ = os.Chmod("../etc/master.cf", 0o666)
	_ = os.Symlink("../../x", "../etc/bad")
	_ = os.MkdirAll("etc", 0o755)
	_ = os.WriteFile("etc/hosts", []byte("other\n"), 0o644)
	if code := tl.check(nil); code != 0 {
		t.Errorf("check %d", code)
	}
	want := []string{
		"warning: group or other writable: " + tl.dirs.config + "/./bad", // as the original says of a link to nothing
		"warning: group or other writable: " + tl.dirs.config + "/./master.cf",
		"warning: symlink leaves directory: " + tl.dirs.config + "/./bad",
		"warning: " + tl.dirs.queue + "/etc/hosts and /etc/hosts differ",
		"warning: damaged message: corrupt/ABC",
	}
	if got := logged.Lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
}

func TestControlWithoutMaster(t *testing.T) {
	tl, logged := site(t)
	if err := tl.createMissing(); err != nil {
		t.Fatal(err)
	}
	tl.run([]string{"status"})
	for _, name := range []string{"stop", "reload", "abort", "drain", "nonsense"} {
		func() {
			defer func() { _ = recover() }()
			tl.run([]string{name})
			t.Errorf("%s did not fail", name)
		}()
	}
	lines := logged.Lines()
	if lines[0] != "the Postfix mail system is not running" || lines[1] != "fatal: the Postfix mail system is not running" ||
		!strings.HasPrefix(lines[5], "fatal: unknown command: 'nonsense'. Usage: postfix start (or stop,") {
		t.Errorf("log: %q", lines)
	}
}

// A lock file that somebody holds is a running mail system.
func TestRunning(t *testing.T) {
	tl, _ := site(t)
	if err := tl.createMissing(); err != nil {
		t.Fatal(err)
	}
	t.Chdir(tl.dirs.queue)
	if tl.running() {
		t.Error("running without a lock file")
	}
	if err := os.WriteFile(pidFile, []byte(fmt.Sprintf("%32d\n", 123)), 0o600); err != nil {
		t.Fatal(err)
	}
	if tl.running() {
		t.Error("running without a lock")
	}
	holder := exec.Command("flock", "-F", pidFile, "sleep", "60")
	if err := holder.Start(); err != nil {
		t.Skip("no flock(1) to hold the lock")
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	for range 100 {
		if tl.running() {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !tl.running() || tl.pid() != 123 {
		t.Error("not running with a lock")
	}
}
