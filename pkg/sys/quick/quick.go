// Package quick has system calls on the queue that are over at once in nearly
// all cases: they look up, create or change names and inodes in memory. The Go
// scheduler is not told about them (RawSyscall). To tell it costs more than
// most of these calls: after a pause it wakes the runtime's monitor thread,
// which then looks every 20 microseconds whether the call is still going on,
// and gives the processor away when it is.
//
// The price is that all goroutines of the process wait (with one processor,
// see service.Tune) when such a call has to wait for the disk. Postfix's
// processes wait there, too, one by one; what is known to wait, fsync and the
// writing of large pieces, is not here.
//
// Errors are numbers, 0 for none, unless said otherwise.
package quick

import (
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// at is AT_FDCWD.
func at() uintptr {
	fd := unix.AT_FDCWD
	return uintptr(fd)
}

// Open is open(2) with O_CLOEXEC; EINTR may be returned.
func Open(path string, flag int, perm uint32) (int, syscall.Errno) {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return -1, unix.EINVAL
	}
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, at(), uintptr(unsafe.Pointer(p)), uintptr(flag|unix.O_CLOEXEC|unix.O_LARGEFILE), uintptr(perm), 0, 0)
	return int(fd), errno
}

// Rename is renameat2(2).
func Rename(from, to string, flags uint) syscall.Errno {
	p, err := unix.BytePtrFromString(from)
	if err != nil {
		return unix.EINVAL
	}
	q, err := unix.BytePtrFromString(to)
	if err != nil {
		return unix.EINVAL
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_RENAMEAT2, at(), uintptr(unsafe.Pointer(p)), at(), uintptr(unsafe.Pointer(q)), uintptr(flags), 0)
	return errno
}

// Unlink is unlink(2).
func Unlink(path string) syscall.Errno {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return unix.EINVAL
	}
	_, _, errno := unix.RawSyscall(unix.SYS_UNLINKAT, at(), uintptr(unsafe.Pointer(p)), 0)
	return errno
}

// Exists tells whether a name is there, whatever it is; an error other than
// "no such file" counts as yes, so that the caller looks and reports it.
func Exists(path string) bool {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return true
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_FACCESSAT2, at(), uintptr(unsafe.Pointer(p)), unix.F_OK, unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return errno != unix.ENOENT && errno != unix.ENOTDIR
}

// Fstat is fstat(2).
func Fstat(f *os.File, st *syscall.Stat_t) syscall.Errno {
	if strconv.IntSize == 32 { // the number means something else there
		if err := syscall.Fstat(int(f.Fd()), st); err != nil {
			return unix.EIO
		}
		return 0
	}
	_, _, errno := unix.RawSyscall(unix.SYS_FSTAT, f.Fd(), uintptr(unsafe.Pointer(st)), 0)
	runtime.KeepAlive(f)
	return errno
}

// Lstat is lstat(2); the result is that of statx(2).
func Lstat(path string, st *unix.Statx_t) syscall.Errno {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return unix.EINVAL
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, at(), uintptr(unsafe.Pointer(p)), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// Close closes a descriptor that Open returned.
func Close(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Names adds the next names in a directory to the given ones, without "." and
// "..", and reports whether there may be more. The buffer is work space.
func Names(fd int, buffer []byte, names []string) ([]string, bool, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)))
	if errno != 0 || n == 0 {
		return names, false, errno
	}
	_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	return names, true, 0
}

// Fstatfs is fstatfs(2).
func Fstatfs(f *os.File, st *unix.Statfs_t) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_FSTATFS, f.Fd(), uintptr(unsafe.Pointer(st)), 0)
	runtime.KeepAlive(f)
	return errno
}

// Chmod is f.Chmod for the nine permission bits, with its error.
func Chmod(f *os.File, mode fs.FileMode) error {
	if mode != mode.Perm() {
		return f.Chmod(mode)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_FCHMOD, f.Fd(), uintptr(mode), 0)
	runtime.KeepAlive(f)
	if errno == unix.EINTR {
		return f.Chmod(mode)
	}
	if errno != 0 {
		return &fs.PathError{Op: "chmod", Path: f.Name(), Err: errno}
	}
	return nil
}

// LockNow is flock(2) with LOCK_NB.
func LockNow(fd, how int) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_FLOCK, uintptr(fd), uintptr(how|unix.LOCK_NB), 0)
	return errno
}

// File reads a file from an offset of its own. What is in memory, if the file
// system can tell (RWF_NOWAIT), is read at once, the rest by the file.
type File struct {
	f  *os.File
	at int64
}

// NewFile reads from the beginning of f.
func NewFile(f *os.File) *File { return &File{f: f} }

// Read is that of io.Reader.
func (r *File) Read(b []byte) (int, error) {
	n, err := ReadAt(r.f, b, r.at)
	r.at += int64(n)
	return n, err
}

// Seek is that of io.Seeker, but not from the end.
func (r *File) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		offset += r.at
	} else if whence != io.SeekStart {
		return 0, unix.EINVAL
	}
	if offset < 0 {
		return 0, unix.EINVAL
	}
	r.at = offset
	return offset, nil
}

// ReadAt reads something at an offset: less than there is room for is no
// error, io.EOF is the end.
func ReadAt(f *os.File, b []byte, offset int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if strconv.IntSize == 64 {
		v := unix.Iovec{Base: &b[0]}
		v.SetLen(len(b))
		n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, f.Fd(), uintptr(unsafe.Pointer(&v)), 1, uintptr(offset), 0, unix.RWF_NOWAIT)
		runtime.KeepAlive(f)
		switch {
		case errno != 0: // not in memory, or not known here
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
	n, err := f.ReadAt(b, offset)
	if n > 0 {
		err = nil
	}
	return n, err
}

// atOnce is how much is written without telling the scheduler: such pieces go
// to memory, unless the disk is so far behind that the kernel holds back who
// writes.
const atOnce = 64 << 10

// Write is f.Write, quick for pieces that are not large.
func Write(f *os.File, b []byte) (int, error) {
	if len(b) == 0 || len(b) > atOnce {
		return f.Write(b)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, f.Fd(), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(f)
	switch {
	case errno != 0: // once more, to be worded or repeated
		return f.Write(b)
	case int(n) < len(b):
		rest, err := f.Write(b[n:])
		return int(n) + rest, err
	}
	return len(b), nil
}

// WriteAt is f.WriteAt, quick for pieces that are not large.
func WriteAt(f *os.File, b []byte, offset int64) (int, error) {
	if strconv.IntSize == 32 || len(b) == 0 || len(b) > atOnce || offset < 0 {
		return f.WriteAt(b, offset)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, f.Fd(), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(offset), 0, 0)
	runtime.KeepAlive(f)
	if errno != 0 || int(n) < len(b) {
		return f.WriteAt(b, offset)
	}
	return len(b), nil
}
