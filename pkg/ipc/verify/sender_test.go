package verify

import (
	"testing"
	"time"
)

// Senders and times were seen in probes of Debian's daemon.
func TestProbeSender(t *testing.T) {
	for _, c := range []struct {
		addr string
		ttl  time.Duration
		now  int64
		want string
	}{
		{"double-bounce@origin.test", time.Second, 1795340941, "double-bounce20Q0JRX@origin.test"},
		{"double-bounce@origin.test", time.Second, 1795340944, "double-bounce20Q0JS0@origin.test"},
		{"double-bounce@origin.test", 100 * time.Second, 1795341348, "double-bounceMFN0C@origin.test"},
		{"double-bounce@origin.test", 0, 1795341348, "double-bounce@origin.test"},
		{"", time.Second, 1795341348, ""},
	} {
		if got := ProbeSender(c.addr, c.ttl, time.Unix(c.now, 0)); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
