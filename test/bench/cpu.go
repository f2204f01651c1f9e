package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"posthaste/test/world"
)

// usage is what the daemons of one machine have used since they started.
type usage struct {
	ms       float64 // of processor time, user and system
	switches float64 // context switches
}

// tick is what /proc counts processor time in, in ms (USER_HZ is 100).
const tick = 10

// used adds up the daemons of a machine by program name. Under "total" are
// all of them and those that have ended, which master has waited for.
func used(w *world.World) map[string]usage {
	sum := map[string]usage{}
	r := w.Sh(`for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/lib/postfix/*) ` +
		`cat $p/stat; cat $p/task/*/status | grep ctxt_switches;; esac; done 2>/dev/null`)
	name := ""
	for _, line := range strings.Split(r.Out, "\n") {
		if f := strings.Fields(line); strings.Contains(line, "ctxt_switches") {
			n, _ := strconv.ParseFloat(f[1], 64)
			add(sum, name, usage{switches: n})
		} else if open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')'); open >= 0 && end > open {
			name = line[open+1 : end]
			f := strings.Fields(line[end+1:])
			own := field(f, 11) + field(f, 12)
			add(sum, name, usage{ms: own * tick})
			if name == "master" {
				add(sum, "ended", usage{ms: (field(f, 13) + field(f, 14)) * tick})
			}
		}
	}
	return sum
}

func field(f []string, i int) float64 {
	if i >= len(f) {
		return 0
	}
	v, _ := strconv.ParseFloat(f[i], 64)
	return v
}

func add(sum map[string]usage, name string, u usage) {
	for _, n := range []string{name, "total"} {
		s := sum[n]
		s.ms += u.ms
		s.switches += u.switches
		sum[n] = s
	}
}

// report tells what a message cost each program between two calls of used.
func report(suite world.Suite, before, after map[string]usage, n int) {
	var names []string
	for name := range after {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		a, b := after[name], before[name]
		fmt.Fprintf(os.Stderr, "%-8s %-16s %7.3f ms/message %7.2f context switches/message\n", suite, name,
			(a.ms-b.ms)/float64(n), (a.switches-b.switches)/float64(n))
	}
}
