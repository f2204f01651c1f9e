package queue

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"posthaste/pkg/sys/quick"
)

const (
	scanBatch = 512 // names read from a directory at once
	scanDepth = 32  // hash directories below each other; more is damage
)

// Entry is what a Walker met.
type Entry struct {
	Dir   string // path of the directory it is in
	Name  string
	Depth int  // number of hash directories above it
	Leave bool // Dir/Name is a hash directory that has been read to its end
}

// Path is the path of the entry.
func (e Entry) Path() string { return filepath.Join(e.Dir, e.Name) }

// Walker reads a directory tree depth first, in the order of the directory,
// a batch of names at a time: its memory does not depend on the number of
// files. Names of one character are hash directories and are entered, without
// a look at what they are (spec queue.md §1.3); everything else is an entry.
type Walker struct {
	flat  bool
	quick bool // the directories are in memory: see package quick
	stack []*walkLevel
}

type walkLevel struct {
	f     *os.File // nil when quick
	fd    int      // when quick
	more  bool     // when quick: not at the end yet
	path  string
	names []string
}

// Walk starts a walk through a queue. maildrop is flat: nothing in it is
// entered.
func (s *Spool) Walk(queue string) (*Walker, error) {
	w := &Walker{flat: queue == Maildrop, quick: queue == Incoming}
	if err := w.enter(s.QueueDir(queue)); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Walker) enter(path string) error {
	if w.quick {
		fd, errno := quick.Open(path, os.O_RDONLY, 0)
		if errno != 0 {
			return &fs.PathError{Op: "open", Path: path, Err: errno}
		}
		w.stack = append(w.stack, &walkLevel{fd: fd, more: true, path: path})
		return nil
	}
	f, err := openFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	w.stack = append(w.stack, &walkLevel{f: f, path: path})
	return nil
}

// Next returns the next entry, io.EOF at the end, and any other error for a
// directory that cannot be read; the walk goes on behind it when Next is
// called again.
func (w *Walker) Next() (Entry, error) {
	for len(w.stack) > 0 {
		depth := len(w.stack) - 1
		top := w.stack[depth]
		if len(top.names) == 0 {
			names, err := top.read()
			if len(names) == 0 {
				return w.leave(err)
			}
			top.names = names
		}
		name := top.names[0]
		top.names = top.names[1:]
		if len(name) != 1 || w.flat {
			return Entry{Dir: top.path, Name: name, Depth: depth}, nil
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

// read returns the next names; none at the end, or with an error.
func (l *walkLevel) read() ([]string, error) {
	if l.f != nil {
		return l.f.Readdirnames(scanBatch)
	}
	var buffer [8192]byte
	for l.more {
		names, more, errno := quick.Names(l.fd, buffer[:], nil)
		l.more = more
		switch {
		case errno == syscall.EINTR:
			l.more = true
		case errno != 0:
			return nil, &fs.PathError{Op: "readdirent", Path: l.path, Err: errno}
		case len(names) > 0:
			return names, nil
		}
	}
	return nil, io.EOF
}

func (l *walkLevel) close() {
	if l.f != nil {
		l.f.Close()
	} else {
		quick.Close(l.fd)
	}
}

// leave closes the innermost directory.
func (w *Walker) leave(err error) (Entry, error) {
	depth := len(w.stack) - 1
	top := w.stack[depth]
	top.close()
	w.stack = w.stack[:depth]
	if err == io.EOF {
		err = nil
	}
	if depth == 0 {
		if err == nil {
			err = io.EOF
		}
		return Entry{}, err
	}
	return Entry{Dir: filepath.Dir(top.path), Name: filepath.Base(top.path), Depth: depth - 1, Leave: true}, err
}

// Close ends a walk early. It may be called at any time.
func (w *Walker) Close() {
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
