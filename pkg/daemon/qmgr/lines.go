package qmgr

import (
	"errors"
	"os"
	"sync"
	"time"

	"posthaste/pkg/daemon/qmgr/sched"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
)

// A connection to an agent that has announced itself again after its reply is
// kept for the next request. Our agents do that (package agent), Postfix's do
// not. It is not kept for long: it takes a place in the agent.
const lineIdle = time.Second

// lines are the kept connections by transport.
type lines struct {
	mu    sync.Mutex
	idle  map[string][]line // oldest first
	sweep *time.Timer       // set while there are any
}

type line struct {
	*dial.Conn
	since time.Time
}

// take returns a connection on which an agent waits for a request, or nil.
func (l *lines) take(transport string) *dial.Conn {
	for {
		c := l.last(transport)
		if c == nil || !c.Stale() {
			return c
		}
		c.Close()
	}
}

// last removes the connection used last, so that the others can grow old.
func (l *lines) last(transport string) *dial.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.idle[transport]
	if len(kept) == 0 {
		return nil
	}
	c := kept[len(kept)-1]
	kept[len(kept)-1] = line{}
	l.idle[transport] = kept[:len(kept)-1]
	return c.Conn
}

// put keeps a connection after a reply if the agent offers that, and closes
// it otherwise.
func (l *lines) put(transport string, c *dial.Conn) {
	if c.In.Buffered().Buffered() == 0 || c.Expect(deliver.Protocol) != nil {
		c.Close()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle == nil {
		l.idle = make(map[string][]line)
	}
	l.idle[transport] = append(l.idle[transport], line{c, time.Now()})
	if l.sweep == nil {
		l.sweep = time.AfterFunc(lineIdle, l.expire)
	}
}

// expire closes what nobody used for a while.
func (l *lines) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := false
	for transport, kept := range l.idle {
		n := 0
		for n < len(kept) && time.Since(kept[n].since) >= lineIdle {
			kept[n].Close()
			n++
		}
		if n == len(kept) {
			delete(l.idle, transport)
			continue
		}
		l.idle[transport] = append(kept[:0], kept[n:]...)
		left = true
	}
	l.sweep = nil
	if left {
		l.sweep = time.AfterFunc(lineIdle/2, l.expire)
	}
}

// overLine sends the request on a kept connection. It reports false when that
// ended without a reply: the agent was about to leave, has read the request
// or not, but not worked on it; or it crashed, and then a new connection
// shows what becomes of the next one.
func (m *manager) overLine(conn *dial.Conn, transport string, e *sched.Entry) (sched.Result, bool) {
	if err := deliver.WriteRequest(conn.Out, m.request(e)); err != nil {
		return sched.Result{}, false
	}
	if _, err := conn.In.Buffered().Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && m.ctx.Err() == nil {
		return sched.Result{}, false
	}
	return m.reply(conn, transport, e), true
}
