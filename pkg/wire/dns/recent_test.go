package dns

import (
	"context"
	"net/netip"
	"testing"
)

type countingNative struct{ asked int }

func (c *countingNative) Name(context.Context, netip.Addr) (string, error) {
	c.asked++
	return "h.example", nil
}

func (c *countingNative) Addrs(_ context.Context, host string, _, _ bool) ([]netip.Addr, error) {
	c.asked++
	if host == "none" {
		return nil, &NativeError{Text: gaiNoName}
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

func TestRecent(t *testing.T) {
	native := &countingNative{}
	r := NewRecent(native)
	ctx, addr := context.Background(), netip.MustParseAddr("192.0.2.1")
	for range 3 {
		if name, err := r.Name(ctx, addr); name != "h.example" || err != nil {
			t.Error(name, err)
		}
		if list, err := r.Addrs(ctx, "h.example", true, false); len(list) != 1 || list[0] != addr || err != nil {
			t.Error(list, err)
		}
	}
	if native.asked != 2 {
		t.Errorf("asked %d times, want 2", native.asked)
	}
	for range 2 {
		r.Addrs(ctx, "none", true, false)
	}
	if native.asked != 4 {
		t.Errorf("asked %d times, want 4: a failure was remembered", native.asked)
	}
	r.begun = r.begun.Add(-2 * recentTime)
	r.Name(ctx, addr)
	if native.asked != 5 {
		t.Errorf("asked %d times, want 5", native.asked)
	}
	for i := range 3 * recentSize {
		r.Name(ctx, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if n := len(r.names); n > recentSize {
		t.Errorf("%d names remembered", n)
	}
}
