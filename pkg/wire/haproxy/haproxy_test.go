package haproxy

import (
	"testing"
)

// FuzzParse asserts that an accepted header lies within the data and has
// valid addresses.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"PROXY TCP4 192.0.2.1 127.0.0.1 2222 25\r\n", "proxy tcp6 2001:db8::1 ::1 1 2\n", "PROXY UNKNOWN\r\n", "EHLO x\r\n",
		signature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\x7f\x00\x00\x01\x08\xae\x00\x19", signature + "\x20\x00\x00\x00", signature + "\x21\x21\x00\x24"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, both bool) {
		if len(data) > maxHeader {
			data = data[:maxHeader]
		}
		p, n, text := parse(data, true, both)
		switch {
		case text != "":
			return
		case n <= 0 || n > len(data):
			t.Fatalf("%q: %d bytes", data, n)
		case p.Local:
			return
		case !p.Client.IsValid() || !p.Server.IsValid() || !validPort(p.ClientPort) || !validPort(p.ServerPort):
			t.Fatalf("%q: %v", data, p)
		case p.Client.Is6() && !both:
			t.Fatalf("%q: IPv6", data)
		}
	})
}
