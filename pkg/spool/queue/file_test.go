package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

func newSpool(t *testing.T, o Options) *Spool {
	t.Helper()
	dir := t.TempDir()
	for _, q := range []string{Maildrop, Incoming, Active, Deferred, Hold, Corrupt, Bounce, Defer, Trace} {
		if err := os.Mkdir(filepath.Join(dir, q), 0700); err != nil {
			t.Fatal(err)
		}
	}
	return New(dir, o)
}

func write(t *testing.T, f *File) {
	t.Helper()
	w := f.Records()
	w.PutString(record.TypeFrom, "a@example.com")
	w.PutString(record.TypeEnd, "")
}

func names(t *testing.T, s *Spool, queue string) []string {
	t.Helper()
	var list []string
	w, err := s.Walk(queue)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := w.Next()
		if err != nil {
			return list
		}
		if !e.Leave {
			list = append(list, e.Name)
		}
	}
}

func TestLife(t *testing.T) {
	for _, long := range []bool{false, true} {
		s := newSpool(t, Options{LongIDs: long, HashNames: []string{Deferred, Incoming}, HashDepth: 2})
		f, err := s.Create(Incoming, 0600)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ParseID(f.ID)
		info, _ := f.Stat()
		if err != nil || id.Long != long || id.Inode != info.Sys().(*syscall.Stat_t).Ino {
			t.Errorf("%s: %+v %v", f.ID, id, err)
		}
		if got := NewID(f.Time, id.Inode, long); got != f.ID {
			t.Errorf("time stamp %v gives %s, not %s", f.Time, got, f.ID)
		}
		if _, ok := s.Ready(Incoming, f.ID); ok {
			t.Error("unfinished file is taken for a message")
		}
		write(t, f)
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		info, ok := s.Ready(Incoming, f.ID)
		if !ok || info.Mode() != 0700 || info.Size() == 0 {
			t.Error(info, ok)
		}
		if err := s.Move(Incoming, Active, f.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.Move(Active, Deferred, f.ID); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Ready(Deferred, f.ID); !ok {
			t.Error("not in deferred")
		}
		if err := s.Remove(Deferred, f.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.Move(Active, Deferred, f.ID); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestMaildropMode(t *testing.T) {
	s := newSpool(t, Options{})
	f, err := s.Create(Maildrop, 0644)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f)
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if info, ok := s.Ready(Maildrop, f.ID); !ok || info.Mode() != 0744 {
		t.Error(info)
	}
}

// What must have happened, in this order, when Commit returns nil.
func TestCommitOrder(t *testing.T) {
	var trace []string
	note := func(format string, args ...any) { trace = append(trace, fmt.Sprintf(format, args...)) }
	s := newSpool(t, Options{HashNames: []string{Hold}, HashDepth: 1, FS: FS{
		Write:   func(f *os.File, b []byte) (int, error) { note("write"); return f.Write(b) },
		Chmod:   func(f *os.File, m fs.FileMode) error { note("chmod %o", m); return f.Chmod(m) },
		Sync:    func(f *os.File) error { note("fsync"); return nil },
		SyncDir: func(path string, _ *os.File) error { note("fsync %d", len(filepath.Base(path))); return nil },
	}})
	f, err := s.Create(Incoming, 0600)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f)
	if err := f.MoveTo(Hold); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	// hold/X first, then hold, because hold/X may be new.
	if got, want := strings.Join(trace, ", "), "write, chmod 700, fsync, fsync 1, fsync 4"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// Whatever fails in Commit: it says so, and no reader finds a message.
func TestCommitFaults(t *testing.T) {
	for name, fault := range map[string]FS{
		"write":    {Write: func(*os.File, []byte) (int, error) { return 0, syscall.ENOSPC }},
		"short":    {Write: func(f *os.File, b []byte) (int, error) { n, _ := f.Write(b[:1]); return n, syscall.EFBIG }},
		"chmod":    {Chmod: func(*os.File, fs.FileMode) error { return syscall.EROFS }},
		"fsync":    {Sync: func(*os.File) error { return syscall.EIO }},
		"fsyncdir": {SyncDir: func(string, *os.File) error { return syscall.EIO }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpool(t, Options{FS: fault})
			f, err := s.Create(Incoming, 0600)
			if err != nil {
				t.Fatal(err)
			}
			write(t, f)
			err = f.Commit()
			if err == nil {
				t.Fatal("a promise was made")
			}
			if name == "short" && !errors.Is(err, syscall.EFBIG) {
				t.Error(err)
			}
			if _, ok := s.Ready(Incoming, f.ID); ok {
				t.Error("a failed message is visible")
			}
			if err := f.Remove(); err != nil {
				t.Error(err)
			}
			if left := names(t, s, Incoming); len(left) != 0 {
				t.Error(left)
			}
			if err := f.Remove(); err != nil {
				t.Error("second Remove:", err)
			}
		})
	}
}

func TestCreateFaults(t *testing.T) {
	s := newSpool(t, Options{FS: FS{Publish: func(_, _ string) error { return syscall.EIO }}})
	_, err := s.Create(Incoming, 0600)
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "mail_queue_enter: rename ") {
		t.Error(err)
	}
	if left := names(t, s, Incoming); len(left) != 0 {
		t.Error("left behind:", left)
	}
	calls := 0
	s = newSpool(t, Options{FS: FS{Publish: func(from, to string) error {
		if calls++; calls < 3 {
			return syscall.EPERM
		}
		return os.Rename(from, to)
	}}})
	if _, err := s.Create(Incoming, 0600); err != nil || calls != 3 {
		t.Error(err, calls)
	}
	if _, err := s.Create("no/such", 0600); err != ErrID {
		t.Error(err)
	}
	log, buffer := maillog.Capture()
	s = newSpool(t, Options{Log: log, FS: FS{OpenFile: func(string, int, fs.FileMode) (*os.File, error) { return nil, syscall.ENOSPC }}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.CreateWait(ctx, Incoming, 0600); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if lines := buffer.Lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "warning: mail_queue_enter: create file ") {
		t.Error(lines)
	}
}

// An id that is taken, after a spool was copied, costs nobody a message.
func TestCreateReplacesNothing(t *testing.T) {
	s := newSpool(t, Options{})
	first := true
	s.fs.Publish = func(from, to string) error {
		if first {
			first = false
			os.WriteFile(to, []byte("precious"), 0700)
		}
		return publish(from, to)
	}
	f, err := s.Create(Incoming, 0600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Remove()
	if len(names(t, s, Incoming)) != 2 {
		t.Skip("this file system cannot refuse to replace a file")
	}
}

func TestUniqueIDs(t *testing.T) {
	s := newSpool(t, Options{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 8 {
		wg.Go(func() {
			for range 50 {
				f, err := s.Create(Incoming, 0600)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[f.ID] {
					t.Error("twice:", f.ID)
				}
				seen[f.ID] = true
				mu.Unlock()
				f.Close()
			}
		})
	}
	wg.Wait()
	if got := len(names(t, s, Incoming)); got != 400 {
		t.Error(got)
	}
}

func TestMark(t *testing.T) {
	s := newSpool(t, Options{})
	f, err := s.Create(Active, 0600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Remove()
	w := f.Records()
	w.PutString(record.TypeFrom, "a")
	at := w.Offset()
	w.PutString(record.TypeRcpt, "b")
	trace := w.Offset()
	w.PutAttr("trace_flags", "1024")
	w.Flush()
	for range 2 { // the second time it is done already
		if err := s.Mark(f.File, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Mark(f.File, -1); err != nil {
		t.Error(err)
	}
	if err := s.Mark(f.File, 0); err == nil {
		t.Error("a sender was marked as a recipient")
	}
	if err := s.Mark(f.File, 1000); err == nil {
		t.Error("marked behind the end")
	}
	if err := s.Kill(f.File, trace); err != nil {
		t.Error(err)
	}
	data, _ := os.ReadFile(f.Path())
	if string(data) != "S\x01aD\x01bK\x10trace_flags=1024" {
		t.Errorf("%q", data)
	}
}

func TestClock(t *testing.T) {
	log, buffer := maillog.Capture()
	behind := func() time.Time { return time.Now().Add(-time.Hour) }
	s := newSpool(t, Options{Log: log, FS: FS{Now: behind}})
	for range 2 {
		f, err := s.Create(Incoming, 0600)
		if err != nil {
			t.Fatal(err)
		}
		write(t, f)
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(f.Path()); info.ModTime().After(time.Now().Add(-time.Minute)) {
			t.Error("time was not reset")
		}
	}
	lines := strings.Join(buffer.Lines(), "\n")
	if strings.Count(lines, "seconds ahead of local clock") != 2 || strings.Count(lines, "warning: resetting file time stamps - this hurts performance") != 1 {
		t.Error(lines)
	}
}

func TestReady(t *testing.T) {
	log, buffer := maillog.Capture()
	s := newSpool(t, Options{Log: log, FS: FS{Now: func() time.Time { return time.Now().Add(time.Hour) }}})
	path := func(id string) string { return s.Path(Deferred, id) }
	os.WriteFile(path("AAAAAA"), nil, 0700)
	os.WriteFile(path("BBBBBB"), nil, 0600)
	os.Mkdir(path("CCCCCC"), 0700)
	os.Link(path("AAAAAA"), path("DDDDDD"))
	for id, want := range map[string]bool{"AAAAAA": true, "BBBBBB": false, "CCCCCC": false, "DDDDDD": true, "EEEEEE": false, "../x": false} {
		if _, ok := s.Ready(Deferred, id); ok != want {
			t.Errorf("%s: %v", id, ok)
		}
	}
	lines := strings.Join(buffer.Lines(), "\n")
	uid := os.Getuid()
	for _, want := range []string{
		fmt.Sprintf("warning: %s: uid %d: not a regular file", path("CCCCCC"), uid),
		fmt.Sprintf("warning: %s: uid %d: file has 2 links", path("AAAAAA"), uid),
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
}

func TestSafeOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	os.WriteFile(at("file"), nil, 0700)
	os.Mkdir(at("dir"), 0700)
	os.Symlink(at("file"), at("link"))
	os.WriteFile(at("two"), nil, 0700)
	os.Link(at("two"), at("three"))
	for name, want := range map[string]string{
		"file": "", "dir": "file is a directory", "link": "file is a symbolic link", "two": "file has 2 hard links",
		"none": "cannot open file: No such file or directory",
	} {
		f, err := SafeOpen(at(name), os.O_RDONLY)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			f.Close()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := SafeOpen(at("none"), os.O_RDONLY); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	os.WriteFile(path, nil, 0600)
	a, _ := os.Open(path)
	b, _ := os.Open(path)
	defer b.Close()
	if err := Lock(a, true); err != nil {
		t.Fatal(err)
	}
	if err := Lock(b, false); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	a.Close()
	if err := Lock(b, false); err != nil {
		t.Error(err)
	}
}
