package mailbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/sys/filesync"
)

// Locks are the kinds of lock a mailbox gets.
type Locks int

// The kinds of lock.
const (
	Flock Locks = 1 << iota
	Fcntl
	Dotlock
)

var lockNames = map[string]Locks{"flock": Flock, "fcntl": Fcntl, "dotlock": Dotlock}

// ReadLocks reads a parameter that lists kinds of lock.
func ReadLocks(c *conf.Config, parameter string) (Locks, error) {
	var set Locks
	for _, name := range c.List(parameter) {
		kind, known := lockNames[name]
		if !known {
			// The text names mailbox_delivery_lock whatever the parameter is.
			return 0, fmt.Errorf("unknown mailbox_delivery_lock value \"%s\" in \"%s\"", name, c.String(parameter))
		}
		set |= kind
	}
	return set, nil
}

// ReadDotOptions are the parameters of waiting for a lock.
func ReadDotOptions(c *conf.Config) filelock.DotOptions {
	return filelock.DotOptions{Attempts: c.Int("deliver_lock_attempts"), Delay: c.Duration("deliver_lock_delay"),
		Stale: c.Duration("stale_lock_time")}
}

// File is an open and locked mailbox-style file (delivery.md §1.8).
type File struct {
	*os.File
	Info    unix.Stat_t
	Created bool // it is new

	release func() error // of the dotlock
	warn    func(format string, a ...any)
}

// Release removes the lock file. The kernel's locks end when the file is closed,
// which comes before.
func (f *File) Release() { f.release() }

// Regular tells a file from a device or FIFO.
func (f *File) Regular() bool { return f.Info.Mode&unix.S_IFMT == unix.S_IFREG }

// Locking is how to lock.
type Locking struct {
	Locks   Locks
	Dot     filelock.DotOptions // Attempts and Delay are for all kinds
	Lenient bool                // do without a lock file that cannot be created
	Warn    func(format string, a ...any)
}

// Open opens path for appending, with the locks in l. A new file is given to
// newOwner, if any. Whatever the caller's identity may do is done; that is the
// caller's choice.
func Open(path string, newOwner *cred.Identity, l Locking) (*File, error) {
	f := &File{release: func() error { return nil }, warn: l.Warn}
	info, err := os.Stat(path)
	if l.Locks&Dotlock != 0 && (errors.Is(err, syscall.ENOENT) || err == nil && info.Mode().IsRegular()) {
		release, err := filelock.DotLock(path, l.Dot)
		switch {
		case err == nil:
			f.release = release
		case l.Lenient && !filelock.IsBusy(err):
			l.Warn("%s", dotText(path, err))
		default:
			return nil, &openError{dotText(path, err), err}
		}
	}
	if err := f.open(path, newOwner); err != nil {
		f.release()
		return nil, err
	}
	if f.Regular() {
		if err := f.lock(path, l); err != nil {
			f.Close()
			f.release()
			return nil, err
		}
	}
	return f, nil
}

// dotText is the text of DotLock's error with the C library's words.
func dotText(path string, err error) string {
	why := text(err)
	if filelock.IsBusy(err) {
		why = "File exists"
	}
	return "unable to create lock file " + path + ".lock: " + why
}

const appendFlags = unix.O_APPEND | unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

// open opens the file or creates it.
func (f *File) open(path string, newOwner *cred.Identity) error {
	fd, err := f.openExisting(path)
	if errors.Is(err, syscall.ENOENT) {
		fd, err = f.create(path, newOwner)
		if errors.Is(err, syscall.EEXIST) {
			fd, err = f.openExisting(path)
		}
	}
	if err != nil {
		return err
	}
	if f.Regular() {
		_ = unix.SetNonblock(fd, false)
	}
	f.File = os.NewFile(uintptr(fd), path)
	return nil
}

func (f *File) openExisting(path string) (int, error) {
	fd, err := unix.Open(path, appendFlags, 0)
	if err != nil {
		return -1, failure("cannot open file", err)
	}
	if err := f.check(fd, path); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// check makes sure that the open file is the one called path, and has no other
// name under which it is something else's.
func (f *File) check(fd int, path string) error {
	if err := unix.Fstat(fd, &f.Info); err != nil {
		return failure("cannot open file", err)
	}
	if f.Info.Nlink != 1 && f.Info.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &openError{fmt.Sprintf("file has %d hard links", f.Info.Nlink), unix.EPERM}
	}
	if f.Info.Mode&unix.S_IFMT == unix.S_IFDIR {
		return &openError{"file is a directory", unix.EISDIR}
	}
	var named unix.Stat_t
	if err := unix.Lstat(path, &named); err != nil {
		return &openError{"file status changed unexpectedly: " + text(err), unix.EPERM}
	}
	if named.Mode&unix.S_IFMT == unix.S_IFLNK {
		if trustedLink(&named, path) {
			return nil
		}
		return &openError{"file is a symbolic link", unix.EPERM}
	}
	if named.Dev != f.Info.Dev || named.Ino != f.Info.Ino || named.Mode&unix.S_IFMT != f.Info.Mode&unix.S_IFMT {
		return &openError{"file status changed unexpectedly", unix.EPERM}
	}
	return nil
}

// trustedLink tells whether only root can have made a symbolic link.
func trustedLink(link *unix.Stat_t, path string) bool {
	var dir unix.Stat_t
	return link.Uid == 0 && unix.Stat(filepath.Dir(path), &dir) == nil && dir.Uid == 0 && dir.Mode&0o022 == 0
}

func (f *File) create(path string, newOwner *cred.Identity) (int, error) {
	fd, err := unix.Open(path, appendFlags|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return -1, failure("cannot create file exclusively", err)
	}
	f.Created = true
	if newOwner != nil {
		if err := unix.Fchown(fd, newOwner.UID, newOwner.GID); err != nil {
			f.warn("%s: cannot change file ownership: %s", path, text(err))
			unix.Close(fd)
			return -1, failure("cannot change file ownership", err)
		}
	}
	if err := unix.Fstat(fd, &f.Info); err != nil {
		unix.Close(fd)
		return -1, failure("cannot open file", err)
	}
	return fd, nil
}

// lock takes the kernel's locks, and looks whether the file was removed or
// replaced meanwhile.
func (f *File) lock(path string, l Locking) error {
	for _, k := range []struct {
		in    Locks
		style filelock.Style
	}{{Flock, filelock.Flock}, {Fcntl, filelock.Fcntl}} {
		if l.Locks&k.in == 0 {
			continue
		}
		if err := patiently(l.Dot, func() error { return filelock.Lock(f.File, filelock.Exclusive, k.style, false) }); err != nil {
			if filelock.IsBusy(err) {
				err = unix.EAGAIN
			}
			return failure("unable to lock for exclusive access", err)
		}
	}
	if err := unix.Fstat(int(f.Fd()), &f.Info); err != nil || f.Info.Nlink != 1 {
		f.warn("%s: file status changed unexpectedly", path)
		return &openError{"target file status changed unexpectedly", unix.EAGAIN}
	}
	return nil
}

// patiently tries while somebody else has the lock.
func patiently(o filelock.DotOptions, try func() error) error {
	err := try()
	for n := 1; n < o.Attempts && filelock.IsBusy(err); n++ {
		time.Sleep(o.Delay*3/4 + time.Duration(rand.Int64N(int64(o.Delay)/2+1)))
		err = try()
	}
	return err
}

// Append writes the message to the end of the file and closes it. It is on
// stable storage then; after an error the file is as long as before.
func (f *File) Append(j *agent.Job, how Format) error {
	err := Copy(f.File, j, how)
	if f.Regular() {
		if err == nil {
			if e := f.Sync(); e != nil {
				err = WriteFailed(e)
			}
		}
		if err != nil {
			if e := f.Truncate(f.Info.Size); e != nil {
				f.warn("%s: truncate: %s", f.Name(), text(e))
			}
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = WriteFailed(e)
	}
	return err
}

// SyncName makes the name of a new file last.
func (f *File) SyncName() error {
	if !f.Created {
		return nil
	}
	return syncDir(filepath.Dir(f.Name()))
}

// syncDir makes a new name in a directory last. A directory that we may write
// but not read cannot be synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	return syncOpen(d)
}

// syncOpen syncs an open directory, where that can be done.
func syncOpen(d *os.File) error {
	if err := filesync.Sync(d); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
