package local

import (
	"context"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/agent"
)

func (t *task) outcome(s *state, st dsn.Status) agent.Outcome {
	return agent.Outcome{Message: s.message, Flags: t.job.Flags, Stats: t.job.Stats, Rcpt: s.rcpt, Relay: t.service, Status: st}
}

func (t *task) sent(ctx context.Context, s *state, reason string) (done bool) {
	return t.job.Report.Sent(ctx, t.outcome(s, dsn.Status{Code: "2.0.0", Reason: reason}))
}

// failed bounces or defers, as the class of the code says.
func (t *task) failed(ctx context.Context, s *state, code, reason string) (done bool) {
	return t.failedStatus(ctx, s, dsn.Status{Code: code, Reason: reason})
}

func (t *task) failedStatus(ctx context.Context, s *state, st dsn.Status) (done bool) {
	if st.Code[0] == '4' {
		return t.job.Report.Deferred(ctx, t.outcome(s, st))
	}
	return t.job.Report.Bounced(ctx, t.outcome(s, st))
}

// ownerBounced is failedStatus for trouble that the owner of an alias can mend:
// when there is an owner- alias the bounce goes there (delivery.md §3.10).
func (t *task) ownerBounced(ctx context.Context, s *state, st dsn.Status) (done bool) {
	if st.Code[0] == '4' || !t.ownerSpecial {
		return t.failedStatus(ctx, s, st)
	}
	names := []string{s.local}
	if s.extension != "" {
		names = append(names, s.user)
	}
	for _, name := range names {
		owner, found, err := t.ownerOf(ctx, name)
		if err != nil {
			return t.failed(ctx, s, "4.3.0", "alias database unavailable")
		}
		if found {
			o := t.outcome(s, st)
			o.Message.Sender = owner
			return t.job.Report.BouncedOne(ctx, o)
		}
	}
	return t.failedStatus(ctx, s, st)
}

// misconfigured is a failure that only the administrator can mend, who has been
// told in the log.
func (t *task) misconfigured(ctx context.Context, s *state, code string) (done bool) {
	return t.failed(ctx, s, code, "mail system configuration error")
}

func (t *task) probe() bool    { return t.job.Flags&deliver.Probe != 0 }
func (t *task) mtaProbe() bool { return t.job.Flags&deliver.MTAVerify != 0 }

// passOn is the NOTIFY value for what a list expands to: a success is reported
// once, for the list.
func passOn(n dsn.Notify) dsn.Notify {
	if n == dsn.NotifySuccess {
		return dsn.NotifyNever
	}
	return n &^ dsn.NotifySuccess
}

// expanded tells the trace service, if the sender wants to know, that a list was
// expanded; s is the list's own state.
func (t *task) expanded(ctx context.Context, s *state, action string) (done bool) {
	if s.rcpt.Notify&dsn.NotifySuccess == 0 {
		return true
	}
	st := dsn.Status{Code: "2.0.0", Action: action, Reason: "delivery via " + t.service + ": alias expanded"}
	r := t.job.Report
	return r.Bounce.Append(ctx, r.Services.Trace, t.job.ID, bounce.Flags(t.job.Flags&deliver.Trace), s.rcpt, st) == nil
}

// pass hands the recipient to another transport.
func (t *task) pass(ctx context.Context, s *state, to string) (done bool) {
	rcpt := s.rcpt
	rcpt.Offset = -1
	return t.job.Pass(ctx, to, rcpt, t.outcome(s, dsn.Status{}))
}

func forwardedAs(id string) dsn.Status {
	return dsn.Status{Code: "2.0.0", Action: "relayed", Reason: "forwarded as " + id}
}
