package sched

import (
	"container/heap"
	"time"
)

// timer is something that happens at a time unless stopped.
type timer struct {
	at  time.Time
	do  func()
	pos int
}

type timers []*timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, k int) bool { return h[i].at.Before(h[k].at) }
func (h timers) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].pos, h[k].pos = i, k
}
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.pos = len(*h)
	*h = append(*h, t)
}
func (h *timers) Pop() any {
	n := len(*h) - 1
	t := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	t.pos = -1
	return t
}

func (s *Scheduler) after(d time.Duration, do func()) *timer {
	t := &timer{at: s.cfg.Now().Add(d), do: do}
	heap.Push(&s.timers, t)
	return t
}

// stop cancels a timer; nil and expired ones are fine.
func (s *Scheduler) stop(t *timer) {
	if t != nil && t.pos >= 0 {
		heap.Remove(&s.timers, t.pos)
	}
}

// Deadline is when Tick must be called next; false means never.
func (s *Scheduler) Deadline() (time.Time, bool) {
	if len(s.timers) == 0 {
		return time.Time{}, false
	}
	return s.timers[0].at, true
}

// Tick lets happen what is due.
func (s *Scheduler) Tick() {
	now := s.cfg.Now()
	for len(s.timers) > 0 && !s.timers[0].at.After(now) {
		heap.Pop(&s.timers).(*timer).do()
	}
}
