package dirsync

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Callers that wait at the same time share a sync, and each is
// covered by one that began after it asked.
func TestShared(t *testing.T) {
	var started, syncs atomic.Int64
	release := make(chan struct{})
	var d Group
	once := func() error {
		started.Add(1)
		<-release
		syncs.Add(1)
		return nil
	}
	var wg sync.WaitGroup
	call := func() { wg.Go(func() { d.Do("x", once) }) }
	call()
	for started.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 50 {
		call()
	}
	for {
		d.mu.Lock()
		users := d.dirs["x"].users
		d.mu.Unlock()
		if users == 51 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if n := syncs.Load(); n != 2 {
		t.Errorf("%d fsyncs for 51 callers, want 2", n)
	}
	if len(d.dirs) != 0 {
		t.Error("state is kept for ever")
	}
}
