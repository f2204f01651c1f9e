package fsstone

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"posthaste/pkg/command"
)

func TestRun(t *testing.T) {
	for _, x := range []struct {
		args string
		code int
	}{{"5 3", 0}, {"-c 5 3", 0}, {"-cr 5 3", 0}, {"-s 3 2 2", 0}, {"-r 5 3", 1}} {
		dir := t.TempDir()
		t.Chdir(dir)
		var out, errs bytes.Buffer
		code := Run(append([]string{"fsstone"}, strings.Fields(x.args)...), command.Env{Stdout: &out, Stderr: &errs})
		if code != x.code {
			t.Errorf("%s: status %d, %s", x.args, code, errs.String())
		}
		if code == 0 && !regexp.MustCompile(`^elapsed time: \d+\.\d{6}\n$`).MatchString(out.String()) {
			t.Errorf("%s: %q", x.args, out.String())
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", x.args, left)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "1", "0 1", "1 0", "-r 5 3", "-s 0 1 1", "-s x 1 1", "-Z", "1 2 3"} {
		if s, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: %+v", args, s)
		}
	}
}

// A file that is in the way is not removed by mistake.
func TestTrouble(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("000001", 0o700); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	if code := Run([]string{"fsstone", "5", "3"}, command.Env{Stderr: &errs}); code != 1 || !strings.Contains(errs.String(), "open 000001: Is a directory") {
		t.Errorf("status %d, %q", code, errs.String())
	}
	if left, _ := os.ReadDir("."); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}
