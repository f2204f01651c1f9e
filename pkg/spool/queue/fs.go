package queue

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/filesync"
	"posthaste/pkg/sys/quick"
)

// FS is the system calls on which durability rests. A test replaces one to
// make it fail; a nil member is the real thing.
type FS struct {
	OpenFile func(path string, flag int, perm fs.FileMode) (*os.File, error)
	Rename   func(from, to string) error
	// Publish renames as Rename does but refuses to replace a file, where
	// the kernel and the file system can do that.
	Publish func(from, to string) error
	Remove  func(path string) error
	Mkdir   func(path string, perm fs.FileMode) error
	Write   func(f *os.File, data []byte) (int, error)
	WriteAt func(f *os.File, data []byte, offset int64) (int, error)
	Chmod   func(f *os.File, mode fs.FileMode) error
	Sync    func(f *os.File) error
	// SyncDir makes the names in a directory durable. f is an open file in
	// it that was fsynced just now, which is enough on many file systems.
	SyncDir func(path string, f *os.File) error
	Now     func() time.Time
}

func (o FS) withDefaults() FS {
	setDefault(&o.OpenFile, openFile)
	setDefault(&o.Rename, rename)
	setDefault(&o.Publish, publish)
	setDefault(&o.Remove, remove)
	setDefault(&o.Mkdir, os.Mkdir)
	setDefault(&o.Write, quick.Write)
	setDefault(&o.WriteAt, quick.WriteAt)
	setDefault(&o.Chmod, quick.Chmod)
	setDefault(&o.Sync, filesync.Sync)
	setDefault(&o.SyncDir, syncDir)
	setDefault(&o.Now, time.Now)
	return o
}

// setDefault is generic over the function type so that a member that stays
// nil is a compile-time mismatch, not a forgotten case.
func setDefault[F func(string, int, fs.FileMode) (*os.File, error) |
	func(string, string) error | func(string) error | func(string, fs.FileMode) error |
	func(*os.File, []byte) (int, error) | func(*os.File, []byte, int64) (int, error) |
	func(*os.File, fs.FileMode) error | func(*os.File) error |
	func(string, *os.File) error | func() time.Time](member *F, real F) {
	if *member == nil {
		*member = real
	}
}

// openFile is os.OpenFile without the attempt, four system calls long, to
// have the runtime's poller look after the file.
func openFile(path string, flag int, perm fs.FileMode) (*os.File, error) {
	for {
		fd, err := quick.Open(path, flag, uint32(perm.Perm()))
		switch err {
		case 0:
			return os.NewFile(uintptr(fd), path), nil
		case unix.EINTR:
		default:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// rename is os.Rename without a look at what is there.
func rename(from, to string) error {
	if err := quick.Rename(from, to, 0); err != 0 {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// remove unlinks a file and never removes a directory.
func remove(path string) error {
	if err := quick.Unlink(path); err != 0 {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

func publish(from, to string) error {
	err := quick.Rename(from, to, unix.RENAME_NOREPLACE)
	switch err {
	case 0:
		return nil
	case unix.EINVAL, unix.ENOSYS, unix.ENOTSUP:
		return os.Rename(from, to)
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

// File systems that make the name of a new or renamed file durable when the
// file is fsynced: the name change is in the same journal transaction or log
// tree as the inode. From statfs(2).
var nameFollowsFile = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true, // ext3, too
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.F2FS_SUPER_MAGIC:  true,
	unix.TMPFS_MAGIC:       true, // nothing is durable there
}

func syncDir(path string, f *os.File) error {
	if f != nil && nameFollows(f) {
		return nil
	}
	d, err := openFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrPermission) && f != nil {
		if err := unix.Syncfs(int(f.Fd())); err != nil {
			return os.NewSyscallError("syncfs", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil // this file system has no fsync for directories
	}
	return err
}

// nameFollows tells whether the fsync of f has made its name durable.
func nameFollows(f *os.File) bool {
	var st unix.Statfs_t
	err := quick.Fstatfs(f, &st)
	return err == 0 && nameFollowsFile[int64(st.Type)]
}
