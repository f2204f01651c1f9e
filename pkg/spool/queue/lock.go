package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/sys/maillog"
)

// ErrBusy is returned for a lock that another process holds.
var ErrBusy = filelock.ErrBusy

// Lock takes the lock of a queue file without waiting: flock(2) on the whole
// file, shared for a delivery agent, exclusive for the queue manager (spec
// queue.md §1.9). It lasts until the file is closed.
func Lock(f *os.File, exclusive bool) error {
	return filelock.Lock(f, how(exclusive), filelock.Flock, false)
}

// LockWait is Lock that waits.
func LockWait(f *os.File, exclusive bool) error {
	return filelock.Lock(f, how(exclusive), filelock.Flock, true)
}

// Unlock gives a lock back.
func Unlock(f *os.File) error { return filelock.Lock(f, filelock.Unlock, filelock.Flock, false) }

func how(exclusive bool) filelock.How {
	if exclusive {
		return filelock.Exclusive
	}
	return filelock.Shared
}

// Reasons for which SafeOpen refuses a file (spec queue.md §5.3).
var (
	ErrIsDirectory = errors.New("file is a directory")
	ErrIsSymlink   = errors.New("file is a symbolic link")
	ErrChanged     = errors.New("file status changed unexpectedly")
)

// SafeOpen opens an existing file and refuses one that is a directory, a
// symbolic link, has a second hard link, or was exchanged meanwhile. The text
// of the error is complete: "file has 2 hard links".
func SafeOpen(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if info, e := os.Lstat(path); e == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, ErrIsSymlink
		} else if e == nil && info.IsDir() {
			return nil, ErrIsDirectory
		}
		return nil, &openError{err}
	}
	if err := checkOpened(path, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkOpened(path string, f *os.File) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(path)
	if err != nil {
		return ErrChanged
	}
	st := opened.Sys().(*syscall.Stat_t)
	switch {
	case opened.IsDir():
		return ErrIsDirectory
	case st.Nlink != 1 && named.Mode()&fs.ModeSymlink == 0 && os.SameFile(opened, named):
		return fmt.Errorf("file has %d hard links", st.Nlink)
	case named.Mode()&fs.ModeSymlink != 0:
		return ErrIsSymlink
	case !os.SameFile(opened, named):
		return ErrChanged
	}
	return nil
}

type openError struct{ err error }

func (e *openError) Error() string { return "cannot open file: " + maillog.Errno(e.err).Error() }
func (e *openError) Unwrap() error { return e.err }
