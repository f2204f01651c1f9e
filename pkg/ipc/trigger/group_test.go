package trigger

import (
	"testing"
	"testing/synctest"
	"time"
)

// The first is sent at once, those that follow soon share one, and after the
// last call there is always a trigger.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var sent []time.Duration
		g := &Group{Every: 3 * time.Millisecond, Send: func() { sent = append(sent, time.Since(begin)) }}
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
