package trigger

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The first is sent at once, those that follow soon share one, and after the
// last call there is always a trigger.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		var sent []time.Duration
		g := &Group{Every: 3 * time.Millisecond, Send: func() error {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, time.Since(begin))
			return nil
		}}
		at := func(when time.Duration) {
			time.Sleep(when - time.Since(begin))
			go g.Trigger()
			synctest.Wait()
		}
		const ms = time.Millisecond
		at(0)      // at once
		at(1 * ms) // waits
		at(2 * ms) // with the one before
		at(4 * ms) // waits again
		at(20 * ms)
		time.Sleep(50 * ms)
		mu.Lock()
		defer mu.Unlock()
		want := []time.Duration{0, 3 * ms, 6 * ms, 20 * ms}
		if len(sent) != len(want) {
			t.Fatalf("sent at %v, want %v", sent, want)
		}
		for i := range want {
			if sent[i] != want[i] {
				t.Errorf("sent at %v, want %v", sent, want)
				break
			}
		}
	})
}

// A service whose listen queue is full is tried again, by one caller only, but not
// for ever; one that is not there is not.
func TestGroupBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		for _, c := range []struct{ full, want time.Duration }{{100 * ms, 100 * ms}, {time.Hour, Timeout}, {0, 0}} {
			begin := time.Now()
			var tries, stuck atomic.Int64
			g := &Group{Every: ms, Send: func() error {
				if tries.Add(1); time.Since(begin) < c.full {
					return &net.OpError{Op: "dial", Err: syscall.EAGAIN}
				}
				return syscall.ECONNREFUSED
			}}
			go g.Trigger()
			time.Sleep(ms / 2)
			for range 10 {
				go func() { stuck.Add(1); g.Trigger(); stuck.Add(-1) }()
			}
			synctest.Wait()
			if n := stuck.Load(); n > 1 {
				t.Errorf("full for %v: %d callers wait", c.full, n)
			}
			time.Sleep(2 * Timeout)
			if n := time.Duration(tries.Load()) * ms; n < c.want || n > c.want+3*ms || stuck.Load() > 0 {
				t.Errorf("full for %v: tried for %v, %d callers wait", c.full, n, stuck.Load())
			}
		}
	})
}
