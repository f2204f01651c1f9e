package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/filelock"
)

// lockSet are the kinds of lock a mailbox gets.
type lockSet int

const (
	lockFlock lockSet = 1 << iota
	lockFcntl
	lockDot
)

var lockNames = map[string]lockSet{"flock": lockFlock, "fcntl": lockFcntl, "dotlock": lockDot}

// openFile is an open and locked mailbox-style file (delivery.md §1.8).
type openFile struct {
	*os.File
	info    unix.Stat_t
	created bool
	release func() error // of the dotlock
}

func (f *openFile) regular() bool { return f.info.Mode&unix.S_IFMT == unix.S_IFREG }

// openError is what kept us from a file.
type openError struct {
	text string // with the system error, if that is to be shown
	err  error
}

func (e *openError) Error() string { return e.text }
func (e *openError) Unwrap() error { return e.err }

func failure(what string, err error) error {
	return &openError{what + ": " + text(err), err}
}

// locking is how to lock.
type locking struct {
	set     lockSet
	dot     filelock.DotOptions
	lenient bool // do without a dotlock that cannot be created
	warn    func(format string, a ...any)
}

// openLocked opens path for appending, with the locks in l. A new file is given to
// newOwner, if any. Whatever the caller's identity may do is done; that is the
// caller's choice.
func openLocked(path string, newOwner *cred.Identity, l locking) (*openFile, error) {
	f := &openFile{release: func() error { return nil }}
	info, err := os.Stat(path)
	if l.set&lockDot != 0 && (errors.Is(err, syscall.ENOENT) || err == nil && info.Mode().IsRegular()) {
		release, err := filelock.DotLock(path, l.dot)
		switch {
		case err == nil:
			f.release = release
		case l.lenient && !filelock.IsBusy(err):
			l.warn("%s", dotText(path, err))
		default:
			return nil, &openError{dotText(path, err), err}
		}
	}
	if err := f.open(path, newOwner, l.warn); err != nil {
		f.release()
		return nil, err
	}
	if f.regular() {
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
func (f *openFile) open(path string, newOwner *cred.Identity, warn func(string, ...any)) error {
	fd, err := f.openExisting(path)
	if errors.Is(err, syscall.ENOENT) {
		fd, err = f.create(path, newOwner, warn)
		if errors.Is(err, syscall.EEXIST) {
			fd, err = f.openExisting(path)
		}
	}
	if err != nil {
		return err
	}
	if f.regular() {
		_ = unix.SetNonblock(fd, false)
	}
	f.File = os.NewFile(uintptr(fd), path)
	return nil
}

func (f *openFile) openExisting(path string) (int, error) {
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
func (f *openFile) check(fd int, path string) error {
	if err := unix.Fstat(fd, &f.info); err != nil {
		return failure("cannot open file", err)
	}
	if f.info.Nlink != 1 && f.info.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &openError{fmt.Sprintf("file has %d hard links", f.info.Nlink), unix.EPERM}
	}
	if f.info.Mode&unix.S_IFMT == unix.S_IFDIR {
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
	if named.Dev != f.info.Dev || named.Ino != f.info.Ino || named.Mode&unix.S_IFMT != f.info.Mode&unix.S_IFMT {
		return &openError{"file status changed unexpectedly", unix.EPERM}
	}
	return nil
}

// trustedLink tells whether only root can have made a symbolic link.
func trustedLink(link *unix.Stat_t, path string) bool {
	var dir unix.Stat_t
	return link.Uid == 0 && unix.Stat(filepath.Dir(path), &dir) == nil && dir.Uid == 0 && dir.Mode&0o022 == 0
}

func (f *openFile) create(path string, newOwner *cred.Identity, warn func(string, ...any)) (int, error) {
	fd, err := unix.Open(path, appendFlags|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return -1, failure("cannot create file exclusively", err)
	}
	f.created = true
	if newOwner != nil {
		if err := unix.Fchown(fd, newOwner.UID, newOwner.GID); err != nil {
			warn("%s: cannot change file ownership: %s", path, text(err))
			unix.Close(fd)
			return -1, failure("cannot change file ownership", err)
		}
	}
	if err := unix.Fstat(fd, &f.info); err != nil {
		unix.Close(fd)
		return -1, failure("cannot open file", err)
	}
	return fd, nil
}

// lock takes the kernel's locks, and looks whether the file was removed or
// replaced meanwhile.
func (f *openFile) lock(path string, l locking) error {
	for _, k := range []struct {
		in    lockSet
		style filelock.Style
	}{{lockFlock, filelock.Flock}, {lockFcntl, filelock.Fcntl}} {
		if l.set&k.in == 0 {
			continue
		}
		if err := patiently(l.dot, func() error { return filelock.Lock(f.File, filelock.Exclusive, k.style, false) }); err != nil {
			if filelock.IsBusy(err) {
				err = unix.EAGAIN
			}
			return failure("unable to lock for exclusive access", err)
		}
	}
	if err := unix.Fstat(int(f.Fd()), &f.info); err != nil || f.info.Nlink != 1 {
		l.warn("%s: file status changed unexpectedly", path)
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

// syncDir makes a new name in a directory last. A directory that we may write
// but not read cannot be synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
