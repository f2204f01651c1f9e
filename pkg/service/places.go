package service

import (
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/mastercf"
)

// Bounds of the number of clients of a daemon whose row says "no limit".
const (
	minUnlimited  = 50
	maxUnlimited  = 4000
	filesAnClient = 16 // open files that one client may cost, unless the daemon knows better
)

// places is the number of clients served at once: the process limit of our
// row in master.cf. Our master hands it down; under Debian's it follows from
// -l and -z, or we look the row up ourselves, so that a limit of 2 is one here
// too (DESIGN §3).
func (p *process) places(c *conf.Config) int {
	if p.o.standAlone || p.s.Kind == Trigger || p.s.Kind == Dgram {
		return 1
	}
	limit, known := 0, false
	if n, err := strconv.Atoi(p.env(EnvLimit)); err == nil && n >= 0 {
		limit, known = n, true
	}
	switch {
	case known:
	case p.o.one:
		limit = 1
	case p.o.zero:
		limit = 0
	default:
		limit = rowLimit(c, p.o.name, p.o.transport)
	}
	if limit == 0 || limit == 1 && p.s.Kind != Single {
		return unlimited(p.s)
	}
	return limit
}

// rowLimit finds the process limit of a service in master.cf.
func rowLimit(c *conf.Config, name, transport string) int {
	entries, err := mastercf.Parse(filepath.Join(c.Dir(), "master.cf"), c)
	if err == nil {
		for _, e := range entries {
			if e.Name == name && e.Type == transport {
				return e.MaxProc
			}
		}
	}
	return c.Int("default_process_limit")
}

// unlimited is the number of clients that the limit on open files allows. A
// daemon that says what a client costs is not held to maxUnlimited.
func unlimited(s *Service) int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return minUnlimited
	}
	if s.Files > 0 {
		return int(max(r.Cur/uint64(s.Files), minUnlimited))
	}
	return int(min(max(r.Cur/filesAnClient, minUnlimited), maxUnlimited))
}
