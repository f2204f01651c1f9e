package master

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/filelock"
)

// lock takes pid/NAME.pid and the lock in data_directory, and holds them for
// life. With -t it only looks, and says with which status to end.
func (m *master) lock() (done bool, code int) {
	path := "pid/" + m.name + ".pid"
	if m.o.test {
		f, err := openSafe(path, false)
		if errors.Is(err, os.ErrNotExist) {
			return true, 0
		}
		if err == nil && filelock.Lock(f, filelock.Exclusive, filelock.Flock, false) == nil {
			return true, 0
		}
		if err != nil {
			m.log.Fatal("open lock file %s: cannot open file: %v", path, errno(err))
		}
		return true, 1
	}
	m.lockFile(path)
	path = filepath.Join(m.params.dataDir, m.name+".lock")
	err := m.asOwner(func() error { m.lockFile(path); return nil })
	if err != nil {
		m.log.Fatal("%v", errno(err))
	}
	return false, 0
}

// lockFile opens, locks and fills a lock file. The file stays open: the
// descriptor is never closed.
func (m *master) lockFile(path string) {
	f, err := openSafe(path, true)
	if err == nil {
		err = filelock.Lock(f, filelock.Exclusive, filelock.Flock, false)
		if filelock.IsBusy(err) {
			err = fmt.Errorf("unable to set exclusive lock: %w", errno(unix.EAGAIN))
		}
	}
	if err != nil {
		m.log.Fatal("open lock file %s: %v", path, err)
	}
	content := fmt.Sprintf("%*d\n", 32, os.Getpid())
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		m.log.Fatal("cannot update lock file %s: %v", path, errno(err))
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 64)
	if err != nil {
		m.log.Fatal("cannot update lock file %s: %v", path, errno(err))
	}
	_ = fd // the duplicate keeps the lock whatever becomes of f
}

// openSafe opens or creates a file that nobody has put a trap into: a plain
// file, not a link, with one name.
func openSafe(path string, create bool) (*os.File, error) {
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if !create {
			return nil, os.ErrNotExist
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, fmt.Errorf("cannot create file exclusively: %w", errno(err))
		}
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("cannot open file: %w", errno(err))
	case before.IsDir():
		return nil, errors.New("file is a directory")
	case before.Mode()&os.ModeSymlink != 0:
		return nil, errors.New("file is a symbolic link")
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open file: %w", errno(err))
	}
	var st unix.Stat_t
	after, err := f.Stat()
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	switch {
	case err != nil || !os.SameFile(before, after):
		f.Close()
		return nil, errors.New("file status changed unexpectedly")
	case st.Nlink != 1:
		f.Close()
		return nil, fmt.Errorf("file has %d hard links", st.Nlink)
	}
	return f, nil
}
