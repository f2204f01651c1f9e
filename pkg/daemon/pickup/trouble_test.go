package pickup

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
)

// A file that cannot be opened at the moment is a user's mail all the same.
func TestNeverOurs(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&os.PathError{Op: "open", Err: syscall.EMFILE}, false},
		{&os.PathError{Op: "open", Err: syscall.ENFILE}, false},
		{&os.PathError{Op: "open", Err: syscall.EIO}, false},
		{&os.PathError{Op: "open", Err: syscall.ENOENT}, false},
		{queue.ErrChanged, false},
		{queue.ErrIsSymlink, true},
		{errors.New("file has 2 hard links"), true},
	} {
		if neverOurs(c.err) != c.want {
			t.Errorf("%v: removed: %v", c.err, !c.want)
		}
	}
}

// No file descriptors: the maildrop stays as it is.
func TestNoDescriptors(t *testing.T) {
	b := newBench(t, nil)
	path := b.drop(t, "CCCCCC1", stored)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	removed := b.pickUp(t.Context(), "CCCCCC1")
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if removed || gone(path) {
		t.Errorf("mail was removed because there were no descriptors: %q", b.lines.Lines())
	}
}

// A disk that fails in the middle of a file does not make it worthless.
func TestReadError(t *testing.T) {
	b := newBench(t, nil)
	path := b.drop(t, "CCCCCC2", stored)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.fake.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := io.LimitReader(f, 60)
	c := &copier{pickup: b.pickup, s: s, f: &file{File: f, path: path, id: "CCCCCC2", info: info},
		in: record.NewReader(io.MultiReader(head, iotest.ErrReader(syscall.EIO)))}
	if v := c.failed(c.message()); v != keep {
		t.Error("done with a message that could not be read")
	}
	if log := strings.Join(b.lines.Lines(), "\n"); !strings.Contains(log, "Input/output error") {
		t.Errorf("log %q", log)
	}
}

// A maildrop that never becomes empty must not keep one scan going for ever: the
// watchdog would take it for one that hangs. The rest is for another one.
func TestLongScan(t *testing.T) {
	b := newBench(t, nil)
	for _, id := range []string{"CCCCCC3", "CCCCCC4", "CCCCCC5"} {
		b.drop(t, id, stored)
	}
	again := 0
	b.patience, b.again = 0, func(context.Context) error { again++; return nil }
	b.scan(t.Context())
	if again != 1 || len(b.fake.got) != 1 {
		t.Errorf("%d messages in one scan, asked for another %d times", len(b.fake.got), again)
	}
	b.patience = time.Minute
	b.scan(t.Context())
	if again != 1 || len(b.fake.got) != 3 {
		t.Errorf("%d messages in two scans, asked for another %d times", len(b.fake.got), again)
	}
}
