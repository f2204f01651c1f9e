package smtp

import (
	"strings"
	"testing"

	"posthaste/pkg/ipc/deliver"
)

// A server that says 250 before it has the whole message and then hangs up does
// not have the message.
func TestSuccessBeforeTheEnd(t *testing.T) {
	c := testCase{servers: []string{"BODY: 250 2.0.0 fine"}, nexthop: one,
		content: "Subject: x\n\n" + strings.Repeat(strings.Repeat("y", 70)+"\n", 200000)}
	o := newOurs(t, false, nil)
	req, _, _ := c.prepare(t, o.spoolWorld, 1)
	reply := o.deliver(req)
	if reply.Status == deliver.Done || strings.Contains(o.marks(req), "D") {
		t.Errorf("reply %+v, marks %s\n%s", reply, o.marks(req), strings.Join(o.lines.Lines(), "\n"))
	}
}
