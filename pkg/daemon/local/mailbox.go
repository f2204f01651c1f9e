package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"posthaste/pkg/message/dsn"
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
		f, err := openLocked(path, newOwner, locking{set: t.locks, dot: t.dot, warn: t.job.Log.Warn})
		if err != nil {
			return err
		}
		defer f.release()
		if err := t.fit(f, path, id); err != nil {
			f.Close()
			return err
		}
		offset = f.info.Size
		// The user's quota, not the opener's, is what counts.
		err = t.asUser(id, asOpener, func() error {
			return t.append(f, &s)
		})
		if err == nil && f.created {
			err = syncDir(filepath.Dir(path))
		}
		return err
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
func (t *task) fit(f *openFile, path string, id cred.Identity) error {
	switch {
	case !f.regular():
		return &statusError{dsn.Status{Code: "5.2.0", Reason: "destination " + path + " is not a regular file"}, nil}
	case t.strictOwner && int(f.info.Uid) != id.UID:
		t.job.Log.Warn("specify \"strict_mailbox_ownership = no\" to ignore mailbox ownership mismatch")
		return &statusError{dsn.Status{Code: "4.2.0", Reason: "destination " + path + " is not owned by recipient"}, nil}
	}
	return nil
}

// append writes the message to the end of the open file and closes it. It is on
// stable storage then; after an error the file is as long as before.
func (t *task) append(f *openFile, s *state) error {
	err := t.copyTo(f.File, s, style{from: true, escape: true, blank: true, delivered: t.prependHeader["file"]})
	if f.regular() {
		if err == nil {
			if e := f.Sync(); e != nil {
				err = writeFailed(e)
			}
		}
		if err != nil {
			if e := f.Truncate(f.info.Size); e != nil {
				t.job.Log.Warn("%s: truncate: %s", f.Name(), text(e))
			}
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = writeFailed(e)
	}
	return err
}

// fileFailed reports what kept us from writing to a file.
func (t *task) fileFailed(ctx context.Context, s *state, err error, prefix string,
	report func(context.Context, *state, dsn.Status) bool) (done bool) {
	if err == errCorrupt {
		t.corrupt = true
		return false
	}
	var known *statusError
	st := dsn.Status{Code: fileStatus(err, "5.2.0"), Reason: text(err)}
	if errors.As(err, &known) {
		st = known.status
	}
	var open *openError
	if errors.As(err, &open) {
		st.Reason = open.text
	}
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
