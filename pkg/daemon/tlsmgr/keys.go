package tlsmgr

import (
	"crypto/rand"
	"sync"
	"time"

	protocol "posthaste/pkg/ipc/tlsmgr"
)

// keyring has the keys that session tickets of all servers are sealed with: the
// one in use and its predecessor. A key seals for half of the life of a
// session, and opens for as long after that, so that no ticket is good for
// longer than smtpd_tls_session_cache_timeout.
type keyring struct {
	life time.Duration // of a session; 0 is no keys

	mu   sync.Mutex
	keys []protocol.Key // the newest first
}

// find returns the key of a name, or the one in use if name is empty.
func (k *keyring) find(name []byte, now time.Time) (protocol.Key, bool) {
	if k.life <= 0 {
		return protocol.Key{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.keys) > 0 && !now.Before(k.keys[len(k.keys)-1].Until.Add(k.life/2)) {
		k.keys = k.keys[:len(k.keys)-1]
	}
	if len(name) == 0 {
		return k.current(now), true
	}
	for _, key := range k.keys {
		if string(key.Name[:]) == string(name) {
			return key, true
		}
	}
	return protocol.Key{}, false
}

func (k *keyring) current(now time.Time) protocol.Key {
	if len(k.keys) > 0 && !now.After(k.keys[0].Until) {
		return k.keys[0]
	}
	key := protocol.Key{Until: now.Add(k.life/2 - time.Second).Truncate(time.Second)}
	rand.Read(key.Name[:])
	rand.Read(key.Cipher[:])
	rand.Read(key.MAC[:])
	k.keys = append([]protocol.Key{key}, k.keys...)
	if len(k.keys) > 2 {
		k.keys = k.keys[:2]
	}
	return key
}
