package agent

import (
	"context"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// Do serves one request without a connection to a queue manager, for tests of
// agents and for benchmarks. The agent's Setup is the caller's business.
func Do(ctx context.Context, a Agent, spool *queue.Spool, report *Reporter, log *maillog.Logger, req *deliver.Request) deliver.Reply {
	s := &server{agent: a, report: report}
	return s.handle(ctx, &service.Runtime{Log: log, Queue: spool}, req)
}
