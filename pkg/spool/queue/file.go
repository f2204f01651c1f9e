package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/quick"
)

const (
	maxCreateRounds = 1000             // spec queue.md §1.5
	createRetry     = 10 * time.Second // between attempts of CreateWait
	clockSlack      = 100 * time.Second
)

// File is a queue file that is being written. It has its final name from the
// start; what makes it a message is Commit. It is for one goroutine.
type File struct {
	*os.File
	ID    string
	Queue string
	Time  time.Time // the time stamp in the id; Message-Ids are made of it

	spool   *Spool
	path    string
	mode    fs.FileMode
	records *record.Writer
}

// Create makes a file with a new queue id in a queue. mode is that of the
// unfinished file: 0600, or 0644 in maildrop. The error is the system's; see
// CreateWait for a daemon that has nothing else to do than to wait for better
// times.
func (s *Spool) Create(queue string, mode fs.FileMode) (*File, error) {
	if !ValidName(queue) {
		return nil, ErrID
	}
	f, tmp, err := s.createTemporary(queue, mode)
	if err != nil {
		return nil, err
	}
	q, err := s.giveID(f, tmp, queue)
	if err != nil {
		f.Close()
		s.fs.Remove(tmp)
		return nil, err
	}
	q.mode = mode
	return q, nil
}

// CreateWait is Create that logs a failure, waits ten seconds and tries
// again, until it works or the context ends.
func (s *Spool) CreateWait(ctx context.Context, queue string, mode fs.FileMode) (*File, error) {
	for {
		f, err := s.Create(queue, mode)
		if err == nil || errors.Is(err, ErrID) {
			return f, err
		}
		s.log.Warn("%v", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(createRetry):
		}
	}
}

func (s *Spool) createTemporary(queue string, mode fs.FileMode) (*os.File, string, error) {
	for round := 1; ; round++ {
		now := s.fs.Now()
		path := filepath.Join(s.dir, queue, fmt.Sprintf("%d.%d", now.Nanosecond()/1000, os.Getpid()))
		f, err := s.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if err == nil {
			return f, path, nil
		}
		if round > maxCreateRounds || !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.EISDIR) {
			return nil, "", fmt.Errorf("mail_queue_enter: create file %s: %w", path, unwrapped(err))
		}
		time.Sleep(time.Microsecond)
	}
}

// giveID renames the temporary file. The inode number makes the id unique
// among the live files of one file system.
func (s *Spool) giveID(f *os.File, tmp, queue string) (*File, error) {
	var info syscall.Stat_t
	if err := quick.Fstat(f, &info); err != 0 {
		return nil, err
	}
	number := info.Ino
	for round := 1; ; round++ {
		now := s.fs.Now()
		id := NewID(now, number, s.long)
		path := s.path(queue, id)
		err := s.renameBy(s.fs.Publish, tmp, path)
		if err == nil {
			return &File{File: f, ID: id, Queue: queue, Time: now, spool: s, path: path}, nil
		}
		taken := errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EISDIR)
		if taken && round > maxCreateRounds {
			return nil, fmt.Errorf("mail_queue_enter: rename %s to %s: giving up", tmp, path)
		}
		if !taken {
			return nil, fmt.Errorf("mail_queue_enter: rename %s to %s: %w", tmp, path, unwrapped(err))
		}
		time.Sleep(time.Microsecond)
	}
}

// Path is where the file is at the moment.
func (f *File) Path() string { return f.path }

// Write writes at the file's position.
func (f *File) Write(data []byte) (int, error) { return f.spool.fs.Write(f.File, data) }

// WriteAt writes at an offset.
func (f *File) WriteAt(data []byte, offset int64) (int, error) {
	return f.spool.fs.WriteAt(f.File, data, offset)
}

// WriteString is Write.
func (f *File) WriteString(text string) (int, error) { return f.Write([]byte(text)) }

// Records is a buffered writer of records on the file, made at the first
// call. Commit flushes it. Flush it before WriteAt or before reading.
func (f *File) Records() *record.Writer {
	if f.records == nil {
		f.records = record.NewWriter(writerOnly{f})
	}
	return f.records
}

// writerOnly hides the other methods, io.ReaderFrom above all, so that every
// byte goes through File.Write.
type writerOnly struct{ f *File }

func (w writerOnly) Write(data []byte) (int, error) { return w.f.Write(data) }

// MoveTo renames the unfinished file to another queue: cleanup puts a message
// on hold in this way.
func (f *File) MoveTo(queue string) error {
	if !ValidName(queue) {
		return ErrID
	}
	path := f.spool.path(queue, f.ID)
	if err := f.spool.Rename(f.path, path); err != nil {
		return err
	}
	f.Queue, f.path = queue, path
	return nil
}

// Commit makes the file a message on stable storage and closes it: the
// package comment has the steps. After an error the file is not, or no
// longer, a message, and the caller calls Remove. EFBIG is a message that is
// too big.
func (f *File) Commit() error {
	reset, err := f.commit()
	if closeErr := f.File.Close(); err == nil {
		err = closeErr
	}
	if err == nil && reset {
		// What the message's time is does not change that it is in the
		// queue, perhaps in the next one already.
		now := f.spool.fs.Now()
		if err := os.Chtimes(f.path, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.spool.log.Warn("%s: update time stamps: %v", f.path, unwrapped(err))
		}
	}
	return err
}

func (f *File) commit() (resetTime bool, err error) {
	if f.records != nil {
		if err := f.records.Flush(); err != nil {
			return false, err
		}
	}
	resetTime = f.Queue == Incoming && f.spool.clockDiffers(f.File)
	if err := f.spool.fs.Chmod(f.File, f.mode|ModeReady); err != nil {
		return false, err
	}
	err = f.spool.fs.Sync(f.File)
	if err == nil {
		err = f.spool.syncName(f.path, f.File)
	}
	if err != nil {
		f.spool.fs.Chmod(f.File, f.mode) // best effort: no reader shall take it
		return false, err
	}
	return resetTime, nil
}

// Remove closes and removes the file: the message was not accepted.
func (f *File) Remove() error {
	f.File.Close()
	err := f.spool.fs.Remove(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// clockDiffers compares the file system's clock with ours until they were
// found to agree once (spec queue.md §1.6). It reports whether the file's
// time must be set: a file with a time in the future would wait for it.
func (s *Spool) clockDiffers(f *os.File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clockOK {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	ahead := info.ModTime().Unix() - s.fs.Now().Unix()
	switch {
	case ahead > 0:
		s.log.Warn("file system clock is %d seconds ahead of local clock", ahead)
		if !s.clockTo {
			s.log.Warn("resetting file time stamps - this hurts performance")
			s.clockTo = true
		}
		return true
	case -ahead > int64(clockSlack/time.Second):
		s.log.Warn("file system clock is %d seconds behind local clock", -ahead)
	}
	s.clockOK = true
	return false
}

// unwrapped is the cause of an error: the path is in the text already.
func unwrapped(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
