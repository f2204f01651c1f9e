// Package table opens and searches lookup tables: "type:name" specifications,
// lists of them (Maps) and pattern lists (MatchList), as config.md section 3
// describes. Berkeley DB files are read and written by the package bdb below it.
//
// A lookup gives a value, "not found", or an error that is or wraps *Error;
// the error says whether it is temporary. A table whose file cannot be opened
// is still a Table (unless Env.Strict): each of its lookups logs a warning and fails.
// Tables are safe for concurrent use. Tables in files that can be replaced
// while we run (hash, btree, cdb) notice it and read the new file.
package table

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
)

// Table is an open lookup table.
type Table interface {
	// Lookup gives the value of key. An error is or wraps *Error.
	Lookup(ctx context.Context, key string) (value string, found bool, err error)
	// Name is the specification it was opened by, such as "hash:/etc/aliases".
	Name() string
	// Flags are the flags it was opened with plus those of the table type.
	Flags() Flags
	Close() error
}

// Env is what a program lends to its tables. The zero value works: built-in
// defaults, no logging.
type Env struct {
	Config *conf.Config
	Log    *maillog.Logger
	// Daemon is set by daemons that do not contain database clients; the error
	// for such a type then points at proxy:.
	Daemon bool
	// Strict makes Open return an error for what cannot be opened instead of a
	// table that always fails. Commands set it.
	Strict bool
	// ForceUTF8 is UTF-8 mode although smtputf8_enable = no (postmap -U).
	ForceUTF8 bool
	// Types adds table types (database clients) to the built-in ones.
	Types map[string]Type
}

// Error is a failed lookup or update.
type Error struct {
	Table     string // name for messages, such as "hash:/etc/aliases.db"
	Temporary bool   // try again later; else the table or its configuration is bad
	Err       error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Table + ": table lookup error"
	}
	return e.Table + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// ErrUnsupported is the cause when a table type lacks the wanted operation.
var ErrUnsupported = errors.New("operation is not supported")

// errBackend is what backends return: the handle completes it to an *Error.
type errBackend struct {
	config bool
	err    error
}

func (e *errBackend) Error() string { return e.err.Error() }
func (e *errBackend) Unwrap() error { return e.err }

// RetryError marks err as temporary; for implementations of Backend.
func RetryError(err error) error { return &errBackend{err: err} }

// ConfigError marks err as permanent; for implementations of Backend.
func ConfigError(err error) error { return &errBackend{config: true, err: err} }

// Mode says what a table is opened for.
type Mode int

// The modes.
const (
	ReadOnly        Mode = iota
	ReadWrite            // the file must exist
	ReadWriteCreate      // the file is made when missing
	ReadWriteTrunc       // and emptied when it exists
)

// Request is what a Type gets to open.
type Request struct {
	Type, Name string
	Mode       Mode
	Flags      Flags
	Spec       string
}

// Backend is the bare mechanism of a table type, below key folding and checks.
// Implementations must be safe for concurrent use.
type Backend interface {
	// Get looks key up as it is. Errors made by ConfigError are permanent, all
	// others temporary.
	Get(ctx context.Context, key string) (value string, found bool, err error)
	// Flags gives Fixed or Pattern and what else the type sets.
	Flags() Flags
	Close() error
}

// Optional abilities of a Backend.
type (
	updater interface {
		Put(ctx context.Context, key, value string, flags Flags) error
	}
	deleter interface {
		Delete(ctx context.Context, key string, flags Flags) (bool, error)
	}
	sequencer interface {
		// Next gives the first or the following entry; ok is false at the end.
		Next(ctx context.Context, first bool) (key, value string, ok bool, err error)
	}
	changer interface{ Changed() bool }
	owner   interface{ Owner() Owner }
	namer   interface{ MessageName() string } // NAME in messages
	flagged interface {
		GetFlags(ctx context.Context, key string, flags Flags) (string, bool, error)
	}
)

// Owner tells whose table it is, which decides as whom the commands and files in
// an alias value run (config.md 3.12).
type Owner struct {
	Known   bool // false: nobody can tell, treat as untrusted
	Trusted bool // root or the configuration itself
	UID     int  // the owner when Known and not Trusted
}

// Type is a table type: how to open it, and whether postmap can make it.
type Type struct {
	Open func(env Env, req Request) (Backend, error)
	Bulk func(env Env, req Request) (bulk, error)
}

// Open opens a table for reading. An error is returned for a malformed
// specification, and with Env.Strict for whatever cannot be opened; its text is
// what follows "fatal: ".
func Open(env Env, spec string, flags Flags) (Table, error) {
	return OpenMode(env, spec, ReadOnly, flags)
}

// OpenMode is Open with a choice of access mode.
func OpenMode(env Env, spec string, mode Mode, flags Flags) (Table, error) {
	typ, name, ok := strings.Cut(spec, ":")
	if !ok || typ == "" || name == "" {
		return nil, fmt.Errorf("open dictionary: expecting \"type:name\" form instead of \"%s\"", spec)
	}
	if flags&NoProxy != 0 && typ == "proxy" {
		return OpenMode(env, name, mode, flags)
	}
	if flags&UTF8Request != 0 && env.smtputf8() {
		flags |= UTF8Active
	}
	h := &handle{env: env, spec: spec, typ: typ, name: name, mode: mode, flags: flags, smtputf8: env.smtputf8()}
	t, err := env.lookupType(typ, name)
	var b Backend
	if err == nil {
		b, err = t.Open(env, Request{Type: typ, Name: name, Mode: mode, Flags: flags, Spec: spec})
	}
	if err != nil {
		if env.Strict {
			return nil, err
		}
		if env.Config != nil && env.Config.Bool("daemon_table_open_error_is_fatal") {
			return nil, err
		}
		env.Log.Error("%s", err)
		b = &unavailable{log: env.Log, spec: spec, reason: err}
	}
	h.b = b
	h.flags = flags&^ImplMask | b.Flags()
	return h, nil
}

func (env Env) smtputf8() bool {
	return env.ForceUTF8 || env.Config == nil || env.Config.Bool("smtputf8_enable")
}

// handle is every Table of this package: a backend with key folding and checks
// around it.
type handle struct {
	env             Env
	spec, typ, name string
	mode            Mode
	flags           Flags
	smtputf8        bool // UTF8Request has an effect
	b               Backend
}

func (h *handle) Name() string { return h.spec }
func (h *handle) Flags() Flags { return h.flags }
func (h *handle) Close() error { return h.b.Close() }

// message is the table's name in warnings.
func (h *handle) message() string {
	if n, ok := h.b.(namer); ok {
		return h.typ + ":" + n.MessageName()
	}
	return h.spec
}

func (h *handle) fail(err error) error {
	var b *errBackend
	temporary := true
	if errors.As(err, &b) {
		temporary = !b.config
		err = b.err
	}
	return &Error{Table: h.message(), Temporary: temporary, Err: err}
}

func (h *handle) Lookup(ctx context.Context, key string) (string, bool, error) {
	value, found, err := h.get(ctx, key, h.flags)
	if err != nil || !found {
		return "", false, err
	}
	value, err = Decode(h, key, value)
	return value, err == nil, err
}

// Decode gives the content that a value of a table opened with SrcRHSIsFile stands
// for; Lookup does so itself. Values of other tables are returned as they are.
func Decode(t Table, key, value string) (string, error) {
	h, ok := t.(*handle)
	if !ok || h.flags&SrcRHSIsFile == 0 {
		return value, nil
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		h.env.Log.Warn("table %s: key %s: malformed BASE64 value: %.30s", h.message(), key, value)
		return "", h.fail(ConfigError(errors.New("malformed BASE64 value")))
	}
	return string(raw), nil
}

func (h *handle) get(ctx context.Context, key string, flags Flags) (string, bool, error) {
	key, ok := h.prepare(key, flags)
	if !ok {
		return "", false, nil
	}
	var (
		value string
		found bool
		err   error
	)
	if f, ok := h.b.(flagged); ok {
		value, found, err = f.GetFlags(ctx, key, flags)
	} else {
		value, found, err = h.b.Get(ctx, key)
	}
	if err != nil {
		return "", false, h.fail(err)
	}
	if found && h.utf8(flags) && !utf8.ValidString(value) {
		h.badValue(key, value)
		return "", false, h.fail(ConfigError(errors.New("non-UTF-8 value")))
	}
	return value, found, nil
}

func (h *handle) utf8(flags Flags) bool {
	return flags&UTF8Request != 0 && h.smtputf8
}

func (h *handle) badValue(key, value string) {
	h.env.Log.Warn("%s: key \"%s\": non-UTF-8 value \"%s\": malformed UTF-8 or invalid codepoint", h.message(), key, value)
}

// prepare checks and folds a key; ok is false for a key that cannot be in the table.
func (h *handle) prepare(key string, flags Flags) (_ string, ok bool) {
	if h.utf8(flags) && !utf8.ValidString(key) {
		h.env.Log.Warn("%s: non-UTF-8 key \"%s\": malformed UTF-8 or invalid codepoint", h.message(), key)
		return key, false
	}
	fold := FoldMul
	if h.flags&Fixed != 0 {
		fold = FoldFix
	}
	if flags&fold != 0 {
		key = Fold(key, h.utf8(flags))
	}
	return key, true
}

// LookupFlags is a lookup with the request flags of this one request, without
// decoding of file values: what the proxymap server does.
func LookupFlags(ctx context.Context, t Table, key string, request Flags) (string, bool, error) {
	h, ok := t.(*handle)
	if !ok {
		return t.Lookup(ctx, key)
	}
	return h.get(ctx, key, h.flags&^RequestMask|request&RequestMask)
}

// Update stores a value under a key. The duplicate flags in request decide
// what happens when the key exists.
func Update(ctx context.Context, t Table, key, value string, request Flags) error {
	h, u, err := capable[updater](t, "update")
	if err != nil {
		return err
	}
	flags := h.flags&^RequestMask | request&RequestMask
	key, ok := h.prepare(key, flags)
	if !ok {
		return nil
	}
	if h.utf8(flags) && !utf8.ValidString(value) {
		h.badValue(key, value)
		return nil
	}
	if err := u.Put(ctx, key, value, flags); err != nil {
		return h.fail(err)
	}
	return nil
}

// Delete removes a key and tells whether it was there.
func Delete(ctx context.Context, t Table, key string, request Flags) (bool, error) {
	h, d, err := capable[deleter](t, "delete")
	if err != nil {
		return false, err
	}
	flags := h.flags&^RequestMask | request&RequestMask
	key, ok := h.prepare(key, flags)
	if !ok {
		return true, nil
	}
	found, err := d.Delete(ctx, key, flags)
	if err != nil {
		return false, h.fail(err)
	}
	return found, nil
}

// Sequence walks the table: the first entry, then the next one with each call.
// ok is false after the last. A table has one such position.
func Sequence(ctx context.Context, t Table, first bool) (key, value string, ok bool, err error) {
	h, s, err := capable[sequencer](t, "sequence")
	if err != nil {
		return "", "", false, err
	}
	key, value, ok, err = s.Next(ctx, first)
	if err != nil {
		return "", "", false, h.fail(err)
	}
	return key, value, ok, nil
}

func capable[T any](t Table, operation string) (*handle, T, error) {
	var none T
	h, ok := t.(*handle)
	if ok {
		if b, ok := h.b.(T); ok {
			return h, b, nil
		}
		if u, ok := h.b.(*unavailable); ok {
			_, _, err := u.Get(context.Background(), "")
			return nil, none, h.fail(err)
		}
	}
	name := t.Name()
	if h != nil {
		name = h.message()
	}
	return nil, none, &Error{Table: name, Err: fmt.Errorf("table %s: %s %w", name, operation, ErrUnsupported)}
}

// MessageName is the name of the table in messages, which for file types is that
// of the file: "hash:/etc/aliases.db".
func MessageName(t Table) string {
	if h, ok := t.(*handle); ok {
		return h.message()
	}
	return t.Name()
}

// RegistryName is the name in "table X has changed" (config.md 3.15).
func RegistryName(t Table) string {
	flags := t.Flags()
	if h, ok := t.(*handle); ok {
		flags = h.flags
	}
	return fmt.Sprintf("%s(0,%s)", t.Name(), flags&^(ImplMask|UTF8Active|Try0Null|Try1Null))
}

// Changed tells whether the table's file was changed or replaced since it was
// opened. Types without a file never change.
func Changed(t Table) bool {
	h, ok := t.(*handle)
	if !ok {
		return false
	}
	c, ok := h.b.(changer)
	return ok && c.Changed()
}

// OwnerOf tells whose table it is.
func OwnerOf(t Table) Owner {
	if h, ok := t.(*handle); ok {
		if o, ok := h.b.(owner); ok {
			return o.Owner()
		}
	}
	return Owner{}
}

// Available tells whether the table could be opened.
func Available(t Table) bool {
	h, ok := t.(*handle)
	if !ok {
		return true
	}
	_, bad := h.b.(*unavailable)
	return !bad
}

// unavailable stands for a table that could not be opened (config.md 3.3).
type unavailable struct {
	log    *maillog.Logger
	spec   string
	reason error
}

func (u *unavailable) Get(context.Context, string) (string, bool, error) {
	u.log.Warn("%s is unavailable. %s", u.spec, u.reason)
	return "", false, RetryError(u.reason)
}
func (u *unavailable) Flags() Flags { return Pattern }
func (u *unavailable) Close() error { return nil }

// openError words a failed open as the C library would: "open PATH: No such file or directory".
func openError(what string, err error) error {
	return fmt.Errorf("%s: %s", what, Reason(err))
}

// Reason is the bare system error text of err, in the C library's words.
func Reason(err error) string { return maillog.Errno(err).Error() }
