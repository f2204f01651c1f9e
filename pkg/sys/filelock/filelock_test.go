package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, style := range []Style{Flock, Fcntl} {
		a, b := open(), open()
		if err := Lock(a, Exclusive, style, false); err != nil {
			t.Fatal(err)
		}
		if err := Lock(b, Shared, style, false); !errors.Is(err, ErrBusy) || !IsBusy(err) {
			t.Errorf("style %d: second lock: %v", style, err)
		}
		got := make(chan error)
		go func() { got <- Lock(b, Exclusive, style, true) }()
		time.Sleep(20 * time.Millisecond)
		if err := Lock(a, Unlock, style, false); err != nil {
			t.Error(err)
		}
		if err := <-got; err != nil {
			t.Errorf("style %d: %v", style, err)
		}
	}
}

func TestDotLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	release, err := DotLock(path, DotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slept := 0
	o := DotOptions{Attempts: 3, Sleep: func(d time.Duration) {
		slept++
		if d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Errorf("slept %v", d)
		}
	}}
	_, err = DotLock(path, o)
	if !errors.Is(err, syscall.EAGAIN) || err.Error() != "unable to create lock file "+path+".lock: File exists" || slept != 2 {
		t.Errorf("%v after %d sleeps", err, slept)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	// A stale lock is removed.
	if err := os.WriteFile(path+".lock", nil, 0); err != nil {
		t.Fatal(err)
	}
	o.Stale, o.Sleep = time.Millisecond, func(time.Duration) {}
	time.Sleep(5 * time.Millisecond)
	if release, err = DotLock(path, o); err != nil {
		t.Fatal(err)
	}
	_ = release()
	if _, err := DotLock("/nonexistent/x", o); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v", err)
	}
}
