// Package erroragent is the delivery agent that does not deliver: as service
// "error" it bounces every recipient, as service "retry" it defers them. The next
// hop is the text, "[X.Y.Z ]reason" (spec delivery.md §6). The content of
// messages is never read.
package erroragent

import (
	"context"
	"fmt"
	"os"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
)

// modes are the two services, by their name in master.cf.
var modes = map[string]mode{
	"error": {"5.0.0", (*agent.Job).Bounced},
	"retry": {"4.0.0", (*agent.Job).Deferred},
}

type mode struct {
	code   string // for a next hop without one
	report func(*agent.Job, context.Context, *deliver.Recipient, agent.Result) bool
}

// Main is the daemon; args[0] is the name it was called as.
func Main(args []string) int {
	var m mode
	return agent.Main(agent.Agent{
		Name:        "error",
		MarkBounced: true,
		Start: func(_ context.Context, rt *service.Runtime) error {
			var known bool
			if m, known = modes[rt.ServiceName]; !known {
				return fmt.Errorf("bad error service name: %s", rt.ServiceName)
			}
			return nil
		},
		Deliver: func(ctx context.Context, j *agent.Job) error { return m.deliver(ctx, j) },
	}, args, os.Environ())
}

// deliver reports each recipient with the text in the next hop. An empty next hop
// is a mistake in a transport map, which must not cost a recipient.
func (m mode) deliver(ctx context.Context, j *agent.Job) error {
	if j.NextHop == "" {
		return fmt.Errorf("empty nexthop hostname")
	}
	code, reason := dsn.Split(j.NextHop, m.code)
	for i := range j.Recipients {
		m.report(j, ctx, &j.Recipients[i], agent.Result{Relay: "none", Status: dsn.Status{Code: code, Reason: reason}})
	}
	return nil
}
