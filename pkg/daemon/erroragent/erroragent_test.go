package erroragent

import (
	"testing"

	"posthaste/pkg/message/dsn"
)

func TestModes(t *testing.T) {
	for _, c := range []struct{ service, nexthop, code, reason string }{
		{"error", "5.1.2 no such domain", "5.1.2", "no such domain"},
		{"error", "go away", "5.0.0", "go away"},
		{"retry", "4.3.0 mail transport unavailable", "4.3.0", "mail transport unavailable"},
		{"retry", "later", "4.0.0", "later"},
	} {
		code, reason := dsn.Split(c.nexthop, modes[c.service].code)
		if code != c.code || reason != c.reason {
			t.Errorf("%s %q: %s %q", c.service, c.nexthop, code, reason)
		}
	}
	if _, known := modes["smtp"]; known {
		t.Error("a service that is neither error nor retry")
	}
}
