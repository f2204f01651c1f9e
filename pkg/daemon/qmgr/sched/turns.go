package sched

// The scheduler of the older queue manager, oqmgr: no jobs and no preemption. The
// destinations of a transport take turns, and each has its requests in the order in
// which they came.

// takeTurns puts a destination in line when something became startable, and out of
// line when nothing is any more.
func (q *Queue) takeTurns() {
	switch in := q.turn.in != nil; {
	case q.ready > 0 && !in:
		q.turn.v = q
		q.t.turns.pushBack(&q.turn)
	case q.ready == 0 && in:
		q.turn.remove()
	}
}

// nextByTurn starts the oldest request of the destination whose turn it is.
func (s *Scheduler) nextByTurn(t *Transport) *Entry {
	head := t.turns.head
	if head == nil {
		return nil
	}
	q := head.v
	head.remove()
	t.turns.pushBack(head)
	p := q.peers.head.v
	j := p.j
	e := s.start(p)
	if j.waiting == 0 && j.m.unread == 0 {
		s.unlink(j)
	}
	s.refill(j, j.waiting == 0)
	return e
}
