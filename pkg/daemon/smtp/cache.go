package smtp

import (
	"slices"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/ipc/deliver"
)

// maxCached is how many idle sessions are kept.
const maxCached = 500

// cache holds sessions between deliveries (delivery.md §2.13). Sessions are
// found under the key of their destination and that of their endpoint.
type cache struct {
	limit time.Duration // idle time

	mu     sync.Mutex
	byKey  map[string][]*session
	count  int
	closed bool
}

func newCache(limit time.Duration) *cache {
	return &cache{limit: limit, byKey: make(map[string][]*session)}
}

// take removes the session stored last under a key; nil if there is none.
func (c *cache) take(key string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.byKey[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	c.remove(s)
	return s
}

// remove takes a session out; the caller has the lock.
func (c *cache) remove(s *session) {
	s.timer.Stop()
	for _, key := range s.keys {
		list := c.byKey[key]
		for i := len(list) - 1; i >= 0; i-- {
			if list[i] == s {
				list = append(list[:i], list[i+1:]...)
				break
			}
		}
		if len(list) == 0 {
			delete(c.byKey, key)
		} else {
			c.byKey[key] = list
		}
	}
	s.keys = nil
	c.count--
}

// put stores a session; false means that there is no room.
func (c *cache) put(s *session, keys []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.count >= maxCached {
		return false
	}
	s.keys = keys
	for _, key := range keys {
		c.byKey[key] = append(c.byKey[key], s)
	}
	c.count++
	s.timer = time.AfterFunc(c.limit, func() { c.expire(s) })
	return true
}

func (c *cache) expire(s *session) {
	c.mu.Lock()
	idle := s.keys != nil
	if idle {
		c.remove(s)
	}
	c.mu.Unlock()
	if idle {
		s.close()
	}
}

// close drops all sessions and takes no more.
func (c *cache) close() {
	c.mu.Lock()
	var all []*session
	for _, list := range c.byKey {
		all = append(all, list...)
	}
	c.closed = true
	c.mu.Unlock()
	for _, s := range all {
		c.expire(s)
	}
}

// cachePolicy decides, by the first destination, whether this request may take
// sessions from the cache and put them there.
func (r *request) cachePolicy(first destination) {
	if l := r.d.tables.cacheDestinations; l != nil {
		if hit, err := l.Match(r.ctx, strings.ToLower(first.host)); err == nil && hit {
			r.load, r.store = true, true
			return
		}
	}
	if r.d.cacheOnDemand {
		r.load = r.j.Flags&deliver.ConnLoad != 0
		r.store = r.j.Flags&deliver.ConnStore != 0
	}
}

func (r *request) senderKey() string {
	if r.d.sasl.enabled && r.d.sasl.senderDependent {
		return r.sender
	}
	return ""
}

func (r *request) destinationKey() string {
	return "d\n" + r.senderKey() + "\n" + r.j.NextHop
}

func (r *request) endpointKey(srv server) string {
	key := "e\n" + r.senderKey() + "\n" + srv.endpoint()
	if r.d.sasl.enabled {
		key += "\n" + r.dest.text + "\n" + srv.host
	}
	if p, _ := r.policy(srv); p != nil {
		key += "\n" + usable(p, srv).key()
	}
	return key
}

// tryCached uses the cached sessions to a destination: the one under its own
// key, then those to the servers of the best preference. Servers that were
// reached so are taken off the list.
func (r *request) tryCached(found *servers, lastDest, byDestination bool) {
	if len(found.list) == 0 {
		return
	}
	done := func(endpoint string) {
		found.list = slices.DeleteFunc(found.list, func(x server) bool { return x.endpoint() == endpoint })
		r.final = lastDest && len(found.list) == 0
	}
	if byDestination {
		r.tryCache(r.destinationKey(), done)
	}
	best := slices.Clone(found.list)
	for _, srv := range best {
		if srv.pref == found.bestPref && len(r.left) > 0 && slices.Contains(found.list, srv) {
			r.tryCache(r.endpointKey(srv), done)
		}
	}
}

// tryCache delivers over a cached session, if there is a good one; before it
// does so it calls used.
func (r *request) tryCache(key string, used func(endpoint string)) bool {
	s := r.d.cache.take(key)
	if s == nil {
		return false
	}
	if p, ok := r.tlsPolicyFor(s.server, true); !ok || p.key() != s.policy.key() || !r.sameLogin(s) {
		s.close()
		return false
	}
	s.queue, s.history, s.protocol, s.willCache, s.retryPlain = r.j.ID, nil, false, false, false
	s.reuse++
	if rep, err := s.ask("RSET", r.d.rsetTimeout); err != nil || rep.Class() != 2 {
		s.close()
		return false
	}
	if used != nil {
		used(s.server.endpoint())
	}
	r.stats.ConnSetup = time.Now()
	s.logReuse()
	r.use(s)
	r.stats.Reuse = 0
	return true
}

// mayCache reports whether a session in the middle of a transaction will be
// stored after it.
func (r *request) mayCache(s *session) bool {
	return r.store && !s.dead && !s.forbidCache && (s.tls == nil || s.policy.reuse) &&
		time.Now().Before(s.expires) && (r.d.reuseCount == 0 || s.reuse < r.d.reuseCount)
}

func (r *request) storeSession(s *session) {
	s.conn.Release()
	keys := []string{r.endpointKey(s.server)} // a session without TLS for want of an offer serves the same policy again
	if !r.stored {
		keys = append(keys, r.destinationKey())
		r.stored = true
	}
	if !r.d.cache.put(s, keys) {
		s.quit()
		s.close()
	}
}
