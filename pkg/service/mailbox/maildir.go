package mailbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/service/agent"
	"posthaste/pkg/sys/dirsync"
)

// Maildirs delivers to maildirs. It tells apart the deliveries that one process
// makes in one second, and lets those to one maildir share the fsyncs of its
// directory; a process has one.
type Maildirs struct {
	made   atomic.Uint64
	synced dirsync.Group
}

// Denied logs what may help with a maildir that its user may not write to.
func Denied(j *agent.Job, uid, gid int, err error) {
	if errors.Is(err, syscall.EACCES) {
		j.Log.Warn("maildir access problem for UID/GID=%d/%d: %s", uid, gid, err)
		j.Log.Warn("perhaps you need to create the maildirs in advance")
	}
}

// Write writes the message to a file in tmp and links it into new; dir ends in a
// slash. Directories that are missing are made and get the group gid. File, and
// name, are on stable storage when it returns nil.
func (m *Maildirs) Write(j *agent.Job, dir string, gid int, how Format) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	now := time.Now()
	temp := fmt.Sprintf("%stmp/%d.P%dQ%d.%s", dir, now.Unix(), os.Getpid(), m.made.Add(1), host)
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
			j.Log.Warn("remove %s: %s", temp, text(err))
		}
	}()
	var info unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &info)
	if err == nil {
		err = Copy(f, j, how)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = WriteFailed(err)
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = WriteFailed(e)
	}
	if err != nil {
		return err
	}
	final := fmt.Sprintf("%snew/%d.V%xI%xM%d.%s", dir, now.Unix(), info.Dev, info.Ino, now.Nanosecond()/1000, host)
	err = making(func() error { return os.Link(temp, final) }, gid, dir+"cur", dir+"new")
	if err == nil {
		err = m.synced.Do(dir+"new", func() error { return syncDir(dir + "new") })
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
