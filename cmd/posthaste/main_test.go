package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A set-gid copy must not run other programs under the name its caller chose.
func TestSetGIDIsOnlyItself(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: making a set-gid program needs root")
	}
	if testing.Short() {
		t.Skip("SKIP: builds the whole executable")
	}
	dir, err := os.MkdirTemp("/tmp", "setgid.")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	exe := filepath.Join(dir, "postdrop")
	if out, err := exec.Command("go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	const group = 54321
	if err := os.Chown(exe, 0, group); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Chmod(exe, 0o2755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"postlock", "-c", dir, dir + "/x", "/usr/bin/id"}, {"posthaste", "postlock", dir + "/x", "/usr/bin/id"},
		{"postkick", "public", "qmgr", "W"}, {"sendmail", "-q"}, {"qmgr"}, {"/usr/sbin/postcat", "/dev/null"}, {""},
	} {
		cmd := exec.Cmd{Path: exe, Args: argv, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}}
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), "this executable is set-gid") {
			t.Errorf("%q: %s", argv, out)
		}
	}
	cmd := exec.Cmd{Path: exe, Args: []string{"postdrop", "-?"}, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}}
	if out, _ := cmd.CombinedOutput(); strings.Contains(string(out), "set-gid") {
		t.Errorf("postdrop itself: %s", out)
	}
}
