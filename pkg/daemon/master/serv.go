package master

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"posthaste/pkg/conf/mastercf"
)

// serv is one service: a row of master.cf and what has become of it.
type serv struct {
	// From master.cf; taken over on reload.
	ext      string // name field as written
	name     string // internal name: socket path, or [host]:port
	kind     string // transport type
	wakeup   time.Duration
	onUse    bool // wakeup field ends in "?": only after the first child
	maxproc  int  // 0 is no limit
	throttle time.Duration
	path     string   // of the program
	argv     []string // before and after the stress option
	argvTail []string
	stressed bool // carries "-o stress="

	listen []int  // descriptors, for life
	addrs  string // inet_interfaces when they were opened

	status   [2]int // our end, children's end
	epoch    int    // number of the status channel
	children map[int]*child
	avail    int // children that wait for a client

	throttled   time.Time // no forks before; zero is not throttled
	wakeTimer   *timer
	woken       bool // the wakeup timer has been started
	stressUntil time.Time
	busyWarned  time.Time
	deleted     bool
	seen        bool // in the master.cf that is being read
}

// child is one process.
type child struct {
	pid        int
	generation uint32
	serv       *serv
	epoch      int  // status channel that it has
	avail      bool // waits for a client
	use        int  // clients served (taken and available again)
	concurrent bool // serves many clients at once
	leaving    bool // serves its last ones
}

// id is how log records name a service.
func (s *serv) id() string { return fmt.Sprintf("%s(%s)", s.ext, s.name) }

// service makes a serv of a master.cf entry.
func (m *master) service(e mastercf.Entry) (*serv, inetName, error) {
	s := &serv{
		ext: e.Name, kind: e.Type, wakeup: time.Duration(e.Wakeup) * time.Second, onUse: e.WakeupOnUse,
		maxproc: e.MaxProc, throttle: m.params.throttle,
		children: map[int]*child{}, status: [2]int{-1, -1},
	}
	var endpoint inetName
	remote := e.Type == "pass"
	switch e.Type {
	case "inet":
		var err error
		if endpoint, err = m.params.parseInet(e.Name); err != nil {
			return nil, endpoint, err
		}
		s.name = endpoint.internal()
		addrs, err := m.params.addresses(endpoint)
		if err != nil {
			return nil, endpoint, err
		}
		for _, a := range addrs {
			remote = remote || !a.Addr().IsLoopback()
		}
	default:
		class := "public"
		if e.Private {
			class = "private"
		}
		s.name = class + "/" + e.Name
	}
	s.path = m.params.daemonDir + "/" + e.Command
	s.stressed = remote && s.maxproc > 1
	s.argv = m.argvHead(e, s)
	s.argvTail = e.Args
	return s, endpoint, nil
}

// argvHead is the arguments up to where "-o stress=" goes (spec §1.2).
func (m *master) argvHead(e mastercf.Entry, s *serv) []string {
	argv := []string{e.Command}
	switch s.maxproc {
	case 1:
		argv = append(argv, "-l")
	case 0:
		argv = append(argv, "-z")
	}
	if filepath.Base(e.Command) != e.Name {
		argv = append(argv, "-n", e.Name)
	}
	argv = append(argv, "-t", e.Type)
	if m.o.foreground {
		argv = append(argv, "-d")
	}
	if m.logs.Verbose > 0 {
		argv = append(argv, "-v")
	}
	if e.Unpriv {
		argv = append(argv, "-u")
	}
	if e.Chroot {
		argv = append(argv, "-c")
	}
	return argv
}

// arguments is the argv of the next child.
func (s *serv) arguments(now time.Time) []string {
	argv := append([]string{}, s.argv...)
	if s.stressed {
		stress := "stress="
		if now.Before(s.stressUntil) {
			stress = "stress=yes"
		}
		argv = append(argv, "-o", stress)
	}
	if len(s.listen) > 1 {
		argv = append(argv, "-s", fmt.Sprint(len(s.listen)))
	}
	return append(argv, s.argvTail...)
}

// find returns the service with that internal name and type.
func (m *master) find(name, kind string) *serv {
	for _, s := range m.services {
		if s.name == name && s.kind == kind {
			return s
		}
	}
	return nil
}

// readServices reads master.cf at the start and on reload, and brings the
// services into line with it.
func (m *master) readServices() {
	path := filepath.Join(m.config.Dir(), "master.cf")
	entries, err := mastercf.Parse(path, m.config)
	if err != nil {
		m.log.Fatal("%v", err)
	}
	for _, s := range m.services {
		s.seen = false
	}
	for _, e := range entries {
		if e.ChrootByLevel {
			m.log.Info("%s: using backwards-compatible default setting chroot=y", e)
		}
		s, endpoint, err := m.service(e)
		if err != nil {
			m.log.Fatal("%s: %v", e, err)
		}
		known := m.find(s.name, s.kind)
		switch {
		case known == nil:
			m.services = append(m.services, s)
			m.activate(s, endpoint)
			known = s
		case known.seen:
			m.log.Warn("duplicate master.cf entry for service \"%s\" (%s) -- using the last entry", s.ext, s.name)
			m.takeOver(known, s)
		default:
			m.takeOver(known, s)
		}
		known.seen = true
	}
	kept := m.services[:0:0]
	for _, s := range m.services {
		if s.seen {
			kept = append(kept, s)
		} else {
			m.remove(s)
		}
	}
	m.services = kept
}

// takeOver gives a running service its new row, a new status channel, and a
// new wakeup timer. The listen sockets stay.
func (m *master) takeOver(s, row *serv) {
	if s.kind == "inet" && !strings.EqualFold(s.addrs, m.params.inetInterfaces) {
		m.log.Warn("service %s: ignoring inet_interfaces change", s.ext)
		m.log.Warn("to change inet_interfaces, stop and start Postfix")
	}
	s.ext, s.wakeup, s.onUse, s.maxproc, s.throttle = row.ext, row.wakeup, row.onUse, row.maxproc, row.throttle
	s.path, s.argv, s.argvTail, s.stressed = row.path, row.argv, row.argvTail, row.stressed
	m.restart(s)
}

// activate opens a new service.
func (m *master) activate(s *serv, endpoint inetName) {
	m.listen(s, endpoint)
	m.openStatus(s)
	m.startWakeup(s)
}

// restart replaces the status channel, so that older children leave.
func (m *master) restart(s *serv) {
	m.closeStatus(s)
	m.openStatus(s)
	s.woken = false
	m.startWakeup(s)
}

// remove ends a service that is no longer in master.cf.
func (m *master) remove(s *serv) {
	s.deleted = true
	m.timers.stop(s.wakeTimer)
	m.closeStatus(s)
	for pid := range s.children {
		_ = kill(pid, sigTerm)
	}
	deadline := time.Now().Add(removeWait)
	for len(s.children) > 0 {
		m.reap()
		if len(s.children) == 0 {
			break
		}
		if time.Now().After(deadline) {
			for pid := range s.children {
				_ = kill(pid, sigKill)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, fd := range s.listen {
		closeFD(fd)
	}
}
