package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/table/bdb"
)

// WriteMode says what becomes of an existing table.
type WriteMode int

// The modes.
const (
	Replace     WriteMode = iota // a new table
	Incremental                  // entries are added to what is there
)

// bulk is the writing side of a table type.
type bulk interface {
	// put stores a pair; Try0Null and Try1Null and the duplicate flags count.
	put(key, value string, flags Flags) error
	close() error // finish
	abort()       // forget it, leaving an existing table alone
	message() string
}

// Writer makes or extends a table. Nothing is visible to readers before Close; a
// Writer that is dropped (Abort, or the death of the process) leaves the old table.
type Writer struct {
	env   Env
	typ   string
	flags Flags
	b     bulk
}

// Create starts the writing of table spec. FoldFix, UTF8Request, the null byte
// flags and the duplicate flags count. The error is worded for "fatal: ".
func Create(env Env, spec string, mode WriteMode, flags Flags) (*Writer, error) {
	typ, name, ok := strings.Cut(spec, ":")
	if !ok || typ == "" || name == "" {
		return nil, fmt.Errorf("open dictionary: expecting \"type:name\" form instead of \"%s\"", spec)
	}
	t, ok := env.find(typ)
	if !ok {
		return nil, fmt.Errorf("unsupported dictionary type: %s. Is the postfix-%s package installed?", typ, typ)
	}
	if t.Bulk == nil {
		return nil, fmt.Errorf("unsupported dictionary type: %s does not support bulk-mode creation.", typ)
	}
	m := ReadWriteTrunc
	if mode == Incremental {
		m = ReadWriteCreate
	}
	b, err := t.Bulk(env, Request{Type: typ, Name: name, Mode: m, Flags: flags, Spec: spec})
	if err != nil {
		return nil, err
	}
	return &Writer{env: env, typ: typ, flags: flags, b: b}, nil
}

// Name is the table's name in messages.
func (w *Writer) Name() string { return w.typ + ":" + w.b.message() }

// Put stores a pair: folded, and checked in UTF-8 mode.
func (w *Writer) Put(key, value string) error {
	inUTF8 := w.flags&UTF8Request != 0 && w.env.smtputf8()
	if inUTF8 {
		if !utf8.ValidString(key) {
			w.env.Log.Warn("%s: non-UTF-8 key \"%s\": malformed UTF-8 or invalid codepoint", w.Name(), key)
			return nil
		}
		if !utf8.ValidString(value) {
			w.env.Log.Warn("%s: key \"%s\": non-UTF-8 value \"%s\": malformed UTF-8 or invalid codepoint", w.Name(), key, value)
			return nil
		}
	}
	if w.flags&FoldFix != 0 {
		key = Fold(key, inUTF8)
	}
	return w.PutRaw(key, value, w.flags)
}

// PutRaw stores a pair as it is, with null byte and duplicate flags of its own.
func (w *Writer) PutRaw(key, value string, flags Flags) error {
	err := w.b.put(key, value, flags)
	if err == nil {
		return nil
	}
	var b *errBackend
	temporary := true
	if errors.As(err, &b) {
		temporary, err = !b.config, b.err
	}
	return &Error{Table: w.Name(), Temporary: temporary, Err: err}
}

// Close puts the table in place, on stable storage.
func (w *Writer) Close() error { return w.b.close() }

// Abort gives up.
func (w *Writer) Abort() { w.b.abort() }

// dbBulk makes hash and btree files. The exclusive lock is held from the start to the end;
// the file is written, in place, only when all entries are known.
type dbBulk struct {
	s    *dbStore
	made bool // the file did not exist
}

func bulkHash(env Env, req Request) (bulk, error)  { return newDBBulk(env, req, bdb.Hash) }
func bulkBtree(env Env, req Request) (bulk, error) { return newDBBulk(env, req, bdb.Btree) }

func newDBBulk(env Env, req Request, kind bdb.Kind) (bulk, error) {
	s := &dbStore{
		env: env, path: req.Name + ".db", kind: kind, flags: req.Flags, bulk: true,
		values: make(map[string]string), pending: make(map[string]*string), null: newNullRule(req.Flags),
	}
	name := "open database " + s.path
	b := &dbBulk{s: s}
	var err error
	if s.f, err = openLocked(s.path); err != nil {
		return nil, openError("open "+s.path, err)
	}
	if s.f != nil {
		st, statErr := s.f.Stat()
		if statErr == nil && st.Size() == 0 {
			env.Log.Warn("removing zero-length database file: %s", s.path)
			err = os.Remove(s.path)
			s.f.Close()
			s.f = nil
		}
	}
	if err == nil && s.f == nil {
		b.made = true
		if s.f, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o644); err == nil {
			err = lockFile(context.Background(), s.f, filelock.Exclusive)
		}
	}
	if err == nil && req.Mode != ReadWriteTrunc && !b.made {
		err = s.load()
	}
	if err == nil {
		var st os.FileInfo
		if st, err = s.f.Stat(); err == nil {
			s.at = stampOf(st)
		}
	}
	if err != nil {
		if s.f != nil {
			s.f.Close()
		}
		return nil, openError(name, formatError(err))
	}
	s.flags |= OpenLock // held until close
	return b, nil
}

// openLocked opens and locks an existing file; nil if there is none.
func openLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := lockFile(context.Background(), f, filelock.Exclusive); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (b *dbBulk) put(key, value string, flags Flags) error {
	return b.s.Put(context.Background(), key, value, flags)
}

func (b *dbBulk) close() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	err := b.s.save()
	b.s.closed = true
	if closeErr := b.s.f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return openError("error writing "+b.s.path, err)
	}
	return nil
}

func (b *dbBulk) abort() {
	if b.made {
		os.Remove(b.s.path)
	}
	b.s.f.Close()
}

func (b *dbBulk) message() string { return b.s.path }

// bulkFail is the table that cannot be written.
type failBulk struct{ name string }

func bulkFail(env Env, req Request) (bulk, error) { return failBulk{req.Name}, nil }
func (failBulk) put(string, string, Flags) error  { return RetryError(errFail) }
func (failBulk) close() error                     { return nil }
func (failBulk) abort()                           {}
func (b failBulk) message() string                { return b.name }
