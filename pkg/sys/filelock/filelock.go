// Package filelock keeps programs out of each other's files: kernel locks of
// both kinds, and lock files beside a mailbox (spec delivery.md §1.8, master.md
// §3.2).
package filelock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/quick"
)

// ErrBusy is returned when another process has the lock and wait is false. It
// wraps EAGAIN.
var ErrBusy = fmt.Errorf("unable to set lock: %w", unix.EAGAIN)

// How is the kind of access.
type How int

const (
	Shared    How = iota // others may read
	Exclusive            // nobody else
	Unlock               // give up the lock
)

// Style is the kernel's mechanism.
type Style int

const (
	Flock Style = iota // belongs to the open file; what Postfix uses in its queue
	Fcntl              // byte-range lock over the whole file
)

// Lock locks f. Both styles belong to the open file description: two opens of
// one file exclude each other, in one process too. Fcntl locks are of the
// kernel's open-file-description sort, which conflicts with other processes'
// ordinary fcntl locks. With wait the calling thread is blocked as long as it
// takes; without, the error is ErrBusy when the lock is held elsewhere.
func Lock(f *os.File, how How, style Style, wait bool) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	if err := raw.Control(func(fd uintptr) { lockErr = FD(int(fd), how, style, wait) }); err != nil {
		return err
	}
	return lockErr
}

// FD is Lock on a plain descriptor.
func FD(fd int, how How, style Style, wait bool) error {
	for {
		err := lock(fd, how, style, wait)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN || err == unix.EACCES && style == Fcntl:
			return ErrBusy
		default:
			return err
		}
	}
}

func lock(fd int, how How, style Style, wait bool) error {
	if style == Flock {
		op := [...]int{Shared: unix.LOCK_SH, Exclusive: unix.LOCK_EX, Unlock: unix.LOCK_UN}[how]
		errno := quick.LockNow(fd, op)
		switch {
		case errno == 0:
			return nil
		case errno == unix.EAGAIN && wait:
			return unix.Flock(fd, op)
		}
		return errno
	}
	cmd := unix.F_OFD_SETLKW
	if !wait {
		cmd = unix.F_OFD_SETLK
	}
	kind := [...]int16{Shared: unix.F_RDLCK, Exclusive: unix.F_WRLCK, Unlock: unix.F_UNLCK}[how]
	return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: kind})
}

// IsBusy tells whether err means that somebody else has the lock.
func IsBusy(err error) bool { return errors.Is(err, unix.EAGAIN) }
