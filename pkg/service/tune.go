package service

import (
	"os"
	"runtime"
	"runtime/debug"
)

// gcPercent lets garbage grow to some 16 MB before it is collected: a daemon
// holds little else, and gives it all back when it becomes idle (tidyAfter).
const gcPercent = 400

// Tune sets the runtime up for one of the many daemons of a machine: half the
// processors, because the programs before and behind it in a message's way
// need the others, and a runtime with processors to spare spends more on
// looking for work than it gains. GOMAXPROCS and GOGC in the environment win.
func Tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS((runtime.GOMAXPROCS(0) + 1) / 2)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
