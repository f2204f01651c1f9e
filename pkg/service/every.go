package service

import (
	"context"
	"time"
)

// Every calls f at an interval of at least a second until ctx ends; it is the
// Loop of a daemon that only has something to report now and then.
func Every(ctx context.Context, interval time.Duration, f func()) error {
	tick := time.NewTicker(max(interval, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return nil
		}
	}
}
