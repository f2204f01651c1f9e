package quick

import (
	"io"
	"io/fs"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Plain is a regular file that is read from its beginning to its end, with
// nothing but its number: for a program that reads many small files. To have an
// os.File costs a system call and a finalizer. What is in memory is read at
// once, as File does. Its zero value is closed; it may be opened again.
type Plain struct {
	fd   int
	open bool
	at   int64
}

// Open opens a file for reading. What is no regular file does not make it
// wait, and a symbolic link is not followed (ELOOP).
func (p *Plain) Open(path string) syscall.Errno {
	p.Close()
	for {
		fd, errno := Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if errno == unix.EINTR {
			continue
		}
		*p = Plain{fd: fd, open: errno == 0}
		return errno
	}
}

// Stat is fstat(2).
func (p *Plain) Stat(st *syscall.Stat_t) syscall.Errno {
	if !wide {
		return errnoOf(syscall.Fstat(p.fd, st))
	}
	_, _, errno := unix.RawSyscall(unix.SYS_FSTAT, uintptr(p.fd), uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// Read is that of io.Reader.
func (p *Plain) Read(b []byte) (int, error) {
	if !p.open {
		return 0, fs.ErrClosed
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, err := -1, error(nil)
	if wide {
		n = readNow(uintptr(p.fd), b, p.at)
	}
	for n < 0 {
		if n, err = unix.Pread(p.fd, b, p.at); err == unix.EINTR {
			n = -1
		} else if err != nil {
			return 0, err
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	p.at += int64(n)
	return n, nil
}

// Seek is that of io.Seeker, but not from the end.
func (p *Plain) Seek(offset int64, whence int) (int64, error) { return seek(&p.at, offset, whence) }

// Close closes the file; it may be called again.
func (p *Plain) Close() {
	if p.open {
		Close(p.fd)
	}
	p.open = false
}

func errnoOf(err error) syscall.Errno {
	if errno, ok := err.(syscall.Errno); ok || err == nil {
		return errno
	}
	return unix.EIO
}
