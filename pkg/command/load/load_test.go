package load

import "testing"

func TestParse(t *testing.T) {
	for _, x := range []struct {
		text, port       string
		network, address string
	}{
		{"localhost:25", "smtp", "tcp", "localhost:25"},
		{"inet:localhost", "smtp", "tcp", "localhost:smtp"},
		{"localhost", "628", "tcp", "localhost:628"},
		{":2525", "", "tcp", ":2525"},
		{"[::1]:25", "smtp", "tcp", "[::1]:25"},
		{"[::1]", "smtp", "tcp", "[::1]:smtp"},
		{"::1", "smtp", "tcp", "[::1]:smtp"},
		{"unix:/tmp/x", "smtp", "unix", "/tmp/x"},
	} {
		a, err := Parse(x.text, x.port, 0)
		if err != nil || a.network != x.network || a.address != x.address {
			t.Errorf("%s: %q %q %v, want %q %q", x.text, a.network, a.address, err, x.network, x.address)
		}
	}
	if a, err := Parse("localhost", "", 0); err == nil {
		t.Errorf("no port, no default: %v", a)
	}
}

func TestCounter(t *testing.T) {
	c := NewCounter(2)
	var rests []int
	for {
		rest, ok := c.Take()
		if !ok {
			break
		}
		rests = append(rests, rest)
	}
	if len(rests) != 2 || rests[0] != 1 || rests[1] != 0 {
		t.Errorf("%v", rests)
	}
}
