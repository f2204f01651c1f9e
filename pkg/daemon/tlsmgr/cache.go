package tlsmgr

import (
	"container/list"
	"sync"
	"time"
)

// Bounds of a cache: the oldest sessions make room for what comes beyond them.
const (
	maxSessions   = 20_000
	maxCacheBytes = 32 << 20 // of keys and sessions together
	maxSession    = 64 << 10 // of one session: tickets and certificate chains
	maxID         = 4 << 10
)

// minTimeout is the shortest life of a session; a shorter one that is
// configured means this, as with the original.
const minTimeout = 120 * time.Second

// life is the life of a session for a *_tls_session_cache_timeout; 0 is that
// there are no sessions.
func life(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return 0
	}
	return max(timeout, minTimeout)
}

// cache has the sessions of one type, each for as long as the others, so that
// the oldest is always the next to go.
type cache struct {
	name    string // "smtpd"
	enabled bool   // there is a database, and sessions have a life
	timeout time.Duration
	tell    func(format string, a ...any) // logs if the log level of the cache asks for it
	locked  func() error                  // gives the database up; nil is none

	mu    sync.Mutex
	byID  map[string]*list.Element
	order *list.List // of *entry, the oldest first
	bytes int
}

type entry struct {
	id      string
	session []byte
	since   time.Time
}

func (e *entry) size() int { return len(e.id) + len(e.session) }

func newCache(name string, timeout time.Duration, tell func(string, ...any)) *cache {
	return &cache{name: name, timeout: life(timeout), tell: tell, byID: map[string]*list.Element{}, order: list.New()}
}

// put stores a session, in the place of an older one with the same name. It
// reports false for what is too big.
func (c *cache) put(id string, session []byte, now time.Time) bool {
	if len(id) > maxID || len(session) > maxSession {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell("write %s TLS cache entry %s: time=%d [data %d bytes]", c.name, id, now.Unix(), len(session))
	if old := c.byID[id]; old != nil {
		c.remove(old)
	}
	e := &entry{id, session, now}
	for c.order.Len() > 0 && (c.order.Len() >= maxSessions || c.bytes+e.size() > maxCacheBytes) {
		c.remove(c.order.Front())
	}
	c.byID[id] = c.order.PushBack(e)
	c.bytes += e.size()
	return true
}

// get finds a session that is not too old.
func (c *cache) get(id string, now time.Time) (session []byte, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.byID[id]
	if at == nil {
		return nil, false
	}
	e := at.Value.(*entry)
	if c.expired(e, now) {
		c.remove(at)
		return nil, false
	}
	c.tell("read %s TLS cache entry %s: time=%d [data %d bytes]", c.name, id, e.since.Unix(), len(e.session))
	return e.session, true
}

// drop forgets a session; false if there is none.
func (c *cache) drop(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.byID[id]
	if at != nil {
		c.remove(at)
	}
	return at != nil
}

// clean forgets all sessions that are too old.
func (c *cache) clean(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.order.Front(); at != nil && c.expired(at.Value.(*entry), now); at = c.order.Front() {
		c.remove(at)
	}
}

func (c *cache) expired(e *entry, now time.Time) bool { return now.Sub(e.since) > c.timeout }

func (c *cache) remove(at *list.Element) {
	e := c.order.Remove(at).(*entry)
	delete(c.byID, e.id)
	c.bytes -= e.size()
}

func (c *cache) close() {
	if c.locked != nil {
		_ = c.locked()
	}
}
