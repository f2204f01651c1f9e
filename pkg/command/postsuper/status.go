package postsuper

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/quick"
)

// status is what lstat(2) says about a file.
type status struct {
	mode     uint32
	inode    uint64
	modified int64 // seconds since the epoch
}

// look is lstat(2). It reports false when the file has gone.
func look(path string) (status, bool) {
	var x unix.Statx_t
	switch quick.Lstat(path, &x) {
	case 0:
		return status{uint32(x.Mode), x.Ino, x.Mtime.Sec}, true
	case unix.ENOENT:
		return status{}, false
	}
	var st syscall.Stat_t // a kernel that has no statx(2)
	if err := syscall.Lstat(path, &st); err != nil {
		return status{}, false
	}
	return status{st.Mode, st.Ino, int64(st.Mtim.Sec)}, true
}

func (s status) directory() bool { return s.mode&unix.S_IFMT == unix.S_IFDIR }
func (s status) regular() bool   { return s.mode&unix.S_IFMT == unix.S_IFREG }

// ready tells whether a message is complete.
func (s status) ready() bool { return s.mode&uint32(queue.ModeReady) == uint32(queue.ModeReady) }

func (s status) age(now time.Time) time.Duration { return now.Sub(time.Unix(s.modified, 0)) }
