package queue

import (
	"os"
	"path/filepath"
	"syscall"
)

type inode struct{ dev, ino uint64 }

// syncName makes the name of a file durable: its directory, and the
// directories above it up to the queue's when their own names may not be
// durable yet.
func (s *Spool) syncName(path string, f *os.File) error {
	dir := filepath.Dir(path)
	if err := s.syncer.Do(dir, func() error { return s.fs.SyncDir(dir, f) }); err != nil {
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
		if err := s.syncer.Do(parent, func() error { return s.fs.SyncDir(parent, f) }); err != nil {
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

// Write writes to an open file of the spool.
func (s *Spool) Write(f *os.File, data []byte) error {
	_, err := s.fs.Write(f, data)
	return err
}
