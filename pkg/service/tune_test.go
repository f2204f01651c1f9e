package service

import "testing"

func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		held uint64
		want int
	}{{0, 400}, {1 << 20, 400}, {4 << 20, 400}, {8 << 20, 200}, {16 << 20, 100}, {64 << 20, 50}, {1 << 40, 50}} {
		if got := percentFor(c.held); got != c.want {
			t.Errorf("%d bytes held: %d%%, want %d%%", c.held, got, c.want)
		}
	}
}
