package smtp

import (
	"crypto/tls"
	"sync"
	"time"
)

// maxTLSSessions is how many TLS sessions are kept for resumption.
const maxTLSSessions = 1000

// sessionCache keeps TLS sessions in memory. A session is found only by who
// gives the same key, which holds all of the policy under which it was made.
type sessionCache struct {
	limit time.Duration // age of a session; 0 is no limit

	mu   sync.Mutex
	list map[string]tlsSession
}

type tlsSession struct {
	state *tls.ClientSessionState
	since time.Time
}

func newSessionCache(limit time.Duration) *sessionCache {
	return &sessionCache{limit: limit, list: make(map[string]tlsSession)}
}

// of is the cache for one key.
func (c *sessionCache) of(key string) tls.ClientSessionCache { return keyedSessions{c, key} }

type keyedSessions struct {
	*sessionCache
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
		if len(k.list) < maxTLSSessions {
			break
		}
		delete(k.list, old)
	}
	k.list[k.key] = tlsSession{state, time.Now()}
}
