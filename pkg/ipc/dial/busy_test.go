package dial

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full makes a service whose listen queue has no room.
func full(t *testing.T) (d Dialer, accept func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dial")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, Private), 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, Private, "x")}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	d = Dialer{Dir: dir, Timeout: time.Second}
	first, err := d.Dial(t.Context(), Private, "x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	return d, func() {
		if c, _, err := unix.Accept(fd); err == nil {
			unix.Close(c)
		}
	}
}

// A service whose listen queue is full is not dead: connect(2) of a program that
// waits for it would wait, too.
func TestFullListenQueue(t *testing.T) {
	d, accept := full(t)
	go func() {
		time.Sleep(100 * time.Millisecond)
		accept()
	}()
	c, err := d.Dial(t.Context(), Private, "x")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestFullListenQueueForGood(t *testing.T) {
	d, _ := full(t)
	start := time.Now()
	if _, err := d.Dial(t.Context(), Private, "x"); !errors.Is(err, syscall.EAGAIN) || time.Since(start) > 3*time.Second {
		t.Errorf("%v after %v, want EAGAIN after the timeout of a second", err, time.Since(start))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Dial(ctx, Private, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of the context", err)
	}
}
