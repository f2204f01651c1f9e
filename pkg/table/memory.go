package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"

	"posthaste/pkg/conf"
)

// memory is a table held in a map: texthash, inline, internal, environ.
type memory struct {
	owned  Owner
	mu     sync.Mutex
	values map[string]string
	keys   []string // position of Next
}

func (m *memory) Flags() Flags { return Fixed }
func (m *memory) Close() error { return nil }
func (m *memory) Owner() Owner { return m.owned }

func (m *memory) Get(_ context.Context, key string) (string, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	return value, ok, nil
}

func (m *memory) Put(_ context.Context, key, value string, _ Flags) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = value
	return nil
}

func (m *memory) Delete(_ context.Context, key string, _ Flags) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.values[key]
	delete(m.values, key)
	return ok, nil
}

func (m *memory) Next(_ context.Context, first bool) (string, string, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if first {
		m.keys = slices.Sorted(maps.Keys(m.values))
	}
	for len(m.keys) > 0 {
		key := m.keys[0]
		m.keys = m.keys[1:]
		if value, ok := m.values[key]; ok {
			return key, value, true, nil
		}
	}
	return "", "", false, nil
}

func openTexthash(env Env, req Request) (Backend, error) {
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	var m *memory
	err := readStable(req.Name, func(f *os.File) error {
		m = &memory{values: make(map[string]string), owned: fileOwner(f)}
		return m.load(env, req, f)
	})
	var problem *sourceError
	if errors.As(err, &problem) {
		return nil, problem
	}
	if err != nil {
		return nil, openError("open database "+req.Name, err)
	}
	return readOnlyMemory{m}, nil
}

// sourceError is a fault in the text, as opposed to one of the file.
type sourceError struct{ text string }

func (e *sourceError) Error() string { return e.text }

func (m *memory) load(env Env, req Request, r io.Reader) error {
	src := NewSource(NewLineReader(r, req.Name, env.Log))
	src.UTF8 = req.Flags&UTF8Active != 0
	src.Suffix = " -- ignoring this line"
	src.Files = req.Flags&SrcRHSIsFile != 0
	for {
		key, value, line, ok := src.Next()
		if !ok {
			return src.Err()
		}
		if req.Flags&FoldFix != 0 {
			key = Fold(key, src.UTF8)
		}
		if _, dup := m.values[key]; dup {
			text := fmt.Sprintf("%s, line %d: duplicate entry: \"%s\"", req.Name, line, key)
			switch {
			case req.Flags&DupReplace != 0:
			case req.Flags&DupIgnore != 0:
				continue
			case req.Flags&DupWarn != 0:
				env.Log.Warn("%s", text)
				continue
			default:
				return &sourceError{text}
			}
		}
		m.values[key] = value
	}
}

// readOnlyMemory hides the writing methods.
type readOnlyMemory struct{ m *memory }

func (r readOnlyMemory) Get(ctx context.Context, key string) (string, bool, error) {
	return r.m.Get(ctx, key)
}
func (r readOnlyMemory) Next(ctx context.Context, first bool) (string, string, bool, error) {
	return r.m.Next(ctx, first)
}
func (r readOnlyMemory) Flags() Flags { return Fixed }
func (r readOnlyMemory) Close() error { return nil }
func (r readOnlyMemory) Owner() Owner { return r.m.owned }

// openInline opens inline:{ key=value, {key = text} ... }.
func openInline(env Env, req Request) (Backend, error) {
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	what := "value"
	if req.Flags&SrcRHSIsFile != 0 {
		what = "filename"
	}
	bad := func(reason string) error {
		return fmt.Errorf("%s: \"%s\"; need \"%s:{name=%s...}\"", reason, req.Spec, req.Type, what)
	}
	inside, err := conf.Unbrace(req.Name)
	if err != nil || strings.HasPrefix(req.Name, "{}") {
		return nil, bad("bad syntax")
	}
	m := &memory{values: make(map[string]string), owned: Owner{Known: true, Trusted: true}}
	for _, item := range SplitList(inside) {
		if strings.HasPrefix(item, "{") {
			if item, err = conf.Unbrace(item); err != nil {
				return nil, bad(err.Error())
			}
		}
		key, value, reason := splitNameValue(item)
		if reason != "" {
			return nil, bad(reason)
		}
		if req.Flags&SrcRHSIsFile != 0 {
			if value, err = FileValue(value); err != nil {
				return nil, bad(err.Error())
			}
		}
		if req.Flags&FoldFix != 0 {
			key = Fold(key, req.Flags&UTF8Active != 0)
		}
		m.values[key] = value
	}
	if len(m.values) == 0 {
		return nil, bad("empty table")
	}
	return readOnlyMemory{m}, nil
}

// splitNameValue splits "key = value", where the key may be quoted.
func splitNameValue(item string) (key, value, reason string) {
	item = strings.TrimLeft(item, space)
	end := 0
	if strings.HasPrefix(item, "\"") {
		var b strings.Builder
		for end = 1; ; end++ {
			if end >= len(item) {
				return "", "", "unbalanced '\"'"
			}
			if item[end] == '"' {
				break
			}
			if item[end] == '\\' && end+1 < len(item) {
				end++
			}
			b.WriteByte(item[end])
		}
		key, end = b.String(), end+1
	} else {
		for end < len(item) && item[end] != '=' && strings.IndexByte(space, item[end]) < 0 {
			end++
		}
		key = item[:end]
	}
	rest := strings.TrimLeft(item[end:], space)
	if key == "" && rest == "" {
		return "", "", "no key found; expected format: key = value"
	}
	if !strings.HasPrefix(rest, "=") {
		return "", "", "missing '=' after attribute name"
	}
	return key, strings.Trim(rest[1:], space), ""
}

// static always gives one value.
type static struct {
	value string
	flags Flags
}

func (s static) Get(context.Context, string) (string, bool, error) { return s.value, true, nil }
func (s static) Flags() Flags                                      { return s.flags }
func (s static) Close() error                                      { return nil }
func (s static) Owner() Owner                                      { return Owner{Known: true, Trusted: true} }

func openStatic(env Env, req Request) (Backend, error) {
	value := req.Name
	if strings.HasPrefix(value, "{") {
		inside, err := conf.Unbrace(value)
		if err != nil {
			return nil, fmt.Errorf("bad static:name syntax: %w", err)
		}
		value = inside
	}
	if req.Flags&SrcRHSIsFile != 0 {
		encoded, err := FileValue(value)
		if err != nil {
			return nil, err
		}
		value = encoded
	}
	return static{value: value, flags: Fixed}, nil
}

// environ gives environment variables.
type environ struct{}

func openEnviron(env Env, req Request) (Backend, error) { return environ{}, nil }

func (environ) Get(_ context.Context, key string) (string, bool, error) {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return "", false, nil
	}
	value, ok := os.LookupEnv(key)
	return value, ok, nil
}
func (environ) Put(_ context.Context, key, value string, _ Flags) error {
	return os.Setenv(key, value)
}
func (environ) Flags() Flags { return Fixed }
func (environ) Close() error { return nil }
func (environ) Owner() Owner { return Owner{Known: true, Trusted: true} }

func openInternal(env Env, req Request) (Backend, error) {
	return &memory{values: make(map[string]string), owned: Owner{Known: true, Trusted: true}}, nil
}

// failing fails each operation with a temporary error.
type failing struct{}

func (failing) Get(context.Context, string) (string, bool, error) {
	return "", false, RetryError(errFail)
}
func (failing) Put(context.Context, string, string, Flags) error { return RetryError(errFail) }
func (failing) Delete(context.Context, string, Flags) (bool, error) {
	return false, RetryError(errFail)
}
func (failing) Next(context.Context, bool) (string, string, bool, error) {
	return "", "", false, RetryError(errFail)
}
func (failing) Flags() Flags { return Pattern }
func (failing) Close() error { return nil }
func (failing) Owner() Owner { return Owner{Known: true, Trusted: true} }

var errFail = errors.New("table lookup error")

func openFail(env Env, req Request) (Backend, error) { return failing{}, nil }

// randmap gives one of its values at random.
type randmap []string

func openRandmap(env Env, req Request) (Backend, error) {
	if err := needReadOnly(req); err != nil {
		return nil, err
	}
	values, err := members(req, "value")
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if req.Flags&SrcRHSIsFile != 0 {
			if v, err = FileValue(v); err != nil {
				return nil, err
			}
		}
		values[i] = v
	}
	return randmap(values), nil
}

func (r randmap) Get(context.Context, string) (string, bool, error) {
	return r[rand.IntN(len(r))], true, nil
}
func (randmap) Flags() Flags { return Pattern }
func (randmap) Close() error { return nil }
func (randmap) Owner() Owner { return Owner{Known: true, Trusted: true} }

// members splits the inside of TYPE:{a, b ...}.
func members(req Request, what string) ([]string, error) {
	inside, err := conf.Unbrace(req.Name)
	list := SplitList(inside)
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("bad syntax: \"%s\"; need \"%s:{%s...}\"", req.Spec, req.Type, what)
	}
	return list, nil
}
