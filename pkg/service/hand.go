package service

import "time"

// handIdle is how long a goroutine waits for another client. Its stack has
// grown to what a client needs, which a new one's has to do step by step.
const handIdle = 100 * time.Millisecond

// hand has a waiting goroutine run f, or a new one.
func (v *server) hand(f func()) {
	select {
	case v.work <- f:
	default:
		go v.serveAll(f)
	}
}

// serveAll runs f, and what else comes.
func (v *server) serveAll(f func()) {
	f()
	idle := time.NewTimer(handIdle)
	defer idle.Stop()
	for {
		select {
		case f := <-v.work:
			idle.Stop()
			f()
			idle.Reset(handIdle)
		case <-idle.C:
			return
		}
	}
}
