package mailbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/filelock"
)

func locking(set Locks) Locking {
	return Locking{Locks: set, Dot: filelock.DotOptions{Attempts: 1, Delay: time.Millisecond}, Warn: func(string, ...any) {}}
}

// What may stand where a mailbox should be, and what is said about it
// (delivery.md §1.8).
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(path string) error
		want    string // "" is success
		code    string
	}{
		"new":       {func(string) error { return nil }, "", ""},
		"old":       {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "", ""},
		"directory": {func(p string) error { return os.Mkdir(p, 0o700) }, "cannot open file: Is a directory", "4.2.0"},
		"locked":    {func(p string) error { return os.WriteFile(p+".lock", nil, 0) }, "unable to create lock file PATH.lock: File exists", "4.2.0"},
		"linked": {func(p string) error {
			if err := os.WriteFile(p, nil, 0o600); err != nil {
				return err
			}
			return os.Link(p, p+"2")
		}, "file has 2 hard links", "4.2.0"},
	} {
		path := filepath.Join(t.TempDir(), "box")
		if err := c.prepare(path); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, nil, locking(Flock|Fcntl|Dotlock))
		if err == nil {
			if _, err := os.Stat(path + ".lock"); err != nil || c.want != "" || f.Created != (name == "new") {
				t.Errorf("%s: %v, created %v", name, err, f.Created)
			}
			f.Close()
			f.Release()
		} else if st := Failure(err, "4.2.0"); strings.ReplaceAll(st.Reason, path, "PATH") != c.want || st.Code != c.code {
			t.Errorf("%s: %v", name, st)
		}
		if left, _ := filepath.Glob(path + ".lock"); (len(left) > 0) != (name == "locked") {
			t.Errorf("%s: %q", name, left)
		}
	}
}

// Two who want the same mailbox, in one process.
func TestLocked(t *testing.T) {
	for _, set := range []Locks{Flock, Fcntl, Dotlock} {
		path := filepath.Join(t.TempDir(), "box")
		f, err := Open(path, nil, locking(set))
		if err != nil {
			t.Fatal(err)
		}
		if g, err := Open(path, nil, locking(set)); err == nil {
			g.Close()
			t.Errorf("%d: opened twice", set)
		} else if code := Failure(err, "5.2.0").Code; code != "4.2.0" {
			t.Errorf("%d: %s %v", set, code, err)
		}
		f.Close()
		f.Release()
	}
}

func TestReadLocks(t *testing.T) {
	c := conf.FromMap(map[string]string{"virtual_mailbox_lock": "flock, dotlock", "mailbox_delivery_lock": "flick"})
	if set, err := ReadLocks(c, "virtual_mailbox_lock"); err != nil || set != Flock|Dotlock {
		t.Errorf("%d, %v", set, err)
	}
	const want = `unknown mailbox_delivery_lock value "flick" in "flick"`
	if _, err := ReadLocks(c, "mailbox_delivery_lock"); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestFailure(t *testing.T) {
	for err, want := range map[error]string{
		failure("cannot open file", syscall.EACCES):               "4.2.0 cannot open file: Permission denied",
		WriteFailed(syscall.EFBIG):                                "5.2.2 error writing message: File too large",
		fmt.Errorf("sync: %w", error(syscall.ENOSPC)):             "4.3.0 No space left on device",
		&openError{"file has 2 hard links", error(syscall.EPERM)}: "4.2.0 file has 2 hard links",
	} {
		if got := Failure(err, "4.2.0").String(); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
}
