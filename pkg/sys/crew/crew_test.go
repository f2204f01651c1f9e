package crew

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Everything given is run, at once with all the others if they block.
func TestAllRunAtOnce(t *testing.T) {
	c := New()
	const n = 100
	var all sync.WaitGroup
	all.Add(n)
	for range n {
		c.Go(func() {
			all.Done()
			all.Wait()
		})
	}
	all.Wait()
}

// A member who is free is taken again, and leaves when nobody wants him.
func TestMembersStayAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		before := runtime.NumGoroutine()
		for range 50 {
			c.Go(func() {})
			synctest.Wait()
			if n := runtime.NumGoroutine(); n > before+1 {
				t.Fatalf("%d goroutines for one function at a time", n-before)
			}
		}
		time.Sleep(2 * idleTime)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n != before {
			t.Errorf("%d goroutines stay for ever", n-before)
		}
	})
}
