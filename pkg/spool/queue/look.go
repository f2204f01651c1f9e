package queue

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/quick"
)

// Look opens a file that a scan found for reading, if there is a complete
// message in it: Ready and Open with as few system calls as will do. What is
// strange is logged; what is incomplete or has gone is passed over in silence.
func (s *Spool) Look(queue, id string, f *quick.Plain) (st syscall.Stat_t, ok bool) {
	path := s.Path(queue, id)
	if path == "" {
		return st, false
	}
	const ready = syscall.S_IFREG | uint32(ModeReady)
	errno := f.Open(path)
	if errno == 0 {
		errno = f.Stat(&st)
	}
	switch {
	case errno == syscall.ENOENT:
		return st, false
	case errno == 0 && st.Nlink == 1 && st.Mode&(syscall.S_IFMT|uint32(ModeReady)) == ready:
		return st, true
	}
	if _, ok := s.Ready(queue, id); !ok {
		f.Close()
		return st, false
	}
	if errno != 0 {
		s.log.Warn("open %s %s: %v", queue, id, maillog.Errno(errno))
	}
	return st, errno == 0
}

// LookLog opens a log file for reading. It reports false for one that is not
// there, and logs why another cannot be opened.
func (s *Spool) LookLog(queue, id string, f *quick.Plain) bool {
	err := error(ErrID)
	if path := s.Path(queue, id); path != "" {
		errno := f.Open(path)
		if errno == 0 {
			return true
		}
		err = &fs.PathError{Op: "open", Path: path, Err: errno}
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("open %s %s: %v", queue, id, maillog.Errno(err))
	}
	return false
}
