package local

import (
	"context"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
)

// maildir delivers to a maildir (delivery.md §3.7); dir ends in a slash.
func (t *task) maildir(ctx context.Context, s state, id cred.Identity, dir string) (done bool) {
	return t.maildirReporting(ctx, s, id, dir, "delivers to maildir", "delivered to maildir", t.failedStatus)
}

func (t *task) maildirReporting(ctx context.Context, s state, id cred.Identity, dir, would, did string,
	report func(context.Context, *state, dsn.Status) bool) (done bool) {
	if t.probe() {
		return t.sent(ctx, &s, would)
	}
	err := t.maildirs.Write(t.job, dir, id.GID, t.format(&s, t.prependHeader["file"]),
		func(f func() error) error { return cred.As(id, f) })
	if err == nil {
		return t.sent(ctx, &s, did)
	}
	mailbox.Denied(t.job, id.UID, id.GID, err)
	return t.fileFailed(ctx, &s, err, "maildir delivery failed: ", report)
}
