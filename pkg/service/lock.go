package service

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/sys/maillog"
)

// acceptLock is the lock that the processes of one service share: only its
// holder polls the listen descriptors. Debian's children wait for it too. A
// nil *acceptLock is always held.
type acceptLock struct {
	f     *os.File
	fatal func(format string, a ...any)
	ready func() // called when acquire is worth another try

	mu      sync.Mutex
	held    bool
	waiting bool
	over    bool
}

// openLock opens pid/TRANSPORT.NAME, for those kinds that use it.
func (p *process) openLock() *acceptLock {
	if p.o.standAlone || p.o.one || p.s.Kind == Multi || p.s.Kind == Event {
		return nil
	}
	path := fmt.Sprintf("pid/%s.%s", p.o.transport, p.o.name)
	f, err := openLockFile(path)
	if err != nil {
		p.log.Fatal("open lock file %s: %v", path, err)
	}
	return &acceptLock{f: f, fatal: p.log.Fatal}
}

// openLockFile opens or creates a file that nobody else has prepared: no
// symbolic link, one name, a plain file.
func openLockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		if errors.Is(err, unix.ELOOP) {
			return nil, errors.New("file is a symbolic link")
		}
		return nil, fmt.Errorf("cannot open file: %w", maillog.Errno(cause(err)))
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, maillog.Errno(err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("not a regular file")
	case st.Nlink != 1:
		err = fmt.Errorf("file has %d hard links", st.Nlink)
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// acquire reports whether we hold the lock. If another process does, a
// goroutine waits for it and calls ready.
func (l *acceptLock) acquire() bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held || l.waiting || l.over {
		return l.held
	}
	err := filelock.Lock(l.f, filelock.Exclusive, filelock.Flock, false)
	switch {
	case err == nil:
		l.held = true
	case filelock.IsBusy(err):
		l.waiting = true
		go l.wait()
	default:
		l.fatal("select lock: %v", maillog.Errno(err))
	}
	return l.held
}

func (l *acceptLock) wait() {
	err := filelock.FD(int(l.f.Fd()), filelock.Exclusive, filelock.Flock, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = false
	if err != nil {
		l.fatal("select lock: %v", maillog.Errno(err))
	}
	if l.over {
		l.unlock()
		return
	}
	l.held = true
	l.ready()
}

// release gives the lock up.
func (l *acceptLock) release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		l.unlock()
	}
}

func (l *acceptLock) unlock() {
	l.held = false
	if err := filelock.FD(int(l.f.Fd()), filelock.Unlock, filelock.Flock, true); err != nil {
		l.fatal("select unlock: %v", maillog.Errno(err))
	}
}

// abandon gives the lock up for good.
func (l *acceptLock) abandon() {
	if l == nil {
		return
	}
	l.release()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
}
