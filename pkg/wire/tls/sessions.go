package mailtls

import (
	"crypto/tls"
	"sync"
	"time"
)

// maxSessions is how many TLS sessions are kept for resumption.
const maxSessions = 1000

// SessionCache keeps a client's TLS sessions in memory. A session is found only by who
// gives the same key, which holds all of the policy under which it was made.
type SessionCache struct {
	limit time.Duration // age of a session; 0 is no limit

	mu   sync.Mutex
	list map[string]tlsSession
}

type tlsSession struct {
	state *tls.ClientSessionState
	since time.Time
}

// NewSessionCache returns an empty cache for sessions of that age at most; 0 is
// no limit.
func NewSessionCache(limit time.Duration) *SessionCache {
	return &SessionCache{limit: limit, list: make(map[string]tlsSession)}
}

// For is the cache for one key.
func (c *SessionCache) For(key string) tls.ClientSessionCache { return keyedSessions{c, key} }

type keyedSessions struct {
	*SessionCache
	key string
}

// Get ignores crypto/tls's idea of a key: a host name or address.
func (k keyedSessions) Get(string) (*tls.ClientSessionState, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.list[k.key]
	if ok && k.limit > 0 && time.Since(s.since) > k.limit {
		delete(k.list, k.key)
		ok = false
	}
	return s.state, ok
}

// Put keeps a session, or forgets it when state is nil.
func (k keyedSessions) Put(_ string, state *tls.ClientSessionState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.list, k.key)
	if state == nil {
		return
	}
	for old := range k.list {
		if len(k.list) < maxSessions {
			break
		}
		delete(k.list, old)
	}
	k.list[k.key] = tlsSession{state, time.Now()}
}
