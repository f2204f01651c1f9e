// Package edit changes main.cf and master.cf in place: comments and layout of
// what is not changed stay as they are, and the file is replaced atomically
// (spec config.md 2.4).
//
// Errors are the texts of postconf's fatal messages.
package edit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
)

// maxTries bounds how often the temporary file is opened again because someone
// else replaced it while this process waited for its lock.
const maxTries = 1000

// Replace rewrites the file: rewrite reads the old text and writes the new. The
// new file has the owner, group and mode of the old, as far as this process
// may set them, and is on stable storage before it takes the old one's place.
// Editors exclude each other by a lock on path.tmp. After an error the old
// file is unchanged.
func Replace(path string, rewrite func(r io.Reader, w io.Writer) error) error {
	temp, err := create(path + ".tmp")
	if err != nil {
		return err
	}
	defer temp.Close()
	if err := fill(temp, path, rewrite); err != nil {
		os.Remove(temp.Name())
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("rename %s to %s: %s", temp.Name(), path, conf.Reason(err))
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		defer dir.Close()
		if err := dir.Sync(); err != nil {
			return fmt.Errorf("sync %s: %s", filepath.Dir(path), conf.Reason(err))
		}
	}
	return nil
}

// create makes the temporary file, or takes over one that a dead editor left,
// and locks it.
func create(path string) (*os.File, error) {
	for range maxTries {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open %s: %s", path, conf.Reason(err))
		}
		again, err := lock(f, path)
		if err == nil && !again {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("open %s: too many attempts to lock it", path)
}

// lock waits for the lock on f and reports whether path must be opened again.
func lock(f *os.File, path string) (again bool, err error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return false, fmt.Errorf("lock %s: %s", path, conf.Reason(err))
	}
	var mine, now unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &mine); err != nil {
		return false, fmt.Errorf("fstat %s: %s", path, conf.Reason(err))
	}
	if err := unix.Lstat(path, &now); err != nil || now.Ino != mine.Ino || now.Dev != mine.Dev {
		return true, nil
	}
	if mine.Mode != unix.S_IFREG|0o600 || mine.Nlink != 1 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("remove %s: %s", path, conf.Reason(err))
		}
		return true, nil
	}
	if err := f.Truncate(0); err != nil {
		return false, fmt.Errorf("truncate %s: %s", path, conf.Reason(err))
	}
	return false, nil
}

func fill(temp *os.File, path string, rewrite func(r io.Reader, w io.Writer) error) error {
	old, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s for reading: %s", path, conf.Reason(err))
	}
	defer old.Close()
	w := bufio.NewWriter(temp)
	if err := rewrite(old, w); err != nil {
		return err
	}
	var st unix.Stat_t
	steps := []func() error{
		w.Flush,
		func() error { return unix.Fstat(int(old.Fd()), &st) },
		func() error { return keepOwner(temp, st) },
		func() error { return unix.Fchmod(int(temp.Fd()), st.Mode&0o7777) },
		temp.Sync,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("write %s: %s", temp.Name(), conf.Reason(err))
		}
	}
	return nil
}

// keepOwner gives the new file the old one's owner and group. A user who may
// not do that keeps what the system lets him have.
func keepOwner(f *os.File, st unix.Stat_t) error {
	err := unix.Fchown(int(f.Fd()), int(st.Uid), int(st.Gid))
	if errors.Is(err, unix.EPERM) {
		err = unix.Fchown(int(f.Fd()), -1, int(st.Gid))
	}
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}
