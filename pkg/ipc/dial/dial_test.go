package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
)

type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Warn(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, a...))
}

func (l *logLines) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

func listen(t *testing.T, service string) (dir string, l net.Listener) {
	t.Helper()
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, Private), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, Private, service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return dir, l
}

// echo serves "q" requests with the same text, each connection until its end or
// until it has answered limit of them.
func echo(l net.Listener, conns *atomic.Int32, limit int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conns.Add(1)
		go func() {
			defer c.Close()
			in, out := attr.NewReader(c, attr.Null, "test"), attr.NewWriter(c, attr.Null)
			attr.Announce(out, "echo_protocol")
			for n := 0; limit == 0 || n < limit; n++ {
				var q string
				if in.Scan(attr.Str("q", &q)) != nil || out.Str("a", q).Send() != nil {
					return
				}
			}
		}()
	}
}

func ask(p *Pool, ctx context.Context, q string) (string, error) {
	var a string
	err := p.Do(ctx, func(c *Conn) error {
		if err := c.Out.Str("q", q).Send(); err != nil {
			return err
		}
		return c.In.Scan(attr.Str("a", &a))
	})
	return a, err
}

func TestPoolConcurrent(t *testing.T) {
	dir, l := listen(t, "echo")
	var conns atomic.Int32
	go echo(l, &conns, 0)
	p := NewPool(PoolConfig{Dialer: Dialer{Dir: dir}, Class: Private, Service: "echo", Protocol: "echo_protocol", MaxConns: 4})
	defer p.Close()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := fmt.Sprint("question ", i)
			if got, err := ask(p, context.Background(), want); err != nil || got != want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := conns.Load(); n < 1 || n > 4 {
		t.Errorf("%d connections", n)
	}
}

// A kept connection that the server has closed is replaced without a word.
func TestPoolStale(t *testing.T) {
	dir, l := listen(t, "echo")
	var conns atomic.Int32
	var log logLines
	go echo(l, &conns, 1)
	p := NewPool(PoolConfig{Dialer: Dialer{Dir: dir, Log: &log}, Class: Private, Service: "echo", Protocol: "echo_protocol"})
	defer p.Close()
	for i := range 3 {
		if _, err := ask(p, context.Background(), "x"); err != nil {
			t.Fatal(i, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := conns.Load(); n != 3 || len(log.get()) != 0 {
		t.Errorf("%d connections, log %q", n, log.get())
	}
}

func TestPoolIdle(t *testing.T) {
	dir, l := listen(t, "echo")
	var conns atomic.Int32
	go echo(l, &conns, 0)
	p := NewPool(PoolConfig{Dialer: Dialer{Dir: dir}, Class: Private, Service: "echo", Protocol: "echo_protocol", Idle: 30 * time.Millisecond})
	defer p.Close()
	ask(p, context.Background(), "x")
	ask(p, context.Background(), "x")
	if conns.Load() != 1 {
		t.Error("the connection was not kept")
	}
	time.Sleep(120 * time.Millisecond)
	p.idle.mu.Lock()
	left := len(p.idle.idle)
	p.idle.mu.Unlock()
	if left != 0 {
		t.Errorf("%d idle connections left", left)
	}
}

// The wrong announcement is retried, with warnings, until the caller gives up;
// waiting for a reply ends with the context.
func TestPoolCancel(t *testing.T) {
	dir, l := listen(t, "echo")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			attr.Announce(attr.NewWriter(c, attr.Null), "echo_protocol")
			defer c.Close()
		}
	}()
	p := NewPool(PoolConfig{Dialer: Dialer{Dir: dir}, Class: Private, Service: "echo", Protocol: "echo_protocol"})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := ask(p, ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	var log logLines
	p = NewPool(PoolConfig{Dialer: Dialer{Dir: dir, Log: &log}, Class: Private, Service: "echo", Protocol: "other_protocol"})
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := ask(p, ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if got := log.get(); len(got) != 1 || !strings.HasPrefix(got[0], "problem talking to service echo: unexpected protocol echo_protocol") {
		t.Errorf("log %q", got)
	}
}

func TestPoolPermanent(t *testing.T) {
	dir, l := listen(t, "echo")
	var conns atomic.Int32
	go echo(l, &conns, 0)
	p := NewPool(PoolConfig{Dialer: Dialer{Dir: dir}, Class: Private, Service: "echo", Protocol: "echo_protocol"})
	want := errors.New("no use")
	if err := p.Do(context.Background(), func(*Conn) error { return &PermanentError{want} }); err != want {
		t.Error(err)
	}
}

func TestConnect(t *testing.T) {
	var log logLines
	d := Dialer{Dir: t.TempDir(), Log: &log}
	_, err := d.Connect(context.Background(), Private, "nobody", Policy{Attempts: 2, Delay: time.Millisecond})
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	want := []string{"connect #1 to subsystem private/nobody: No such file or directory", "connect #2 to subsystem private/nobody: No such file or directory"}
	if got := log.get(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("log %q", got)
	}
}

func TestConnTimeout(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := NewConn(a, 20*time.Millisecond, "test socket")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || Reason(err) != "Connection timed out" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	release := c.Bind(ctx)
	cancel()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Error(err)
	}
	if release() {
		t.Error("the context had ended")
	}
}
