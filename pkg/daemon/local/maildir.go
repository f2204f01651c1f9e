package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/sys/cred"
)

// sequence tells apart the deliveries that one process makes in one second.
type sequence struct{ n atomic.Uint64 }

// maildir delivers to a maildir (delivery.md §3.7); dir ends in a slash.
func (t *task) maildir(ctx context.Context, s state, id cred.Identity, dir string) (done bool) {
	return t.maildirReporting(ctx, s, id, dir, "delivers to maildir", "delivered to maildir", t.failedStatus)
}

func (t *task) maildirReporting(ctx context.Context, s state, id cred.Identity, dir, would, did string,
	report func(context.Context, *state, dsn.Status) bool) (done bool) {
	if t.probe() {
		return t.sent(ctx, &s, would)
	}
	err := cred.As(id, func() error { return t.writeMaildir(&s, dir, id.GID) })
	if err == nil {
		return t.sent(ctx, &s, did)
	}
	if errors.Is(err, syscall.EACCES) {
		t.job.Log.Warn("maildir access problem for UID/GID=%d/%d: %s", id.UID, id.GID, err)
		t.job.Log.Warn("perhaps you need to create the maildirs in advance")
	}
	return t.fileFailed(ctx, &s, err, "maildir delivery failed: ", report)
}

// writeMaildir writes the message to a file in tmp and links it into new. File,
// and name, are on stable storage when it returns nil.
func (t *task) writeMaildir(s *state, dir string, gid int) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	now := time.Now()
	temp := fmt.Sprintf("%stmp/%d.P%dQ%d.%s", dir, now.Unix(), os.Getpid(), t.maildirs.n.Add(1), host)
	var f *os.File
	err = making(func() (err error) {
		f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	}, gid, dir+"tmp")
	if err != nil {
		return failure("create maildir file "+temp, err)
	}
	defer func() {
		if err := os.Remove(temp); err != nil && !errors.Is(err, syscall.ENOENT) {
			t.job.Log.Warn("remove %s: %s", temp, text(err))
		}
	}()
	var info unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &info)
	if err == nil {
		err = t.copyTo(f, s, style{delivered: t.prependHeader["file"]})
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = writeFailed(err)
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = writeFailed(e)
	}
	if err != nil {
		return err
	}
	final := fmt.Sprintf("%snew/%d.V%xI%xM%d.%s", dir, now.Unix(), info.Dev, info.Ino, now.Nanosecond()/1000, host)
	err = making(func() error { return os.Link(temp, final) }, gid, dir+"cur", dir+"new")
	if err == nil {
		err = syncDir(dir + "new")
	}
	if err != nil {
		return failure("create maildir file "+final, err)
	}
	return nil
}

// making does something that may need directories first; they get the group
// gid.
func making(f func() error, gid int, dirs ...string) error {
	err := f()
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	for _, dir := range dirs {
		if err := makeDirs(strings.TrimRight(dir, "/"), gid); err != nil {
			return err
		}
	}
	return f()
}

// makeDirs creates a directory and its parents so that they last.
func makeDirs(dir string, gid int) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	parent := dir[:max(strings.LastIndexByte(dir, '/'), 0)]
	if errors.Is(err, syscall.ENOENT) && parent != "" {
		if err := makeDirs(strings.TrimRight(parent, "/"), gid); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	// Below a set-gid directory it would have another group.
	_ = os.Chown(dir, -1, gid)
	return syncDir(parent)
}
