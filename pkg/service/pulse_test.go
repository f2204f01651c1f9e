package service

import (
	"testing"
	"time"
)

// A pulse goes by the monotonic clock: Round(0) takes the reading off, and
// what is left is the clock on the wall, of which nothing may depend.
func TestPulse(t *testing.T) {
	var p pulse
	p.start()
	if p.born == p.born.Round(0) {
		t.Error("born without a monotonic reading: a step of the clock would look like a daemon that hangs")
	}
	time.Sleep(3 * time.Millisecond)
	p.beat()
	if age := p.age(time.Now()); age < 0 || age > time.Second {
		t.Errorf("age %v right after a beat", age)
	}
	if age := p.age(time.Now().Add(time.Hour)); age < time.Hour || age > time.Hour+time.Second {
		t.Errorf("age %v an hour after a beat", age)
	}
}
