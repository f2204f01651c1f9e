package master

import "time"

const (
	stressTime   = 1000 * time.Second // a stress period
	busyInterval = 1000 * time.Second // between two "all busy" warnings
)

// load is how much of the process limit is in use. A child that serves many
// clients at once has all places of the row, so it alone uses up the limit; one
// that was told to leave serves its last clients and counts as one.
func (s *serv) load() int {
	n := 0
	for _, c := range s.children {
		if c.concurrent && !c.leaving && c.epoch == s.epoch {
			n += max(1, s.maxproc)
		} else {
			n++
		}
	}
	return n
}

// wanted tells whether a client that comes now needs a new process.
func (s *serv) wanted(now time.Time) bool {
	return s.avail == 0 && !s.isThrottled(now) && (s.maxproc == 0 || s.load() < s.maxproc)
}

func (s *serv) isThrottled(now time.Time) bool { return now.Before(s.throttled) }

// throttleNow holds a service back for service_throttle_time.
func (m *master) throttleNow(s *serv) {
	if !s.isThrottled(m.now()) {
		s.throttled = m.now().Add(s.throttle)
	}
}

// checkBusy warns when nobody is left to take the next client, and starts a
// stress period for a service whose one process has no place left (spec §1.7;
// for those with one client a process that happens at the fork).
func (m *master) checkBusy(s *serv) {
	if !s.stressed || s.avail > 0 || s.load() < s.maxproc {
		return
	}
	now := m.now()
	if s.busyWarned.IsZero() || now.Sub(s.busyWarned) >= busyInterval {
		s.busyWarned = now
		m.log.Warn("service \"%s\" (%s) has reached its process limit \"%d\": new clients may experience noticeable delays", s.ext, s.name, s.maxproc)
		m.log.Warn("to avoid this condition, increase the process count in master.cf or reduce the service time per client")
		m.log.Warn("see http://www.postfix.org/STRESS_README.html for examples of stress-adapting configuration settings")
	}
	for _, c := range s.children {
		if c.concurrent && !c.leaving && c.epoch == s.epoch {
			m.stress(s)
			return
		}
	}
}

// stress begins or prolongs a stress period; at the beginning the children
// that know nothing of it are told to leave.
func (m *master) stress(s *serv) {
	if now := m.now(); now.After(s.stressUntil) {
		s.stressUntil = now.Add(stressTime)
		m.closeStatus(s)
		m.openStatus(s)
	} else {
		s.stressUntil = now.Add(stressTime)
	}
}
