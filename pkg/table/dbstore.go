package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/table/bdb"
)

// flushDelay is how long changes of a table that is not synchronous may stay in memory.
const flushDelay = time.Second

// dbStore is a hash or btree file opened for reading and writing. Its content is
// held in memory; changes are applied to the file under its exclusive lock, at
// once with SyncUpdate, else within flushDelay.
type dbStore struct {
	env   Env
	path  string
	kind  bdb.Kind
	flags Flags
	first stamp
	owned Owner
	bulk  bool

	mu      sync.Mutex
	f       *os.File
	at      stamp
	id      [20]byte
	image   []byte // the file as it was read or written last
	values  map[string]string
	pending map[string]*string // changes the file does not have yet; nil = deleted
	null    nullRule
	keys    []string
	timer   *time.Timer
	closed  bool
}

func openStore(env Env, req Request, kind bdb.Kind) (*dbStore, error) {
	s := &dbStore{
		env: env, path: req.Name + ".db", kind: kind, flags: req.Flags,
		values: make(map[string]string), pending: make(map[string]*string), null: newNullRule(req.Flags),
	}
	err := s.open(req.Mode)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// open opens and, if needed, makes the file; with OpenLock it keeps the lock.
func (s *dbStore) open(mode Mode) error {
	name := "open database " + s.path
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil && os.IsNotExist(err) && mode != ReadWrite {
		f, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o644)
	}
	if err != nil {
		return openError(name, err)
	}
	s.f = f
	if err := s.lockAtOpen(); err != nil {
		f.Close()
		return err
	}
	if st, err := f.Stat(); err == nil && st.Size() == 0 || mode == ReadWriteTrunc {
		err = s.save()
		if err != nil {
			f.Close()
			return openError(name, err)
		}
	} else if err := s.load(); err != nil {
		f.Close()
		return openError(name, formatError(err))
	}
	if s.flags&OpenLock == 0 {
		unlockFile(f)
	}
	s.first, s.owned = s.at, fileOwner(f)
	return nil
}

func (s *dbStore) lockAtOpen() error {
	if s.flags&OpenLock == 0 {
		return lockFile(context.Background(), s.f, filelock.Exclusive)
	}
	if err := filelock.Lock(s.f, filelock.Exclusive, filelock.Flock, false); err != nil {
		return openError(s.typeName()+": unable to get exclusive lock", err)
	}
	return nil
}

func (s *dbStore) typeName() string {
	if s.kind == bdb.Btree {
		return "btree:" + s.path
	}
	return "hash:" + s.path
}

// begin locks the file and reads it again if another process changed it.
func (s *dbStore) begin(ctx context.Context, how filelock.How) error {
	if s.closed {
		return os.ErrClosed
	}
	if s.flags&OpenLock != 0 {
		return nil
	}
	if err := lockFile(ctx, s.f, how); err != nil {
		return err
	}
	st, err := s.f.Stat()
	if err == nil && stampOf(st) != s.at {
		err = s.load()
	}
	if err != nil {
		unlockFile(s.f)
	}
	return err
}

func (s *dbStore) end() {
	if s.flags&OpenLock == 0 {
		unlockFile(s.f)
	}
}

// load reads the whole file and applies what is pending.
func (s *dbStore) load() error {
	st, err := s.f.Stat()
	if err != nil {
		return err
	}
	image := make([]byte, st.Size())
	if _, err := s.f.ReadAt(image, 0); err != nil {
		return err
	}
	db, err := bdb.Open(bytes.NewReader(image))
	if err != nil {
		return err
	}
	if db.Kind() != s.kind {
		return bdb.ErrFormat
	}
	values := make(map[string]string)
	for pair, err := range db.All() {
		if err != nil {
			return err
		}
		values[string(pair.Key)] = string(pair.Value)
	}
	for key, value := range s.pending {
		if value == nil {
			delete(values, key)
		} else {
			values[key] = *value
		}
	}
	s.values, s.image, s.id, s.at = values, image, db.FileID(), stampOf(st)
	return nil
}

// save writes those pages of the file that differ. The caller holds the lock.
func (s *dbStore) save() error {
	pairs := make([]bdb.Pair, 0, len(s.values))
	for key, value := range s.values {
		pairs = append(pairs, bdb.Pair{Key: []byte(key), Value: []byte(value)})
	}
	image, err := bdb.Build(s.kind, pairs, bdb.DefaultPageSize, s.id)
	if err != nil {
		return err
	}
	if err := writeChanged(s.f, s.image, image); err != nil {
		return err
	}
	st, err := s.f.Stat()
	if err != nil {
		return err
	}
	copy(s.id[:], image[52:72])
	s.image, s.at = image, stampOf(st)
	clear(s.pending)
	return nil
}

// writeChanged makes the content of f, which is old, new, and puts it on stable storage.
func writeChanged(f *os.File, old, new []byte) error {
	const chunk = bdb.DefaultPageSize
	start := -1
	for at := 0; at <= len(new); at += chunk {
		same := at >= len(new) || at+chunk <= len(old) && bytes.Equal(old[at:at+chunk], new[at:at+chunk])
		if !same && start < 0 {
			start = at
		}
		if same && start >= 0 {
			if _, err := f.WriteAt(new[start:at], int64(start)); err != nil {
				return err
			}
			start = -1
		}
	}
	if err := f.Truncate(int64(len(new))); err != nil {
		return err
	}
	return f.Sync()
}

func (s *dbStore) fail(what string, err error) error {
	s.env.Log.Warn("error %s %s: %s", what, s.path, Reason(err))
	return RetryError(err)
}

func (s *dbStore) Get(ctx context.Context, key string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, filelock.Shared); err != nil {
		return "", false, s.fail("reading", err)
	}
	defer s.end()
	return s.null.find(key, func(key []byte) ([]byte, bool, error) {
		value, ok := s.values[string(key)]
		return []byte(value), ok, nil
	})
}

// Put stores a value. Without DupReplace an existing key keeps its value: with a
// warning, silently, or as an error, as the flags say.
func (s *dbStore) Put(ctx context.Context, key, value string, flags Flags) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, filelock.Exclusive); err != nil {
		return s.fail("writing", err)
	}
	defer s.end()
	if s.null.with && s.null.without { // undecided: as libdb tables are made
		s.null.without = false
	}
	null := s.null
	if flags&(Try0Null|Try1Null) != 0 {
		null = newNullRule(flags)
	}
	stored, v := null.stored(key), null.stored(value)
	if _, ok := s.values[stored]; ok && flags&DupReplace == 0 {
		return s.duplicate(key, flags)
	}
	s.values[stored] = v
	s.pending[stored] = &v
	return s.written(flags)
}

func (s *dbStore) duplicate(key string, flags Flags) error {
	switch {
	case flags&DupIgnore != 0:
		return nil
	case flags&DupWarn != 0:
		s.env.Log.Warn("%s: duplicate entry: \"%s\"", s.path, key)
		return nil
	}
	return ConfigError(fmt.Errorf("%s: duplicate entry: \"%s\"", s.path, key))
}

func (s *dbStore) Delete(ctx context.Context, key string, flags Flags) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, filelock.Exclusive); err != nil {
		return false, s.fail("deleting from", err)
	}
	defer s.end()
	var stored string
	_, found, _ := s.null.find(key, func(key []byte) ([]byte, bool, error) {
		_, ok := s.values[string(key)]
		stored = string(key)
		return nil, ok, nil
	})
	if !found {
		return false, nil
	}
	delete(s.values, stored)
	s.pending[stored] = nil
	return true, s.written(flags)
}

// written sees to it that a change gets into the file.
func (s *dbStore) written(flags Flags) error {
	switch {
	case s.bulk:
		return nil
	case flags&SyncUpdate != 0:
		if err := s.save(); err != nil {
			return s.fail("writing", err)
		}
	case s.timer == nil:
		s.timer = time.AfterFunc(flushDelay, s.flush)
	}
	return nil
}

func (s *dbStore) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if s.closed || len(s.pending) == 0 {
		return
	}
	if err := s.flushLocked(); err != nil {
		s.fail("writing", err)
		s.timer = time.AfterFunc(flushDelay, s.flush)
	}
}

func (s *dbStore) flushLocked() error {
	if err := s.begin(context.Background(), filelock.Exclusive); err != nil {
		return err
	}
	defer s.end()
	return s.save()
}

func (s *dbStore) Next(ctx context.Context, first bool) (string, string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first {
		if err := s.begin(ctx, filelock.Shared); err != nil {
			return "", "", false, s.fail("reading", err)
		}
		s.end()
		s.keys = slices.Sorted(maps.Keys(s.values))
	}
	for len(s.keys) > 0 {
		key := s.keys[0]
		s.keys = s.keys[1:]
		if value, ok := s.values[key]; ok {
			return cString([]byte(key)), cString([]byte(value)), true, nil
		}
	}
	return "", "", false, nil
}

func (s *dbStore) Flags() Flags {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Fixed
	if s.null.with {
		f |= Try1Null
	}
	if s.null.without {
		f |= Try0Null
	}
	return f
}

func (s *dbStore) MessageName() string { return s.path }
func (s *dbStore) Owner() Owner        { return s.owned }

// Changed tells that another process changed or replaced the file.
func (s *dbStore) Changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.f.Stat()
	return err == nil && stampOf(st) != s.at
}

func (s *dbStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	var err error
	if len(s.pending) > 0 {
		err = s.flushLocked()
	}
	s.closed = true
	return errors.Join(err, s.f.Close())
}
