package dns

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of Recent's memory.
const (
	recentTime = 5 * time.Second
	recentSize = 1000
)

// Recent is a Native that remembers the answers of another for five seconds:
// a client that comes with one connection after the other is looked up once.
// Failures are not remembered. It is safe for concurrent use.
type Recent struct {
	native Native

	mu    sync.Mutex
	begun time.Time // all that is remembered is at most so old
	names map[netip.Addr]string
	hosts map[hostQuestion][]netip.Addr
}

type hostQuestion struct {
	host       string
	ipv4, ipv6 bool
}

// NewRecent returns a Recent on top of native.
func NewRecent(native Native) *Recent { return &Recent{native: native} }

// fresh drops what is too old, or too much. The caller holds the lock.
func (r *Recent) fresh() {
	if now := time.Now(); now.Sub(r.begun) > recentTime || len(r.names)+len(r.hosts) >= recentSize {
		r.begun, r.names, r.hosts = now, map[netip.Addr]string{}, map[hostQuestion][]netip.Addr{}
	}
}

// Name implements Native.
func (r *Recent) Name(ctx context.Context, addr netip.Addr) (string, error) {
	r.mu.Lock()
	r.fresh()
	name, ok := r.names[addr]
	r.mu.Unlock()
	if ok {
		return name, nil
	}
	name, err := r.native.Name(ctx, addr)
	if err == nil {
		r.mu.Lock()
		r.names[addr] = name
		r.mu.Unlock()
	}
	return name, err
}

// Addrs implements Native.
func (r *Recent) Addrs(ctx context.Context, host string, ipv4, ipv6 bool) ([]netip.Addr, error) {
	q := hostQuestion{host, ipv4, ipv6}
	r.mu.Lock()
	r.fresh()
	list, ok := r.hosts[q]
	r.mu.Unlock()
	if ok {
		return slices.Clone(list), nil
	}
	list, err := r.native.Addrs(ctx, host, ipv4, ipv6)
	if err == nil {
		r.mu.Lock()
		r.hosts[q] = slices.Clone(list)
		r.mu.Unlock()
	}
	return list, err
}
