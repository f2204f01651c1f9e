package qmgr

import (
	"context"
	"sync"
	"time"

	"posthaste/pkg/ipc/rewrite"
)

// Memory of resolver answers: no older than cacheAge, as clients of the resolver
// may keep one by the protocol, and at most two generations of cacheSize.
const (
	cacheAge  = 15 * time.Second // of a generation; an answer lives for two
	cacheSize = 8192
)

// asker is the resolver service.
type asker interface {
	Resolve(ctx context.Context, sender, addr string) (rewrite.Reply, error)
	ResolveVerify(ctx context.Context, sender, addr string) (rewrite.Reply, error)
}

type question struct {
	sender, addr string
	verify       bool
}

// resolver asks the resolver service and remembers its answers. It is safe for
// concurrent use.
type resolver struct {
	ask      asker
	bySender bool
	now      func() time.Time

	mu       sync.Mutex
	turned   time.Time
	new, old map[question]rewrite.Reply
}

func newResolver(ask asker, bySender bool) *resolver {
	return &resolver{ask: ask, bySender: bySender, now: time.Now, new: make(map[question]rewrite.Reply)}
}

func (r *resolver) resolve(ctx context.Context, q question) (rewrite.Reply, error) {
	key := q
	if !r.bySender {
		key.sender = ""
	}
	if reply, ok := r.recall(key); ok {
		return reply, nil
	}
	ask := r.ask.Resolve
	if q.verify {
		ask = r.ask.ResolveVerify
	}
	reply, err := ask(ctx, q.sender, q.addr)
	if err == nil && reply.Flags&rewrite.Fail == 0 {
		r.mu.Lock()
		r.new[key] = reply
		r.mu.Unlock()
	}
	return reply, err
}

func (r *resolver) recall(key question) (rewrite.Reply, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	switch age := now.Sub(r.turned); {
	case age >= 2*cacheAge:
		r.old, r.new, r.turned = nil, make(map[question]rewrite.Reply), now
	case age >= cacheAge || len(r.new) >= cacheSize:
		r.old, r.new, r.turned = r.new, make(map[question]rewrite.Reply), now
	}
	if reply, ok := r.new[key]; ok {
		return reply, true
	}
	reply, ok := r.old[key]
	return reply, ok
}

// forget drops all answers: the administrator asks for another try.
func (r *resolver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.old, r.new = nil, make(map[question]rewrite.Reply)
}
