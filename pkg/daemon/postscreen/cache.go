package postscreen

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// lastCleanup is the key under which the cache remembers when it was cleaned
// last.
const lastCleanup = "_LAST_CACHE_CLEANUP_COMPLETED_"

const (
	openFlags   = table.DupReplace | table.OpenLock | table.UTF8Request
	updateFlags = table.DupReplace | table.UTF8Request
)

// Times of the cache.
const (
	lockPatience = 5 * time.Second        // a predecessor that drains gives its lock up at once
	lockPause    = 100 * time.Millisecond // between attempts
	slow         = 100 * time.Millisecond // an average delay that is worth a warning
	slowWeight   = 0.1                    // of one access in the moving average
	slowInterval = time.Minute            // between warnings
	cacheRest    = 30 * time.Second       // after no answer
)

// cache is the table of what clients have passed. One user at a time: shared sees
// to it.
type cache struct {
	t          table.Table
	log        *maillog.Logger
	get, put   delay
	now        func() time.Time
	lastWarned time.Time
	rest       time.Time // until then it is not used
}

// delay is a moving average.
type delay float64 // milliseconds

// openCache opens postscreen_cache_map as mail_owner, who will own a new file. A
// file that stays locked is fatal; other trouble makes a cache whose every use
// fails with a warning, so that mail goes on.
func openCache(rt *service.Runtime) (*cache, error) {
	spec := rt.Config.String("postscreen_cache_map")
	if spec == "" {
		return nil, nil
	}
	spec = rt.OwnTable(spec)
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true, Strict: true}
	var t table.Table
	open := func() (err error) {
		defer syscall.Umask(syscall.Umask(0o022))
		t, err = table.OpenMode(env, spec, table.ReadWriteCreate, openFlags)
		return err
	}
	err := cred.As(rt.Owner, open)
	for end := time.Now().Add(lockPatience); err != nil && isLocked(err) && time.Now().Before(end); {
		time.Sleep(lockPause)
		err = cred.As(rt.Owner, open)
	}
	if err != nil && !isLocked(err) {
		env.Strict = false
		err = cred.As(rt.Owner, open)
	}
	if err != nil {
		return nil, err
	}
	return &cache{t: t, log: rt.Log, now: time.Now}, nil
}

func isLocked(err error) bool { return strings.Contains(err.Error(), "exclusive lock") }

// lookup gives the stamps of a client.
func (c *cache) lookup(ctx context.Context, addr string) (known stamps, found bool) {
	var value string
	err := c.access(ctx, "lookup", &c.get, func(ctx context.Context) (err error) {
		value, found, err = table.LookupFlags(ctx, c.t, addr, updateFlags)
		return err
	})
	if err != nil || !found {
		return stamps{}, false
	}
	return parseStamps(value), true
}

// update stores an entry.
func (c *cache) update(ctx context.Context, key, value string) error {
	return c.access(ctx, "update", &c.put, func(ctx context.Context) error { return table.Update(ctx, c.t, key, value, updateFlags) })
}

// errResting is returned while a cache that did not answer is left alone.
var errResting = errors.New("no answer a moment ago")

// limited does something with the table, in time. One that does not answer is left
// alone for a while: all sessions wait for it.
func (c *cache) limited(ctx context.Context, f func(context.Context) error) error {
	if c.now().Before(c.rest) {
		return errResting
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	err := f(ctx)
	if ctx.Err() != nil {
		c.rest = c.now().Add(cacheRest)
	}
	return err
}

// access is limited, and says what is wrong with the table.
func (c *cache) access(ctx context.Context, what string, d *delay, f func(context.Context) error) error {
	began := time.Now()
	err := c.limited(ctx, f)
	if err == errResting {
		return err
	}
	if err != nil {
		c.log.Warn("%s: table %s error", c.t.Name(), what)
	}
	c.tell("psc_cache_"+what, what, d, time.Since(began))
	return err
}

// tell warns about a slow table.
func (c *cache) tell(function, what string, d *delay, took time.Duration) {
	*d = *d*(1-slowWeight) + delay(float64(took)/float64(time.Millisecond)*slowWeight)
	if *d > delay(slow/time.Millisecond) && c.now().Sub(c.lastWarned) > slowInterval {
		c.lastWarned = c.now()
		c.log.Warn("%s: %s %s average delay is %.0f ms", function, c.t.Name(), what, float64(*d))
	}
}

// clean drops useless entries every postscreen_cache_cleanup_interval (0 is
// never), counted from the last completed time even if that was another
// process's.
func (d *daemon) clean(ctx context.Context, rt *service.Runtime) error {
	interval := rt.Config.Duration("postscreen_cache_cleanup_interval")
	for interval > 0 {
		if dial.Sleep(ctx, d.cleanupDue(ctx, interval)) != nil {
			return nil
		}
		if !d.cleanNow(ctx, rt.Config.Duration("postscreen_cache_retention_time")) && dial.Sleep(ctx, interval) != nil {
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// cleanupDue is how long to wait for the next cleanup.
func (d *daemon) cleanupDue(ctx context.Context, interval time.Duration) (wait time.Duration) {
	d.shared.withCache(func(c *cache) {
		var value string
		found := false
		err := c.limited(ctx, func(ctx context.Context) (err error) {
			value, found, err = table.LookupFlags(ctx, c.t, lastCleanup, updateFlags)
			return err
		})
		if last, bad := strconv.ParseInt(value, 10, 64); err == nil && found && bad == nil {
			wait = min(max(time.Unix(last, 0).Add(interval).Sub(d.now()), 0), interval)
		}
	})
	return wait
}

// cleanNow walks the cache, one entry at a time so that sessions go on meanwhile.
// It reports whether it got to the end.
func (d *daemon) cleanNow(ctx context.Context, retention time.Duration) bool {
	retained, dropped, behind := 0, 0, ""
	first, over, failed := true, false, false
	useless := func(value string) bool { return parseStamps(value).useless(d.set.enabled, d.now(), retention) }
	drop := func(ctx context.Context, c *cache, key string) bool {
		value, found, err := table.LookupFlags(ctx, c.t, key, updateFlags)
		if err != nil || !found || !useless(value) {
			return false
		}
		_, err = table.Delete(ctx, c.t, key, updateFlags)
		return err == nil
	}
	step := func(c *cache) {
		var key, value string
		more := false
		err := c.limited(ctx, func(ctx context.Context) (err error) {
			key, value, more, err = table.Sequence(ctx, c.t, first)
			if behind != "" && err == nil && drop(ctx, c, behind) { // not before the next: a table may lose its place with the entry
				retained, dropped = retained-1, dropped+1
			}
			return err
		})
		first, behind = false, ""
		switch {
		case err != nil:
			d.log.Warn("%s: cache cleanup scan terminated due to error", c.t.Name())
			failed = true
		case !more:
			over = true
		case key == lastCleanup:
		default:
			retained++
			if useless(value) {
				behind = key
			}
		}
	}
	name := ""
	for !over && !failed && ctx.Err() == nil {
		if !d.shared.withCache(func(c *cache) { name = c.t.Name(); step(c) }) {
			return false // we drain
		}
	}
	word := map[bool]string{true: "full", false: "partial"}[over]
	d.log.Info("cache %s %s cleanup: retained=%d dropped=%d entries", name, word, retained, dropped)
	if !over {
		return false
	}
	done := false
	d.shared.withCache(func(c *cache) { done = c.update(ctx, lastCleanup, strconv.FormatInt(d.now().Unix(), 10)) == nil })
	return done
}
