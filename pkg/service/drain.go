package service

import (
	"time"

	"golang.org/x/sys/unix"
)

// drain stops accepting. Master is told, unless it was the one to say so, that
// we are not available, so that it may start a successor while our last
// clients are being served.
func (v *server) drain(told bool) {
	for _, fd := range v.listen {
		unix.Close(fd)
	}
	v.lock.abandon()
	v.mu.Lock()
	if v.leave == "" {
		v.leave = "leaving"
	}
	switch {
	case told || v.active == 0: // our end is news enough
	case v.supervised:
		defer v.release()
	case v.ours:
		v.status.send(StatusLeaving)
	case !v.full:
		v.status.send(StatusTaken)
	}
	v.full = false
	v.dropKept()
	conns := make([]*Conn, 0, len(v.conns))
	for c := range v.conns {
		conns = append(conns, c)
	}
	v.mu.Unlock()
	if v.s.Stop != nil {
		v.s.Stop(v.rt)
	}
	if v.s.Kind != Multi {
		return
	}
	for _, c := range conns { // between two requests a client tries again
		c.state.leaving.Store(true)
		v.mu.Lock()
		if c.Conn != nil && !c.state.busy.Load() {
			_ = c.Conn.Close()
		}
		v.mu.Unlock()
	}
}

// waitIdle waits for the last client.
func (v *server) waitIdle() {
	for {
		v.pulse.beat()
		v.mu.Lock()
		active := v.active
		v.mu.Unlock()
		if active == 0 {
			return
		}
		fds := []unix.PollFd{{Fd: int32(v.wake), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 1000)
		var b [8]byte
		_, _ = unix.Read(v.wake, b[:])
	}
}

// watch ends what hangs: the whole process when the loop does not pass, one
// client when nothing has moved for the watchdog's time.
func (v *server) watch() {
	tick := time.NewTicker(max(v.dog/3, 100*time.Millisecond))
	defer tick.Stop()
	for now := range tick.C {
		if v.pulse.age(now) > v.dog+v.dog/3 {
			v.log.Fatal("watchdog timeout")
		}
		v.mu.Lock()
		var stuck []*Conn
		for c := range v.conns {
			if v.s.Kind == Multi && !c.state.busy.Load() {
				continue
			}
			if c.state.pulse.age(now) > v.dog {
				stuck = append(stuck, c)
			}
		}
		v.mu.Unlock()
		if len(stuck) > 0 && v.s.Kind == Trigger {
			v.log.Fatal("watchdog timeout")
		}
		for _, c := range stuck {
			v.log.Warn("watchdog timeout: ending a session")
			v.mu.Lock()
			if c.Conn != nil {
				_ = c.Conn.Close()
			}
			c.Alive()
			v.mu.Unlock()
		}
	}
}
