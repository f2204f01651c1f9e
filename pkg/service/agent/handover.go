package agent

import (
	"context"
	"errors"
	"strings"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/message/dsn"
)

// Texts for a hand-over that failed (delivery.md §1.9).
var (
	errUnavailable = errors.New("mail transport unavailable")
	errUnknown     = errors.New("unknown mail transport error")
)

// Pass lets another delivery agent deliver one recipient: to is
// "TRANSPORT[:NEXTHOP]", without a next hop the job's is kept. rcpt.Offset is -1
// when this agent marks the recipient itself. o is the outcome to report when
// the other agent cannot be reached; of its message the sender and DSN
// parameters go into the request, so that an alias owner may stand in for
// the sender. done is false when the recipient must be tried again; the other
// agent has reported it then.
func (j *Job) Pass(ctx context.Context, to string, rcpt deliver.Recipient, o Outcome) (done bool) {
	transport, nexthop, _ := strings.Cut(to, ":")
	if transport == "" {
		j.Log.Warn("missing transport name in \"%s\"", to)
		return j.passFailed(ctx, o, errUnavailable)
	}
	j.Log.Info("%s: passing <%s> to transport=%s", j.ID, rcpt.Address, transport)
	req := j.Request
	req.Recipients = []deliver.Recipient{rcpt}
	req.Sender, req.EnvelopeID, req.Ret = o.Message.Sender, o.Message.EnvelopeID, o.Message.Ret
	if nexthop != "" {
		req.NextHop = nexthop
	}
	reply, err := j.ask(ctx, transport, &req)
	if err != nil {
		return j.passFailed(ctx, o, err)
	}
	return reply.Status == deliver.Done
}

func (j *Job) passFailed(ctx context.Context, o Outcome, err error) bool {
	o.Relay = "none"
	o.Status = dsn.Status{Code: "4.3.0", Reason: err.Error()}
	return j.Report.Deferred(ctx, o)
}

func (j *Job) ask(ctx context.Context, transport string, req *deliver.Request) (deliver.Reply, error) {
	d := j.Report.Bounce.Dialer
	conn, err := d.Connect(ctx, dial.Private, transport, dial.Patient())
	if err != nil {
		return deliver.Reply{}, errUnavailable
	}
	defer conn.Close()
	defer conn.Bind(ctx)()
	err = conn.Expect(deliver.Protocol)
	if err == nil {
		err = deliver.WriteRequest(conn.Out, req)
	}
	if err != nil {
		j.Log.Warn("private/%s socket: %v", transport, err)
		return deliver.Reply{}, errUnavailable
	}
	reply, err := deliver.ReadReply(conn.In)
	if err != nil {
		j.Log.Warn("private/%s socket: malformed response: %v", transport, err)
		return reply, errUnknown
	}
	return reply, nil
}
