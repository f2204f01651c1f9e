package sched

// newEntry makes an empty request of m for q and lets it wait.
func (s *Scheduler) newEntry(m *Message, q *Queue) *Entry {
	j := s.job(m, q.t)
	p := j.peers.of(q)
	if p == nil {
		p = &peer{j: j, q: q}
		p.jpos.v, p.qpos.v = p, p
		j.peers.add(p)
	}
	e := &Entry{Message: m, p: p}
	s.enqueue(e)
	j.read++
	m.entries++
	s.warnClog(q)
	return e
}

// peers are those of a job. Most jobs have one: a map for each of them would be
// the largest part of a message in memory.
type peers struct {
	first *peer
	more  map[*Queue]*peer // the others
}

func (s *peers) of(q *Queue) *peer {
	if s.first != nil && s.first.q == q {
		return s.first
	}
	return s.more[q]
}

func (s *peers) add(p *peer) {
	if s.first == nil {
		s.first = p
		return
	}
	if s.more == nil {
		s.more = make(map[*Queue]*peer)
	}
	s.more[p.q] = p
}

func (s *peers) drop(p *peer) {
	if s.first == p {
		s.first = nil
		return
	}
	delete(s.more, p.q)
}

// job finds or makes the job of m for t.
func (s *Scheduler) job(m *Message, t *Transport) *Job {
	for _, j := range m.jobs {
		if j.t == t {
			return j
		}
	}
	j := &Job{m: m, t: t}
	j.pos.v = j
	m.jobs = append(m.jobs, j)
	return j
}

// room makes room for as many of n recipients as a request takes.
func (e *Entry) room(n, limit int) {
	switch {
	case e.Message.OneByOne:
		n = 1
	case limit > 0:
		n = min(n, limit)
	}
	e.Recipients = make([]Recipient, 0, n)
}

// enqueue appends e to what waits for its peer.
func (s *Scheduler) enqueue(e *Entry) {
	p := e.p
	p.wait = append(p.wait, e)
	if len(p.wait) == 1 {
		p.j.todo.pushBack(&p.jpos)
		p.q.peers.pushBack(&p.qpos)
	}
	p.j.waiting++
	p.q.waiting++
	s.settle(p.q)
}

// dequeue takes the first waiting request of a peer.
func (s *Scheduler) dequeue(p *peer) *Entry {
	e := p.wait[0]
	p.wait[0] = nil
	p.wait = p.wait[1:]
	if len(p.wait) == 0 {
		p.wait = nil
		p.jpos.remove()
		p.qpos.remove()
	}
	p.j.waiting--
	p.q.waiting--
	p.j.selected++
	return e
}

// start makes a waiting request busy.
func (s *Scheduler) start(p *peer) *Entry {
	e := s.dequeue(p)
	q := p.q
	now := s.cfg.Now().Unix()
	switch {
	case q.lastDone == 0:
	case q.lastDone+1 >= now:
		q.cache, q.store = true, true
	case q.busy == 0:
		q.store = false
	}
	e.CacheLoad, e.CacheStore = q.cache, q.store
	q.busy++
	p.busy++
	s.settle(q)
	return e
}

// unstart puts a request back that could not be sent.
func (s *Scheduler) unstart(e *Entry) {
	p := e.p
	p.busy--
	p.q.busy--
	p.j.selected--
	s.enqueue(e)
	if n := len(p.wait); n > 1 {
		copy(p.wait[1:], p.wait[:n-1])
		p.wait[0] = e
	}
	s.link(p.j)
}

// divert sends everything that waits for q to the retry transport, or asks the
// owner to defer it when that is impossible.
func (s *Scheduler) divert(q *Queue, why Reason) {
	moved := make(map[*Job]bool)
	for q.peers.head != nil {
		p := q.peers.head.v
		from := p.j
		for len(p.wait) > 0 {
			e := s.dequeue(p)
			n := len(e.Recipients)
			from.rcpts -= n
			to, _ := s.retryQueue(why)
			if to == nil || to == q {
				e.p = nil
				s.out = append(s.out, Action{Kind: Defer, Message: e.Message, Entry: e, Reason: why})
				continue
			}
			moved[s.transfer(e, to)] = true
		}
		s.dropPeer(p)
		s.trim(from)
		s.share(from.t)
		if from.waiting == 0 {
			s.unlink(from)
		}
	}
	for j := range moved {
		s.link(j)
		s.trim(j)
	}
	s.settle(q)
	s.forget(q)
}

// transfer makes e a request for another queue and returns its new job.
func (s *Scheduler) transfer(e *Entry, to *Queue) *Job {
	rcpts, m := e.Recipients, e.Message
	limit := to.t.Config.RecipientLimit
	var n *Entry
	m.entries--
	for i := range rcpts {
		if n == nil || m.OneByOne || (limit > 0 && len(n.Recipients) >= limit) {
			n = s.newEntry(m, to)
			n.room(len(rcpts)-i, limit)
		}
		n.Recipients = append(n.Recipients, rcpts[i])
	}
	n.p.j.rcpts += len(rcpts)
	return n.p.j
}

// dropPeer forgets a peer without requests.
func (s *Scheduler) dropPeer(p *peer) {
	if len(p.wait) == 0 && p.busy == 0 {
		p.j.peers.drop(p)
	}
}
