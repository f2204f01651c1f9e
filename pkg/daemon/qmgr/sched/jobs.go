package sched

// The preemptive job list of a transport: spec routing.md §4.6.

// unblock clears all blocked marks and restarts the search at the list head.
func (t *Transport) unblock() {
	t.blocker++
	t.current = nil
}

func (t *Transport) blocked(j *Job) bool { return j.blocker == t.blocker }

// link puts a job with waiting requests into the list, by activation time.
func (s *Scheduler) link(j *Job) {
	t := j.t
	if j.waiting == 0 {
		return
	}
	if j.pos.in != nil {
		// It got more: whatever was found out about it no longer holds.
		if t.blocked(j) || t.current != j {
			t.unblock()
		}
		return
	}
	at := t.order.tail
	for at != nil && (at.v.level > 0 || at.v.m.seconds() > j.m.seconds()) {
		at = at.prev
	}
	next := t.order.head
	if at != nil {
		next = at.next
	}
	t.order.insertBefore(&j.pos, next)
	t.cand.valid = false
	j.blocker = 0
	if next != nil {
		t.current = nil // not the youngest: it may stand before the current job
	}
	s.grant(j)
}

// unlink takes a job out of the list and out of its stack. Unused delivery slots
// go back to the job it had preempted.
func (s *Scheduler) unlink(j *Job) {
	t := j.t
	if j.pos.in == nil {
		return
	}
	if t.current == j {
		t.current = nil
		if n := j.pos.next; n != nil {
			t.current = n.v
		}
	}
	s.leaveStack(j)
	j.pos.remove()
	t.cand.valid = false
}

// leaveStack makes j a plain job: its children are adopted by the job below it.
func (s *Scheduler) leaveStack(j *Job) {
	if p := j.parent; p != nil {
		if p == j.victim {
			p.avail -= j.used * j.t.Config.SlotCost
		}
		p.children--
	}
	if j.children > 0 {
		// Children stand directly in front of their parent.
		for e := j.pos.prev; e != nil && j.children > 0; e = e.prev {
			if e.v.parent != j {
				continue
			}
			e.v.parent = j.parent
			j.children--
			if j.parent != nil {
				j.parent.children++
			}
		}
	}
	j.parent, j.victim, j.level, j.children = nil, nil, 0, 0
}

// next selects the request that t starts now, or nil.
func (s *Scheduler) next(t *Transport) *Entry {
	if s.cfg.RoundRobin {
		return s.nextByTurn(t)
	}
	e := s.search(t)
	if e == nil && t.ready > 0 {
		// Something is startable although its job was passed over.
		t.unblock()
		e = s.search(t)
	}
	return e
}

func (s *Scheduler) search(t *Transport) *Entry {
	if t.current == nil && t.order.head != nil {
		t.current = t.order.head.v
	}
	if t.current == nil {
		return nil
	}
	if t.Config.SlotCost >= 2 {
		s.preempt(t)
	}
	for pos := &t.current.pos; pos != nil; {
		j := pos.v
		pos = pos.next
		if t.blocked(j) {
			continue
		}
		s.refill(j, false)
		if p := s.pick(j); p != nil {
			e := s.start(p)
			j.avail++
			j.used++
			t.current = j
			if j.waiting == 0 && j.m.unread == 0 {
				s.unlink(j)
			}
			return e
		}
		s.refill(j, true)
		if j.waiting == 0 {
			s.unlink(j)
			continue
		}
		j.blocker = t.blocker
		for e := j.todo.head; e != nil; e = e.next {
			e.v.q.blocker = t.blocker
		}
	}
	return nil
}

// pick finds the job's next destination with room, round robin.
func (s *Scheduler) pick(j *Job) *peer {
	for e := j.todo.head; e != nil; e = e.next {
		if e.v.q.ready > 0 {
			p := e.v
			e.remove()
			j.todo.pushBack(e)
			return p
		}
	}
	return nil
}

// preempt lets a small job overtake the current one when that has earned enough
// delivery slots.
func (s *Scheduler) preempt(t *Transport) {
	c, cfg := t.current, &t.Config
	cost := cfg.SlotCost
	if c.avail <= 0 || c.read+c.m.unread < cfg.MinimumSlots*cost {
		return
	}
	limit := (c.read - c.selected + c.avail) / cost
	if limit <= 0 {
		return
	}
	j := s.candidate(t, c, limit)
	if j == nil {
		return
	}
	need := j.need()
	if c.avail/cost+cfg.SlotLoan < need*(100-cfg.SlotDiscount)/100 {
		return
	}
	s.leaveStack(j)
	j.pos.remove()
	t.order.insertBefore(&j.pos, &c.pos)
	j.level = c.level + 1
	j.parent, j.victim = c, c
	c.children++
	c.avail -= need * cost
	j.used = -need
	t.current = j
	t.cand.valid = false
	if j.m.unread > 0 {
		s.move(j, (cfg.ExtraRecipients+t.free+1)/2)
	}
}

// need is the number of requests a job has still to start.
func (j *Job) need() int { return j.read + j.m.unread - j.selected }

// candidate is the best job to preempt c, needing at most limit slots. The answer
// is kept for a second; "none" is kept until c or the list changes.
func (s *Scheduler) candidate(t *Transport, c *Job, limit int) *Job {
	now := s.cfg.Now().Unix()
	k := &t.cand
	if k.valid && k.of == c && (k.best == nil || (k.second == now && !t.blocked(k.best))) {
		return k.best
	}
	var best *Job
	score := 0.0
	for e := c.pos.next; e != nil; e = e.next {
		j := e.v
		age := float64(now - j.m.seconds() + 1)
		if j.level == 0 && best != nil && age <= score {
			break
		}
		if j.children > 0 || t.blocked(j) {
			continue
		}
		if need := j.need(); need <= 0 || need > limit {
			continue
		}
		if v := age / float64(j.read+j.m.unread); v > score {
			best, score = j, v
		}
	}
	*k = candidate{valid: true, of: c, best: best, second: now}
	return best
}
