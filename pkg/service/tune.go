package service

import (
	"os"
	"runtime"
	"runtime/debug"
)

// How much garbage there may be. A daemon that holds little else lets it grow
// to some 16 MB, and gives it all back when it becomes idle (tidyAfter). One
// that holds much, as the queue manager with a full active queue, has no more
// of it; but collecting costs time in proportion to what is held, and so the
// garbage is never less than half of that.
const (
	gcPercentMost  = 400
	gcPercentLeast = 50
	garbage        = 16 << 20 // bytes
)

// Tune sets the runtime up for one of the many daemons of a machine: half the
// processors, because the programs before and behind it in a message's way
// need the others, and a runtime with processors to spare spends more on
// looking for work than it gains. GOMAXPROCS and GOGC in the environment win.
func Tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS((runtime.GOMAXPROCS(0) + 1) / 2)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercentMost)
		c := &collection{percent: gcPercentMost}
		runtime.SetFinalizer(c, (*collection).ended)
	}
}

// collection adjusts the amount of garbage after each collection: it is
// garbage itself, which comes to life again.
type collection struct {
	percent int // as it was set last
	stats   runtime.MemStats
}

func (c *collection) ended() {
	runtime.ReadMemStats(&c.stats)
	held := c.stats.NextGC * 100 / (100 + uint64(c.percent))
	percent := percentFor(held)
	if change := percent - c.percent; change >= c.percent/8 || -change >= c.percent/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.SetFinalizer(c, (*collection).ended)
}

// percentFor is the limit of garbage, in percent of what is held.
func percentFor(held uint64) int {
	return int(max(gcPercentLeast, min(gcPercentMost, 100*garbage/max(held, 1))))
}
