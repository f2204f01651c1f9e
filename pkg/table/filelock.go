package table

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/sys/quick"
)

// lockFile takes an flock and waits for it as long as ctx allows. A wait that cannot be
// cancelled is left to the kernel, which is fair.
func lockFile(ctx context.Context, f *os.File, how filelock.How) error {
	const longest = 8 * time.Millisecond
	if ctx.Done() == nil {
		return filelock.Lock(f, how, filelock.Flock, true)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, longest) {
		err := filelock.Lock(f, how, filelock.Flock, false)
		if err == nil || !filelock.IsBusy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func unlockFile(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
}

// stamp identifies a state of a file.
type stamp struct {
	dev, ino    uint64
	mtime, size int64
	links       uint64
}

// stampNow is the stamp of an open file. Daemons ask for it at each client,
// and so the Go scheduler is not told: fstat(2) reads an inode in memory.
func stampNow(f *os.File) (stamp, error) {
	var st syscall.Stat_t
	if errno := quick.Fstat(f, &st); errno != 0 {
		return stamp{}, errno
	}
	return stamp{mtime: st.Mtim.Nano(), size: st.Size, dev: uint64(st.Dev), ino: st.Ino, links: uint64(st.Nlink)}, nil
}

func stampOf(st fs.FileInfo) stamp {
	s := stamp{mtime: st.ModTime().UnixNano(), size: st.Size(), links: 1}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.links = uint64(sys.Dev), sys.Ino, uint64(sys.Nlink)
	}
	return s
}

// place is a file name relative to a directory that stays open, so that the
// file can be found again after a chroot.
type place struct {
	path string
	dir  *os.File
}

func newPlace(path string) *place {
	p := &place{path: path}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		p.dir = os.NewFile(uintptr(fd), filepath.Dir(path))
	}
	return p
}

// open opens the file for reading.
func (p *place) open() (*os.File, error) {
	if p.dir == nil {
		return os.Open(p.path)
	}
	fd, err := unix.Openat(int(p.dir.Fd()), filepath.Base(p.path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.path, Err: err}
	}
	return os.NewFile(uintptr(fd), p.path), nil
}

// moved tells whether the name stands for another file than s now.
func (p *place) moved(s stamp) bool {
	if p.dir == nil {
		return false
	}
	var st unix.Stat_t
	if unix.Fstatat(int(p.dir.Fd()), filepath.Base(p.path), &st, 0) != nil {
		return false
	}
	return uint64(st.Dev) != s.dev || st.Ino != s.ino
}

func (p *place) close() {
	if p.dir != nil {
		p.dir.Close()
	}
}

// checkAge warns when the source is newer than what was made of it (config.md 3.7).
func checkAge(env Env, source string, f *os.File) {
	src, err := os.Stat(source)
	if err != nil {
		return
	}
	st, err := f.Stat()
	if err != nil {
		return
	}
	if src.ModTime().Unix() > st.ModTime().Unix() && src.ModTime().Unix() < time.Now().Unix()-100 {
		env.Log.Warn("database %s is older than source file %s", f.Name(), source)
	}
}
