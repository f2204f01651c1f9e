package queue

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/quick"
)

const (
	scanBytes = 32 << 10 // of directory entries read at once
	scanDepth = 32       // hash directories below each other; more is damage
)

// Entry is what a Walker met.
type Entry struct {
	Dir   string // path of the directory it is in
	Name  string
	Depth int  // number of hash directories above it
	Leave bool // Dir/Name is a hash directory that has been read to its end
	Plain bool // it was a regular file; when false that is not known
}

// Path is the path of the entry.
func (e Entry) Path() string { return e.Dir + "/" + e.Name }

// Walker reads a directory tree depth first, in the order of the directory,
// a batch of names at a time: its memory does not depend on the number of
// files. Names of one character are hash directories and are entered, without
// a look at what they are (spec queue.md §1.3); everything else is an entry.
type Walker struct {
	flat   bool
	quick  bool // the directories are in memory: see package quick
	stack  []*walkLevel
	buffer *[scanBytes]byte // one for all levels
	spool  *Spool
}

type walkLevel struct {
	fd    int
	path  string
	names []found // to come
	room  []found // that names are in
}

type found struct {
	name string
	kind byte // unix.DT_REG ...
}

// Walk starts a walk through a queue. maildrop is flat: nothing in it is
// entered.
func (s *Spool) Walk(queue string) (*Walker, error) {
	w := &Walker{flat: queue == Maildrop, quick: queue == Incoming, spool: s}
	if err := w.enter(s.QueueDir(queue)); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Walker) enter(path string) error {
	open := unix.Open
	if w.quick {
		open = func(path string, flag int, perm uint32) (int, error) {
			fd, errno := quick.Open(path, flag, perm)
			return fd, errnoError(errno)
		}
	}
	fd, err := ignoringEINTR(func() (int, error) { return open(path, os.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	w.stack = append(w.stack, &walkLevel{fd: fd, path: path})
	return nil
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != syscall.EINTR {
			return n, err
		}
	}
}

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// Next returns the next entry, io.EOF at the end, and any other error for a
// directory that cannot be read; the walk goes on behind it when Next is
// called again.
func (w *Walker) Next() (Entry, error) {
	for len(w.stack) > 0 {
		depth := len(w.stack) - 1
		top := w.stack[depth]
		if len(top.names) == 0 {
			if err := w.read(top); err != nil || len(top.names) == 0 {
				return w.leave(err)
			}
		}
		name, kind := top.names[0].name, top.names[0].kind
		top.names = top.names[1:]
		if len(name) != 1 || w.flat {
			return Entry{Dir: top.path, Name: name, Depth: depth, Plain: kind == unix.DT_REG}, nil
		}
		if depth == scanDepth {
			continue
		}
		if err := w.enter(filepath.Join(top.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Entry{Dir: top.path, Name: name, Depth: depth}, err
		}
	}
	return Entry{}, io.EOF
}

// read reads the next names; none is the end.
func (w *Walker) read(l *walkLevel) error {
	if w.buffer == nil {
		w.buffer, _ = w.spool.buffers.Get().(*[scanBytes]byte)
		if w.buffer == nil {
			w.buffer = new([scanBytes]byte)
		}
	}
	for l.room = l.room[:0]; len(l.room) == 0; {
		n, err := ignoringEINTR(func() (int, error) {
			if w.quick {
				n, errno := quick.Entries(l.fd, w.buffer[:])
				return n, errnoError(errno)
			}
			return unix.Getdents(l.fd, w.buffer[:])
		})
		if err == syscall.ENOENT {
			n, err = 0, nil // the directory was removed
		}
		if err != nil {
			return &fs.PathError{Op: "readdirent", Path: l.path, Err: err}
		}
		if n == 0 {
			break
		}
		for rest := w.buffer[:n]; len(rest) > 0; {
			var f found
			f.name, f.kind, rest = quick.NextEntry(rest)
			if f.name != "" && f.name != "." && f.name != ".." {
				l.room = append(l.room, f)
			}
		}
	}
	l.names = l.room
	return nil
}

func (l *walkLevel) close() { quick.Close(l.fd) }

// leave closes the innermost directory.
func (w *Walker) leave(err error) (Entry, error) {
	depth := len(w.stack) - 1
	top := w.stack[depth]
	top.close()
	w.stack = w.stack[:depth]
	if depth == 0 {
		if err == nil {
			err = io.EOF
		}
		return Entry{}, err
	}
	return Entry{Dir: filepath.Dir(top.path), Name: filepath.Base(top.path), Depth: depth - 1, Leave: true}, err
}

// Close ends a walk. It may be called at any time.
func (w *Walker) Close() {
	if w.buffer != nil {
		w.spool.buffers.Put(w.buffer)
		w.buffer = nil
	}
	for _, level := range w.stack {
		level.close()
	}
	w.stack = nil
}

// Scan yields the name of every file in a queue that looks like a queue id,
// hashed or not, in directory order. Files come and go meanwhile: one that is
// renamed during the scan may be seen twice or not at all. The error of a
// directory that cannot be read comes with an empty name; the scan goes on
// behind it.
func (s *Spool) Scan(queue string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		w, err := s.Walk(queue)
		if err != nil {
			yield("", err)
			return
		}
		defer w.Close()
		for {
			e, err := w.Next()
			switch {
			case err == io.EOF:
				return
			case err != nil:
				if !yield("", err) {
					return
				}
			case !e.Leave && ValidID(e.Name):
				if !yield(e.Name, nil) {
					return
				}
			}
		}
	}
}
