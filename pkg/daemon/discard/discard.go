// Package discard is the delivery agent that claims to have delivered. The next
// hop is the text of the report, "[2.Y.Z ]reason" (spec delivery.md §6). The
// content of messages is never read.
package discard

import (
	"context"
	"os"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/agent"
)

// Main is the daemon; args[0] is the name it was called as.
func Main(args []string) int {
	return agent.Main(agent.Agent{Name: "discard", Deliver: deliver}, args, os.Environ())
}

func deliver(ctx context.Context, j *agent.Job) error {
	code, reason := dsn.Split(j.NextHop, "2.0.0")
	for i := range j.Recipients {
		j.Sent(ctx, &j.Recipients[i], agent.Result{Relay: "none", Status: dsn.Status{Code: code, Reason: reason}})
	}
	return nil
}
