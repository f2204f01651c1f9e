package local

import (
	"context"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
)

// leafRights says as whom a file is written or a command run that list s names:
// never as root.
func (t *task) leafRights(s *state) (cred.Identity, bool) {
	if s.rights != nil && s.rights.UID != 0 && s.rights.GID != 0 || !t.root && s.rights != nil {
		return *s.rights, true
	}
	id, err := t.privileges()
	if err != nil || t.root && (id.UID == 0 || id.GID == 0) {
		t.job.Log.Warn("default_privs: user %s cannot be used", t.defaultPrivs)
		return id, false
	}
	return id, true
}

// file delivers to a file or maildir that a list names (delivery.md §3.8).
func (t *task) file(ctx context.Context, s state, path string) (done bool) {
	if !t.toFiles[string(s.list)] {
		return t.ownerBounced(ctx, &s, dsn.Status{Code: "5.7.1", Reason: "mail to file is restricted"})
	}
	id, ok := t.leafRights(&s)
	if !ok {
		return t.misconfigured(ctx, &s, "4.3.5")
	}
	if !t.first("file", strconv.Itoa(id.UID), path) {
		return true
	}
	if strings.HasSuffix(path, "/") {
		return t.maildirReporting(ctx, s, id, path, "delivers to file: "+path, "delivered to maildir", t.ownerBounced)
	}
	if t.probe() {
		return t.sent(ctx, &s, "delivers to file: "+path)
	}
	err := cred.As(id, func() error {
		f, err := mailbox.Open(path, nil, mailbox.Locking{Locks: t.locks, Dot: t.dot, Lenient: true, Warn: t.job.Log.Warn})
		if err != nil {
			return err
		}
		defer f.Release()
		if f.Regular() && f.Info.Mode&0o111 != 0 {
			f.Close()
			return &mailbox.StatusError{Status: dsn.Status{Code: "5.7.1", Reason: "file is executable"}}
		}
		if !f.Regular() {
			_ = f.SetWriteDeadline(time.Now().Add(t.timeLimit)) // a pipe nobody reads
		}
		return t.append(f, &s)
	})
	if err != nil {
		return t.fileFailed(ctx, &s, err, "cannot append message to file "+path+": ", t.ownerBounced)
	}
	return t.sent(ctx, &s, "delivered to file: "+path)
}
