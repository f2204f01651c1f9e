package proc

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A daemon that keeps root in reserve must not hand it to a command for which
// no identity is given.
func TestNoIdentityIsNotRoot(t *testing.T) {
	if os.Getenv("PROC_TEST_RESERVE") != "" {
		reserve()
		return
	}
	if os.Getuid() != 0 {
		t.Skip("SKIP: needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoIdentityIsNotRoot$")
	cmd.Env = append(os.Environ(), "PROC_TEST_RESERVE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Uid: 65534 65534 65534 65534")) {
		t.Errorf("%v: %s", err, out)
	}
}

// reserve is the daemon, in a process of its own.
func reserve() {
	if syscall.Setresgid(-1, 65534, -1) != nil || syscall.Setresuid(-1, 65534, -1) != nil {
		os.Exit(1)
	}
	c := Command{Argv: []string{"/bin/grep", "^Uid", "/proc/self/status"}}
	r, err := c.Run(context.Background())
	if err != nil {
		os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString(strings.Join(strings.Fields(string(r.Output)), " "))
	os.Exit(0)
}
