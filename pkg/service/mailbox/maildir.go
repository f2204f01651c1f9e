package mailbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"posthaste/pkg/service/agent"
	"posthaste/pkg/sys/dirsync"
	"posthaste/pkg/sys/filesync"
	"posthaste/pkg/sys/quick"
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

// Rights runs a function with the rights of a maildir's owner (cred.As).
type Rights func(f func() error) error

// Write writes the message to a file in tmp and links it into new; dir ends in a
// slash. Directories that are missing are made and get the group gid. File, and
// name, are on stable storage when it returns nil. All names are looked up
// with the owner's rights; waiting for the disk needs none, and a thread that
// has another identity must not be kept waiting.
func (m *Maildirs) Write(j *agent.Job, dir string, gid int, how Format, owner Rights) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	d := delivery{m: m, j: j, dir: dir, gid: gid, host: host, now: time.Now()}
	d.temp = fmt.Sprintf("%stmp/%d.P%dQ%d.%s", dir, d.now.Unix(), os.Getpid(), m.made.Add(1), host)
	err = owner(func() error { return d.write(how) })
	if err == nil {
		if err = filesync.Sync(d.f); err != nil {
			err = WriteFailed(err)
		}
	}
	if d.f == nil {
		return err
	}
	return d.finish(err, owner)
}

// delivery is one message on its way into a maildir.
type delivery struct {
	m         *Maildirs
	j         *agent.Job
	dir, host string
	temp      string
	gid       int
	now       time.Time
	f         *os.File // nil until it is made
	info      syscall.Stat_t
	newDir    *os.File // nil if it cannot be opened, which means that it is not synced
}

// write makes the file in tmp.
func (d *delivery) write(how Format) error {
	err := making(func() (err error) {
		d.f, err = create(d.temp)
		return err
	}, d.gid, d.dir+"tmp")
	if err != nil {
		return failure("create maildir file "+d.temp, err)
	}
	if errno := quick.Fstat(d.f, &d.info); errno != 0 {
		return errno
	}
	return Copy(d.f, d.j, how)
}

// create makes a file, without the attempt to have the runtime's poller look
// after it.
func create(path string) (*os.File, error) {
	fd, errno := quick.Open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errno != 0 {
		return nil, &os.PathError{Op: "open", Path: path, Err: errno}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// finish links the file into new if nothing went wrong before, and removes it
// from tmp.
func (d *delivery) finish(err error, owner Rights) error {
	if e := d.f.Close(); err == nil && e != nil {
		err = WriteFailed(e)
	}
	final := fmt.Sprintf("%snew/%d.V%xI%xM%d.%s", d.dir, d.now.Unix(), d.info.Dev, d.info.Ino, d.now.Nanosecond()/1000, d.host)
	linked := owner(func() error {
		defer d.clean()
		if err != nil {
			return nil
		}
		if err := making(func() error { return os.Link(d.temp, final) }, d.gid, d.dir+"cur", d.dir+"new"); err != nil {
			return err
		}
		if fd, errno := quick.Open(d.dir+"new", os.O_RDONLY|syscall.O_DIRECTORY, 0); errno == 0 {
			d.newDir = os.NewFile(uintptr(fd), d.dir+"new")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if linked == nil && d.newDir != nil {
		defer d.newDir.Close()
		linked = d.m.synced.Do(d.dir+"new", func() error { return syncOpen(d.newDir) })
	}
	if linked != nil {
		return failure("create maildir file "+final, linked)
	}
	return nil
}

// clean removes the name in tmp.
func (d *delivery) clean() {
	if errno := quick.Unlink(d.temp); errno != 0 && errno != syscall.ENOENT {
		d.j.Log.Warn("remove %s: %s", d.temp, text(errno))
	}
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
