package mailcommand

import (
	"os"
	"reflect"
	"syscall"
	"testing"

	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/proc"
)

// The table of delivery.md §1.7.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		r    proc.Result
		want string
		diag string
	}{
		{proc.Result{ExitCode: -1, TimedOut: true, Output: []byte("x\n")}, `5.3.0 Command time limit exceeded: "cmd". Command output: x `, "x "},
		{proc.Result{ExitCode: -1, Signal: syscall.SIGTERM}, `4.3.0 Command died with signal 15: "cmd"`, "internal software error"},
		{proc.Result{ExitCode: 1, Output: []byte("4.7.1 wait\n")}, "4.7.1 wait ", "wait "},
		{proc.Result{ExitCode: 1, Output: []byte("2.7.1 odd")}, "2.7.1 odd", "odd"},
		{proc.Result{ExitCode: 67}, "5.1.1 user unknown", "user unknown"},
		{proc.Result{ExitCode: 75, Output: []byte("a\tb\x01c\xe9d\r\n")}, "4.3.0 temporary failure. Command output: a b_c_d_ ", "a b_c_d_ "},
		{proc.Result{ExitCode: 99}, `5.3.0 Command died with status 99: "cmd"`, "unknown mail system error 99"},
	} {
		st := judge(c.r, "cmd")
		if st.String() != c.want || st.DiagText != c.diag || st.DiagType != "x-unix" {
			t.Errorf("%+v: %+v", c.r, st)
		}
	}
}

// A command that says it has the message, although we could not give it all.
func TestJudgeInput(t *testing.T) {
	for _, fine := range []error{nil, mailbox.WriteFailed(syscall.EPIPE)} {
		if st, unread := judgeInput(fine, "cmd"); unread {
			t.Errorf("%v: %v", fine, st)
		}
	}
	st, unread := judgeInput(mailbox.ReadFailed(syscall.EIO), "cmd")
	if !unread || st.String() != `4.3.0 Command failed: error reading message: Input/output error: "cmd"` {
		t.Errorf("%v", st)
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"TZ=UTC", "LANG=C", "SECRET=x"}, []string{"TZ", "A=b", "{C = d e}", "NONE"})
	if want := []string{"TZ=UTC", "A=b", "C=d e", "PATH=/usr/bin:/bin"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestInsideChroot(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/usr/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", root+"/usr/bin/sh"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"sh": "/usr/bin/sh", "/x/sh": "/x/sh", "none": "/bin/none"} {
		if got := insideChroot([]string{name, "a"}, root); !reflect.DeepEqual(got, []string{want, "a"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
