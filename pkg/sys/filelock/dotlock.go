package filelock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DotOptions are the parameters of DotLock.
type DotOptions struct {
	Attempts int                 // deliver_lock_attempts; 0 is 20
	Delay    time.Duration       // deliver_lock_delay, give or take a quarter; 0 is 1s
	Stale    time.Duration       // stale_lock_time: an older lock file is removed; 0 is 500s
	Sleep    func(time.Duration) // instead of time.Sleep
}

// DotLock creates path+".lock" and returns the function that removes it. The
// error says "unable to create lock file PATH.lock: why" and wraps the system
// error; when another holds the lock that is EAGAIN.
func DotLock(path string, o DotOptions) (release func() error, err error) {
	if o.Attempts <= 0 {
		o.Attempts = 20
	}
	if o.Delay <= 0 {
		o.Delay = time.Second
	}
	if o.Stale <= 0 {
		o.Stale = 500 * time.Second
	}
	if o.Sleep == nil {
		o.Sleep = time.Sleep
	}
	name := path + ".lock"
	for try := range o.Attempts {
		var fd int
		fd, err = unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return func() error { return os.Remove(name) }, nil
		}
		if err != unix.EEXIST {
			break
		}
		var st unix.Stat_t
		if unix.Lstat(name, &st) == nil && time.Since(time.Unix(st.Ctim.Sec, st.Ctim.Nsec)) > o.Stale {
			_ = os.Remove(name)
		}
		if try < o.Attempts-1 {
			o.Sleep(o.Delay*3/4 + time.Duration(rand.Int64N(int64(o.Delay)/2+1)))
		}
	}
	if errors.Is(err, syscall.EEXIST) {
		return nil, fmt.Errorf("unable to create lock file %s: %w", name, busy{})
	}
	return nil, fmt.Errorf("unable to create lock file %s: %w", name, err)
}

// busy reads like EEXIST and is EAGAIN: somebody else is writing the mailbox.
type busy struct{}

func (busy) Error() string        { return "File exists" }
func (busy) Is(target error) bool { return target == syscall.EAGAIN }
