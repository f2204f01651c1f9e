package verify

import (
	"context"
	"strconv"
	"time"

	"posthaste/pkg/service"
)

// lastCleanup is the key under which a cache remembers when it was cleaned
// last.
const lastCleanup = "_LAST_CACHE_CLEANUP_COMPLETED_"

// clean drops useless entries from the cache every
// address_verify_cache_cleanup_interval (0 is never), counted from the last
// completed time even if that was another process's.
func (d *daemon) clean(ctx context.Context, rt *service.Runtime) error {
	interval := rt.Config.Duration("address_verify_cache_cleanup_interval")
	if interval < time.Second {
		<-ctx.Done()
		return nil
	}
	for {
		wait := d.cleanupDue(ctx, interval)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if !d.cleanNow(ctx) {
			select { // the table has said what is wrong
			case <-ctx.Done():
				return nil
			case <-time.After(interval):
			}
		}
	}
}

// cleanupDue is how long to wait for the next cleanup.
func (d *daemon) cleanupDue(ctx context.Context, interval time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	value, found, err := d.store.get(ctx, lastCleanup)
	if err != nil || !found {
		return 0
	}
	last, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return min(max(time.Unix(last, 0).Add(interval).Sub(d.now()), 0), interval)
}

// cleanNow walks the cache, one entry at a time so that requests are served
// meanwhile. It reports whether it got to the end.
func (d *daemon) cleanNow(ctx context.Context) bool {
	retained, dropped, behind := 0, 0, ""
	for first := true; ; first = false {
		key, value, ok, err := d.step(ctx, first)
		if behind != "" && err == nil && d.dropUseless(ctx, behind) {
			retained--
			dropped++
		}
		behind = ""
		if err != nil || ctx.Err() != nil {
			if err != nil {
				d.log.Warn("%s: cache cleanup scan terminated due to error", d.store.name())
			}
			d.log.Info("cache %s partial cleanup: retained=%d dropped=%d entries", d.store.name(), retained, dropped)
			return false
		}
		if !ok {
			break
		}
		if key == lastCleanup {
			continue
		}
		retained++
		if e, valid := parseEntry(value); !valid || d.lifetimes.useless(e, d.now().Unix()) {
			behind = key // not yet: a table may lose its place with the entry
		}
	}
	d.log.Info("cache %s full cleanup: retained=%d dropped=%d entries", d.store.name(), retained, dropped)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store.put(ctx, lastCleanup, strconv.FormatInt(d.now().Unix(), 10)) == nil
}

func (d *daemon) step(ctx context.Context, first bool) (string, string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.store.next(ctx, first)
}

// dropUseless drops an entry unless a result has come in for it meanwhile.
func (d *daemon) dropUseless(ctx context.Context, key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	value, found, err := d.store.get(ctx, key)
	if err != nil || !found {
		return false
	}
	if e, valid := parseEntry(value); valid && !d.lifetimes.useless(e, d.now().Unix()) {
		return false
	}
	return d.store.drop(ctx, key) == nil
}
