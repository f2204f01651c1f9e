package sched

// Recipient slots: how many recipients of a message may be in memory (spec
// routing.md §4.6, last paragraph). The sum of all jobs' limits and of the
// transport's free slots is always NAME_recipient_limit; free may be negative.

// grant gives a job all slots nobody uses.
func (s *Scheduler) grant(j *Job) {
	if n := j.t.free; n > 0 {
		s.move(j, n)
	}
}

func (s *Scheduler) move(j *Job, n int) {
	j.t.free -= n
	j.limit += n
	j.m.limit += n
}

// trim takes back what a completely read message does not need.
func (s *Scheduler) trim(j *Job) {
	if j.m.unread == 0 && j.limit != j.rcpts {
		s.move(j, j.rcpts-j.limit)
	}
}

// share gives free slots to the oldest job that has recipients to read.
func (s *Scheduler) share(t *Transport) {
	if t.free > 0 && t.unread.head != nil {
		s.grant(t.unread.head.v)
	}
}

// balance adjusts the slots of all jobs of a message after a batch was read.
func (s *Scheduler) balance(m *Message) {
	for _, j := range m.jobs {
		switch {
		case m.unread == 0:
			j.upos.remove()
		case j.upos.in == nil:
			at := j.t.unread.tail
			for at != nil && at.v.m.seconds() > m.seconds() {
				at = at.prev
			}
			next := j.t.unread.head
			if at != nil {
				next = at.next
			}
			j.upos.v = j
			j.t.unread.insertBefore(&j.upos, next)
		}
		s.trim(j)
		s.share(j.t)
	}
}

// refill asks for more recipients of a job's message when there is room for
// them. idle tells that the job has no request that could be started.
func (s *Scheduler) refill(j *Job, idle bool) {
	m := j.m
	if m.unread == 0 || m.reading || m.away {
		return
	}
	room := m.limit - m.rcpts
	cfg := &j.t.Config
	switch {
	case room <= 0:
		return
	case room >= cfg.RefillLimit, idle:
	case s.cfg.Now().Sub(m.lastRead) >= cfg.RefillDelay:
	case j.waiting == 0 && 2*room >= m.limit:
		// All is on its way. Waiting for the very last answer would leave the
		// agents idle.
	default:
		return
	}
	m.reading = true
	s.out = append(s.out, Action{Kind: Refill, Message: m, N: min(room, maxBatch)})
}
