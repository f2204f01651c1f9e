package table

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"sync"

	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/table/bdb"
)

// nullRule remembers whether a file has its keys with a trailing null byte
// (config.md 3.5).
type nullRule struct{ with, without bool }

func newNullRule(flags Flags) nullRule {
	r := nullRule{with: flags&Try1Null != 0, without: flags&Try0Null != 0}
	if !r.with && !r.without {
		r = nullRule{true, true}
	}
	return r
}

// find asks with each form of key that may be right and settles on the first that succeeds.
func (r *nullRule) find(key string, get func(key []byte) ([]byte, bool, error)) (string, bool, error) {
	if r.with {
		value, found, err := get(append([]byte(key), 0))
		if err != nil || found {
			if found {
				r.without = false
			}
			return cString(value), found, err
		}
	}
	if r.without {
		value, found, err := get([]byte(key))
		if err != nil || found {
			if found {
				r.with = false
			}
			return cString(value), found, err
		}
	}
	return "", false, nil
}

// stored gives key or value as it is to be written.
func (r nullRule) stored(s string) string {
	if r.with {
		return s + "\x00"
	}
	return s
}

// cString is the text up to the first null byte.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// dbFile is a hash or btree file opened for reading. The kernel caches its
// pages; under the file's lock we only look whether it is still the same.
type dbFile struct {
	env   Env
	where *place
	lock  bool
	kind  bdb.Kind
	first stamp // as it was when the table was opened
	owned Owner

	mu    sync.Mutex
	f     *os.File
	db    *bdb.DB
	at    stamp // as it was when db was made
	null  nullRule
	next  func() (bdb.Pair, error, bool)
	stop  func()
	tries Flags
}

func openHash(env Env, req Request) (Backend, error)  { return openDB(env, req, bdb.Hash) }
func openBtree(env Env, req Request) (Backend, error) { return openDB(env, req, bdb.Btree) }

func openDB(env Env, req Request, kind bdb.Kind) (Backend, error) {
	path := req.Name + ".db"
	if req.Mode != ReadOnly {
		return openStore(env, req, kind)
	}
	d := &dbFile{env: env, where: newPlace(path), lock: req.Flags&Lock != 0, kind: kind, tries: req.Flags}
	f, err := d.where.open()
	if err == nil {
		err = d.use(context.Background(), f)
	}
	if err != nil {
		d.where.close()
		return nil, openError("open database "+path, formatError(err))
	}
	d.first, d.owned = d.at, fileOwner(f)
	if req.Flags&Lock != 0 {
		checkAge(env, req.Name, f)
	}
	return d, nil
}

// formatError says of a file that is no database what libdb's callers say.
func formatError(err error) error {
	if errors.Is(err, bdb.ErrFormat) {
		return errors.New("Invalid argument")
	}
	return err
}

// use makes f the table's file, or closes it.
func (d *dbFile) use(ctx context.Context, f *os.File) error {
	if err := lockFile(ctx, f, filelock.Shared); err != nil {
		f.Close()
		return err
	}
	db, at, err := readMeta(f)
	unlockFile(f)
	if err == nil && db.Kind() != d.kind {
		err = bdb.ErrFormat
	}
	if err != nil {
		f.Close()
		return err
	}
	if d.f != nil {
		d.f.Close()
	}
	d.endWalk()
	d.f, d.db, d.at, d.null = f, db, at, newNullRule(d.tries)
	return nil
}

func readMeta(f *os.File) (*bdb.DB, stamp, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	db, err := bdb.Open(f)
	return db, stampOf(st), err
}

// begin brings the table up to date and locks the file; end unlocks it.
func (d *dbFile) begin(ctx context.Context) error {
	if d.where.moved(d.at) {
		if f, err := d.where.open(); err == nil {
			// A new file that is no database yet, or unreadable for us now: stay with the old one.
			d.use(ctx, f)
		}
	}
	if d.lock {
		if err := lockFile(ctx, d.f, filelock.Shared); err != nil {
			return err
		}
	}
	st, err := d.f.Stat()
	if err == nil && stampOf(st) != d.at {
		var db *bdb.DB
		var at stamp
		if db, at, err = readMeta(d.f); err == nil {
			d.endWalk()
			d.db, d.at, d.null = db, at, newNullRule(d.tries)
		}
	}
	if err != nil {
		d.end()
	}
	return err
}

func (d *dbFile) end() {
	if d.lock {
		unlockFile(d.f)
	}
}

func (d *dbFile) fail(err error) error {
	d.env.Log.Warn("error reading %s: %s", d.where.path, Reason(err))
	return RetryError(err)
}

func (d *dbFile) Get(ctx context.Context, key string) (string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(ctx); err != nil {
		return "", false, d.fail(err)
	}
	defer d.end()
	value, found, err := d.null.find(key, d.db.Get)
	if err != nil {
		return "", false, d.fail(err)
	}
	return value, found, nil
}

func (d *dbFile) Next(ctx context.Context, first bool) (string, string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(ctx); err != nil {
		return "", "", false, d.fail(err)
	}
	defer d.end()
	if first || d.next == nil {
		if !first {
			return "", "", false, nil
		}
		d.endWalk()
		d.next, d.stop = iter.Pull2(d.db.All())
	}
	pair, err, ok := d.next()
	if !ok {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, d.fail(err)
	}
	return cString(pair.Key), cString(pair.Value), true, nil
}

func (d *dbFile) endWalk() {
	if d.stop != nil {
		d.stop()
	}
	d.next, d.stop = nil, nil
}

// Flags reports what libdb tables report: fixed keys and the null byte rule.
func (d *dbFile) Flags() Flags {
	f := Fixed
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.null.with {
		f |= Try1Null
	}
	if d.null.without {
		f |= Try0Null
	}
	return f
}

func (d *dbFile) MessageName() string { return d.where.path }
func (d *dbFile) Owner() Owner        { return d.owned }

// Changed compares with the file as it was opened first, so that it stays true.
func (d *dbFile) Changed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := stampNow(d.f)
	return err == nil && now != d.first
}

func (d *dbFile) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endWalk()
	d.where.close()
	return d.f.Close()
}
