package verify

import (
	"context"
	"strings"
	"syscall"

	"posthaste/pkg/service"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/table"
)

// maxInMemory bounds a cache without a file. When it is full an arbitrary entry
// makes room.
const maxInMemory = 200_000

// store is where the entries are. Calls are serialised by the daemon's lock.
type store interface {
	get(ctx context.Context, key string) (value string, found bool, err error)
	put(ctx context.Context, key, value string) error
	drop(ctx context.Context, key string) error
	// next walks the store; drop of a key already passed does not disturb it.
	next(ctx context.Context, first bool) (key, value string, ok bool, err error)
	name() string
	close() error
}

// tableStore is a lookup table. Its file is ours alone: it is locked as long
// as we run.
type tableStore struct{ t table.Table }

const (
	openFlags   = table.DupReplace | table.OpenLock | table.UTF8Request
	updateFlags = table.DupReplace | table.UTF8Request
)

// openStore opens address_verify_map as mail_owner, who will own a new file
// whoever started us. A file that another process has locked is fatal: it is
// free again in a moment. Other trouble makes a cache that fails, so that each
// client hears of it.
func openStore(rt *service.Runtime, spec string) (store, error) {
	if spec == "" {
		return &memoryStore{values: map[string]string{}}, nil
	}
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true, Strict: true}
	var t table.Table
	err := cred.As(rt.Owner, func() (err error) {
		defer syscall.Umask(syscall.Umask(0o022))
		t, err = table.OpenMode(env, spec, table.ReadWriteCreate, openFlags)
		if err != nil && !strings.Contains(err.Error(), "exclusive lock") {
			env.Strict = false
			t, err = table.OpenMode(env, spec, table.ReadWriteCreate, openFlags)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return tableStore{t}, nil
}

func (s tableStore) get(ctx context.Context, key string) (string, bool, error) {
	return table.LookupFlags(ctx, s.t, key, updateFlags)
}

func (s tableStore) put(ctx context.Context, key, value string) error {
	return table.Update(ctx, s.t, key, value, updateFlags)
}

func (s tableStore) drop(ctx context.Context, key string) error {
	_, err := table.Delete(ctx, s.t, key, updateFlags)
	return err
}

func (s tableStore) next(ctx context.Context, first bool) (string, string, bool, error) {
	return table.Sequence(ctx, s.t, first)
}

func (s tableStore) name() string { return s.t.Name() }
func (s tableStore) close() error { return s.t.Close() }

// memoryStore lives as long as the process.
type memoryStore struct {
	values map[string]string
	keys   []string // what next has still to visit
}

func (s *memoryStore) get(_ context.Context, key string) (string, bool, error) {
	value, found := s.values[key]
	return value, found, nil
}

func (s *memoryStore) put(_ context.Context, key, value string) error {
	if _, found := s.values[key]; !found && len(s.values) >= maxInMemory {
		for k := range s.values {
			delete(s.values, k)
			break
		}
	}
	s.values[key] = value
	return nil
}

func (s *memoryStore) drop(_ context.Context, key string) error {
	delete(s.values, key)
	return nil
}

func (s *memoryStore) next(_ context.Context, first bool) (string, string, bool, error) {
	if first {
		s.keys = s.keys[:0]
		for key := range s.values {
			s.keys = append(s.keys, key)
		}
	}
	for len(s.keys) > 0 {
		key := s.keys[len(s.keys)-1]
		s.keys = s.keys[:len(s.keys)-1]
		if value, found := s.values[key]; found {
			return key, value, true, nil
		}
	}
	return "", "", false, nil
}

func (s *memoryStore) name() string { return "internal:verify" }
func (s *memoryStore) close() error { return nil }
