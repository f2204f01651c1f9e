package rewrite

import (
	"context"
	"sync"
	"time"

	"posthaste/pkg/table"
)

// wildcardAge is how long the "*" entry of a transport table is remembered.
const wildcardAge = 30 * time.Second

// transportMaps is transport_maps with its catch-all entry.
type transportMaps struct {
	*table.Maps
	now func() time.Time

	mu    sync.Mutex
	until time.Time
	value string
	found bool
	err   error
}

func newTransportMaps(m *table.Maps) *transportMaps { return &transportMaps{Maps: m, now: time.Now} }

// Empty tells that there are no tables.
func (t *transportMaps) Empty() bool { return t == nil || t.Maps.Empty() }

func (t *transportMaps) find(ctx context.Context, addr string, o table.AddressOptions) (string, bool, error) {
	value, _, found, err := t.FindAddress(ctx, addr, o)
	if found || err != nil {
		return value, found, err
	}
	return t.wildcard(ctx)
}

func (t *transportMaps) wildcard(ctx context.Context) (string, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.now(); !now.Before(t.until) {
		t.value, t.found, t.err = t.FindFlags(ctx, "*", table.Fixed)
		t.until = now.Add(wildcardAge)
	}
	return t.value, t.found, t.err
}
