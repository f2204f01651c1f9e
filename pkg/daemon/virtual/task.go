package virtual

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// task is the delivery to one recipient.
type task struct {
	*daemon
	job  *agent.Job
	rcpt *deliver.Recipient
}

// run delivers and reports. corrupt tells that the queue file is damaged:
// nothing was reported then.
func (t *task) run(ctx context.Context) (corrupt bool) {
	key := table.Fold(t.rcpt.Address, t.utf8)
	path, st := t.path(ctx, key)
	if st == nil {
		var id cred.Identity
		if id, st = t.rights(ctx, key); st == nil {
			st = t.write(path, id)
		}
	}
	switch {
	case st == nil:
		return true
	case st.Code[0] == '2':
		t.job.Sent(ctx, t.rcpt, agent.Result{Relay: t.service, Status: *st})
	default:
		t.job.Failed(ctx, t.rcpt, agent.Result{Relay: t.service, Status: *st})
	}
	return false
}

func status(code, reason string) *dsn.Status { return &dsn.Status{Code: code, Reason: reason} }

// misconfigured is a failure that only the administrator can mend, who has been
// told in the log.
func misconfigured(code string) *dsn.Status { return status(code, "mail system configuration error") }

func (t *task) find(ctx context.Context, m *table.Maps, key string) (string, bool, error) {
	value, _, found, err := m.FindAddress(ctx, key, table.AddressOptions{Form: table.FormExternalFirst,
		Delimiters: t.ext.Delimiters, DoubleBounce: t.ext.DoubleBounce, OwnerRequest: t.ext.OwnerRequest, IsLocal: t.local.Bare})
	return value, found, err
}

// path is where the recipient's mailbox is.
func (t *task) path(ctx context.Context, key string) (string, *dsn.Status) {
	value, found, err := t.find(ctx, t.mailboxes, key)
	switch {
	case err != nil:
		t.job.Log.Warn("table virtual_mailbox_maps: lookup %s: %v", key, maillog.Errno(err))
		return "", misconfigured("4.3.5")
	case !found:
		return "", status("5.1.1", "unknown user: \""+key+"\"")
	}
	return t.base + "/" + value, nil
}

// rights says as whom the recipient's mailbox is written: never as root.
func (t *task) rights(ctx context.Context, key string) (id cred.Identity, st *dsn.Status) {
	uid, ok := t.number(ctx, t.uids, key, "uid", t.minimumUID)
	if !ok {
		return id, misconfigured("4.3.5")
	}
	gid, ok := t.number(ctx, t.gids, key, "gid", 1)
	if !ok {
		return id, misconfigured("4.3.5")
	}
	id = cred.Identity{UID: uid, GID: gid, Groups: []int{gid}}
	if !t.root && uid != t.self.UID {
		return id, status("5.2.0", "this mail system runs without privileges and delivers only to mailboxes of user "+t.self.Name)
	}
	return id, nil
}

// number finds a user or group id, which is at least least.
func (t *task) number(ctx context.Context, m *table.Maps, key, kind string, least int) (int, bool) {
	value, found, err := t.find(ctx, m, key)
	if err != nil || !found { // the table has told about its own trouble
		t.job.Log.Warn("recipient %s: not found in virtual_%s_maps", key, kind)
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || int(n) < max(least, 1) {
		t.job.Log.Warn("recipient %s: bad %s %s in virtual_%s_maps", key, kind, value, kind)
		return 0, false
	}
	return int(n), true
}

// write delivers to the mailbox or maildir. nil is for a damaged queue file.
func (t *task) write(path string, id cred.Identity) *dsn.Status {
	kind, to, prefix := "mailbox", t.mbox, "delivery failed to mailbox "+path+": "
	if strings.HasSuffix(path, "/") {
		kind, to, prefix = "maildir", t.maildir, "maildir delivery failed: "
	}
	if t.job.Flags&deliver.Probe != 0 {
		return status("2.0.0", "delivers to "+kind)
	}
	err := to(path, id)
	switch {
	case err == nil:
		return status("2.0.0", "delivered to "+kind)
	case errors.Is(err, mailbox.ErrCorrupt):
		return nil
	}
	st := mailbox.Failure(err, "4.2.0")
	st.Reason = prefix + st.Reason
	return &st
}

func (t *task) mbox(path string, id cred.Identity) error {
	return cred.As(id, func() error { return t.appendTo(path, id) })
}

// appendTo writes to a mailbox file, with the owner's rights.
func (t *task) appendTo(path string, id cred.Identity) error {
	f, err := mailbox.Open(path, nil, mailbox.Locking{Locks: t.locks, Dot: t.dot, Warn: t.job.Log.Warn})
	if err != nil {
		return err
	}
	defer f.Release()
	switch {
	case !f.Regular():
		f.Close()
		t.job.Log.Warn("recipient %s: destination %s is not a regular file", t.rcpt.Address, path)
		return &mailbox.StatusError{Status: *misconfigured("5.3.5")}
	case t.strictOwner && int(f.Info.Uid) != id.UID:
		f.Close()
		t.job.Log.Warn("specify \"strict_mailbox_ownership = no\" to ignore mailbox ownership mismatch")
		return &mailbox.StatusError{Status: dsn.Status{Code: "4.2.0", Reason: "destination " + path + " is not owned by recipient"}}
	}
	how := t.format()
	how.From, how.Escape, how.Blank = true, true, true
	if err := f.Append(t.job, how); err != nil {
		return err
	}
	return f.SyncName()
}

func (t *task) maildir(dir string, id cred.Identity) error {
	err := t.maildirs.Write(t.job, dir, id.GID, t.format(), func(f func() error) error { return cred.As(id, f) })
	if err != nil {
		mailbox.Denied(t.job, id.UID, id.GID, err)
	}
	return err
}

// format is what both kinds have around the content (delivery.md §1.5).
func (t *task) format() mailbox.Format {
	f := mailbox.Format{Sender: t.job.Sender, ReturnPath: true, EOL: "\n", Delivered: t.rcpt.Address}
	if t.keepOriginal {
		f.OriginalTo = t.rcpt.Original
	}
	return f
}
