package queue

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

type inode struct{ dev, ino uint64 }

// syncName makes the name of a file durable: its directory, and the
// directories above it up to the queue's when their own names may not be
// durable yet.
func (s *Spool) syncName(path string, f *os.File) error {
	dir := filepath.Dir(path)
	if err := s.syncer.Sync(dir, f); err != nil {
		return err
	}
	for len(filepath.Base(dir)) == 1 && dir != "." && dir != "/" { // a hash directory
		key, err := inodeOf(dir)
		if err != nil {
			return err
		}
		s.mu.Lock()
		known := s.durable[key]
		s.mu.Unlock()
		if known {
			return nil
		}
		parent := filepath.Dir(dir)
		if err := s.syncer.Sync(parent, f); err != nil {
			return err
		}
		s.mu.Lock()
		s.durable[key] = true
		s.mu.Unlock()
		dir = parent
	}
	return nil
}

// SyncNew makes a log file that was just created durable, name and all.
func (s *Spool) SyncNew(path string, f *os.File) error {
	if err := s.fs.Sync(f); err != nil {
		return err
	}
	return s.syncName(path, f)
}

// SyncFile makes the data of a file durable.
func (s *Spool) SyncFile(f *os.File) error { return s.fs.Sync(f) }

func inodeOf(path string) (inode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return inode{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return inode{uint64(st.Dev), st.Ino}, nil
}

// dirSyncer lets concurrent callers share the fsyncs of a directory: whoever
// comes while one is running waits for the next, together with everyone else
// who has come by then.
type dirSyncer struct {
	sync func(dir string, f *os.File) error
	mu   sync.Mutex
	dirs map[string]*dirState
}

type dirState struct {
	running sync.Mutex // held during an fsync
	next    *round     // not started yet; nil: nobody waits
	users   int
}

type round struct {
	done chan struct{}
	err  error
}

// Sync returns after an fsync of the directory that began after the call.
func (d *dirSyncer) Sync(dir string, f *os.File) error {
	d.mu.Lock()
	if d.dirs == nil {
		d.dirs = map[string]*dirState{}
	}
	state := d.dirs[dir]
	if state == nil {
		state = &dirState{}
		d.dirs[dir] = state
	}
	state.users++
	mine := state.next
	leader := mine == nil
	if leader {
		mine = &round{done: make(chan struct{})}
		state.next = mine
	}
	d.mu.Unlock()

	if leader {
		state.running.Lock()
		d.mu.Lock()
		state.next = nil
		d.mu.Unlock()
		mine.err = d.sync(dir, f)
		state.running.Unlock()
		close(mine.done)
	}
	<-mine.done

	d.mu.Lock()
	if state.users--; state.users == 0 {
		delete(d.dirs, dir)
	}
	d.mu.Unlock()
	return mine.err
}

// Write writes to an open file of the spool.
func (s *Spool) Write(f *os.File, data []byte) error {
	_, err := s.fs.Write(f, data)
	return err
}
