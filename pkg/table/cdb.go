package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/colinmarc/cdb"

	"posthaste/pkg/sys/filelock"
)

const cdbSuffix = ".cdb"

// cdbFile is a constant database; it is replaced as a whole, so no locks.
type cdbFile struct {
	env   Env
	where *place
	first stamp
	owned Owner

	mu   sync.RWMutex
	f    *os.File
	db   *cdb.CDB
	at   stamp
	null nullRule
}

var errCDBFlags = errors.New("dict_cdb_open: inappropriate open flags for cdb database - specify O_RDONLY or O_WRONLY|O_CREAT|O_TRUNC")

func openCDB(env Env, req Request) (Backend, error) {
	if req.Mode != ReadOnly {
		return nil, errCDBFlags
	}
	path := req.Name + cdbSuffix
	c := &cdbFile{env: env, where: newPlace(path), null: newNullRule(req.Flags)}
	f, err := c.where.open()
	if err == nil {
		err = c.use(f)
	}
	if err != nil {
		c.where.close()
		return nil, openError("open database "+path, err)
	}
	c.first, c.owned = c.at, fileOwner(f)
	checkAge(env, req.Name, f)
	return c, nil
}

func (c *cdbFile) use(f *os.File) error {
	st, err := f.Stat()
	var db *cdb.CDB
	if err == nil {
		db, err = cdb.New(f, nil)
	}
	if err != nil {
		f.Close()
		return err
	}
	if c.f != nil {
		c.f.Close()
	}
	c.f, c.db, c.at = f, db, stampOf(st)
	return nil
}

func (c *cdbFile) Get(_ context.Context, key string) (string, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.where.moved(c.at) {
		if f, err := c.where.open(); err == nil {
			c.use(f) // an unusable new file: stay with the old one
		}
	}
	value, found, err := c.null.find(key, func(key []byte) ([]byte, bool, error) {
		value, err := c.db.Get(key)
		return value, value != nil, err
	})
	if err != nil {
		c.env.Log.Warn("error reading %s: %s", c.where.path, Reason(err))
		return "", false, RetryError(err)
	}
	return value, found, nil
}

func (c *cdbFile) Flags() Flags        { return Fixed }
func (c *cdbFile) MessageName() string { return c.where.path }
func (c *cdbFile) Owner() Owner        { return c.owned }

func (c *cdbFile) Changed() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	st, err := c.f.Stat()
	return err == nil && stampOf(st) != c.first
}

func (c *cdbFile) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.where.close()
	return c.f.Close()
}

// cdbBulk makes a cdb file beside the old one and renames it.
type cdbBulk struct {
	env    Env
	name   string
	tmp    *os.File
	null   nullRule
	keys   []string
	values map[string]string
}

func bulkCDB(env Env, req Request) (bulk, error) {
	if req.Mode != ReadWriteTrunc {
		return nil, errCDBFlags
	}
	b := &cdbBulk{env: env, name: req.Name, values: make(map[string]string), null: nullRule{without: true}}
	if req.Flags&Try1Null != 0 && req.Flags&Try0Null == 0 {
		b.null = nullRule{with: true}
	}
	path := req.Name + cdbSuffix + ".tmp"
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err == nil {
			err = lockFile(context.Background(), f, filelock.Exclusive)
		}
		if err != nil {
			return nil, openError("open database "+path, err)
		}
		// Another postmap may have renamed the file while we waited for it.
		mine, err1 := f.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, named) {
			b.tmp = f
			return b, nil
		}
		f.Close()
	}
}

func (b *cdbBulk) put(key, value string, flags Flags) error {
	null := b.null
	if flags&(Try0Null|Try1Null) != 0 {
		null = newNullRule(flags)
	}
	stored := null.stored(key)
	if _, dup := b.values[stored]; dup {
		switch {
		case flags&DupReplace != 0:
		case flags&DupIgnore != 0:
			return nil
		case flags&DupWarn != 0:
			b.env.Log.Warn("%s: duplicate entry: \"%s\"", b.name, key)
			return nil
		default:
			return ConfigError(fmt.Errorf("%s: duplicate entry: \"%s\"", b.name, key))
		}
	} else {
		b.keys = append(b.keys, stored)
	}
	b.values[stored] = null.stored(value)
	return nil
}

func (b *cdbBulk) close() error {
	err := b.write()
	if err == nil {
		err = b.tmp.Sync()
	}
	if err == nil {
		err = os.Rename(b.tmp.Name(), b.name+cdbSuffix)
	}
	b.tmp.Close()
	if err != nil {
		return openError("error writing "+b.name+cdbSuffix, err)
	}
	return nil
}

func (b *cdbBulk) write() error {
	if err := b.tmp.Truncate(0); err != nil {
		return err
	}
	w, err := cdb.NewWriter(b.tmp, nil)
	if err != nil {
		return err
	}
	for _, key := range b.keys {
		if err := w.Put([]byte(key), []byte(b.values[key])); err != nil {
			return err
		}
	}
	_, err = w.Freeze()
	return err
}

func (b *cdbBulk) abort() {
	os.Remove(b.tmp.Name())
	b.tmp.Close()
}

func (b *cdbBulk) message() string { return b.name }
