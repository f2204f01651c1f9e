package local

import (
	"context"
	"os"
	"strconv"
	"strings"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/table"
)

// mailbox delivers to a user, in the way that is configured (delivery.md §3.7).
// handled is false when there is no such user.
func (t *task) mailbox(ctx context.Context, s state) (handled, done bool) {
	if !t.first("mailbox", s.local) {
		return true, true
	}
	if handled, done := t.byTransport(ctx, s, t.mailboxTransports, t.mailboxTransport); handled {
		return true, done
	}
	id, known, err := t.account(s.user)
	if err != nil {
		return true, t.lookupFailed(ctx, &s, err)
	}
	if !known {
		return false, false
	}
	if !t.root && id.UID != t.self.UID {
		return true, t.failed(ctx, &s, "5.2.0", "this mail system runs without privileges and delivers only to the mailbox of user "+t.self.Name)
	}
	s.rights = &id
	t.thaw(&s)
	command, found, err := find(ctx, t.mailboxCommands, s.user)
	if err != nil {
		return true, t.failed(ctx, &s, "4.3.0", "table lookup failure")
	}
	if !found {
		command = t.mailboxCommand
	}
	switch {
	case command != "":
		return true, t.command(ctx, s, command)
	case strings.HasSuffix(t.homeMailbox, "/"):
		return true, t.maildir(ctx, s, id, id.Home+"/"+t.homeMailbox)
	case t.homeMailbox == "" && strings.HasSuffix(t.spoolDir, "/"):
		return true, t.maildir(ctx, s, id, t.spoolDir+s.user+"/")
	}
	return true, t.mbox(ctx, s, id)
}

// byTransport hands the recipient to the transport that a table or else a
// parameter names, if one does.
func (t *task) byTransport(ctx context.Context, s state, maps *table.Maps, fixed string) (handled, done bool) {
	to, found, err := find(ctx, maps, s.user)
	if err != nil {
		return true, t.failed(ctx, &s, "4.3.0", "table lookup failure")
	}
	if !found {
		to = fixed
	}
	if to == "" {
		return false, false
	}
	return true, t.pass(ctx, &s, to)
}

func find(ctx context.Context, maps *table.Maps, key string) (string, bool, error) {
	if maps == nil || maps.Empty() {
		return "", false, nil
	}
	return maps.Find(ctx, key)
}

// mbox appends the message to the user's mailbox file.
func (t *task) mbox(ctx context.Context, s state, id cred.Identity) (done bool) {
	path := t.spoolDir + "/" + s.user
	if t.homeMailbox != "" {
		path = id.Home + "/" + t.homeMailbox
	}
	if t.probe() {
		return t.sent(ctx, &s, "delivers to mailbox")
	}
	asOpener, newOwner := t.mailboxRights(id)
	offset := int64(0)
	err := cred.As(asOpener, func() error {
		f, err := mailbox.Open(path, newOwner, mailbox.Locking{Locks: t.locks, Dot: t.dot, Warn: t.job.Log.Warn})
		if err != nil {
			return err
		}
		defer f.Release()
		if err := t.fit(f, path, id); err != nil {
			f.Close()
			return err
		}
		offset = f.Info.Size
		// The user's quota, not the opener's, is what counts.
		err = t.asUser(id, asOpener, func() error { return f.Append(t.job, t.mboxFormat(&s)) })
		if err != nil {
			return err
		}
		return f.SyncName()
	})
	if err != nil {
		return t.fileFailed(ctx, &s, err, "cannot update mailbox "+path+" for user "+s.user+". ", t.failedStatus)
	}
	if t.biff {
		t.notifyBiff(id.Name, offset)
	}
	return t.sent(ctx, &s, "delivered to mailbox")
}

// asUser runs f as the user, unless that is who we are on this thread. Credentials
// belong to threads, so it may be called inside cred.As.
func (t *task) asUser(id, current cred.Identity, f func() error) error {
	if id.UID == current.UID {
		return f()
	}
	return cred.As(id, f)
}

// mailboxRights says as whom a mailbox is locked and opened, and to whom a new
// one is given: as the user if the directory allows that, else as root.
func (t *task) mailboxRights(id cred.Identity) (opener cred.Identity, newOwner *cred.Identity) {
	if t.homeMailbox != "" {
		return id, nil
	}
	info, err := os.Stat(t.spoolDir)
	if err != nil || info.Mode().Perm()&0o002 != 0 {
		return id, nil
	}
	if info.Mode().Perm()&0o020 != 0 {
		return cred.Identity{UID: id.UID, GID: gidOf(info)}, nil
	}
	return cred.Identity{}, &id
}

// fit says what is wrong with the file that we found where a mailbox should be.
func (t *task) fit(f *mailbox.File, path string, id cred.Identity) error {
	switch {
	case !f.Regular():
		return &mailbox.StatusError{Status: dsn.Status{Code: "5.2.0", Reason: "destination " + path + " is not a regular file"}}
	case t.strictOwner && int(f.Info.Uid) != id.UID:
		t.job.Log.Warn("specify \"strict_mailbox_ownership = no\" to ignore mailbox ownership mismatch")
		return &mailbox.StatusError{Status: dsn.Status{Code: "4.2.0", Reason: "destination " + path + " is not owned by recipient"}}
	}
	return nil
}

// append writes the message to the end of the open file and closes it.
func (t *task) append(f *mailbox.File, s *state) error {
	if err := f.Append(t.job, t.mboxFormat(s)); err != nil {
		return err
	}
	return f.SyncName()
}

// format is what all our destinations have around the content (delivery.md §1.5).
func (t *task) format(s *state, delivered bool) mailbox.Format {
	f := mailbox.Format{Sender: s.message.Sender, ReturnPath: true, EOL: "\n"}
	if t.keepOriginal {
		f.OriginalTo = s.rcpt.Original
	}
	if delivered {
		f.Delivered = s.delivered
	}
	return f
}

func (t *task) mboxFormat(s *state) mailbox.Format {
	f := t.format(s, t.prependHeader["file"])
	f.From, f.Escape, f.Blank = true, true, true
	return f
}

// fileFailed reports what kept us from writing to a file.
func (t *task) fileFailed(ctx context.Context, s *state, err error, prefix string,
	report func(context.Context, *state, dsn.Status) bool) (done bool) {
	if err == mailbox.ErrCorrupt {
		t.corrupt = true
		return false
	}
	st := mailbox.Failure(err, "5.2.0")
	st.Reason = prefix + st.Reason
	return report(ctx, s, st)
}

func gidOf(info os.FileInfo) int {
	if st, ok := sysStat(info); ok {
		return int(st.Gid)
	}
	return -1
}

// notifyBiff tells the comsat daemon about new mail, if there is one.
func (t *task) notifyBiff(user string, offset int64) {
	if err := sendBiff(user + "@" + strconv.FormatInt(offset, 10) + "\x00"); err != "" {
		t.job.Log.Warn("%s", err)
	}
}
