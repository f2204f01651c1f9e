// Package maptool is what postmap and postalias have in common: they make,
// change and search lookup tables (config.md 3.8). They differ in a Style.
//
// Whatever goes wrong is written to standard error and the log as "fatal: ..." and
// ends the command with status 1.
package maptool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"posthaste/pkg/command"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// Run runs the command in a style; args[0] is the name it was called as.
func Run(args []string, env command.Env, style Style) (status int) {
	t := &Tool{style: style, env: env, name: filepath.Base(args[0])}
	t.startLog()
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fatal)
			if !ok {
				panic(r)
			}
			status = t.fatal(errors.New(f.text))
		}
	}()
	err := t.parse(args)
	if err == nil {
		err = t.configure()
	}
	if err == nil {
		status, err = t.run()
	}
	if err != nil {
		return t.fatal(err)
	}
	return status
}

func (t *Tool) fatal(err error) int {
	text := err.Error()
	if err == errUsage {
		text = "usage: " + t.name + " " + t.style.Usage
	}
	t.Log.Log(maillog.LevelFatal, "%s", text)
	return 1
}

// run does what the options ask for.
func (t *Tool) run() (status int, err error) {
	ctx := context.Background()
	if (t.headers || t.body || t.mime) && (t.query == nil || *t.query != "-") {
		return 1, errors.New("specify -b -h or -m only with \"-q -\"")
	}
	if t.mime && !t.headers && !t.body {
		t.Log.Warn("ignoring -m option without -b or -h")
	}
	if !t.sequence && len(t.files) == 0 {
		return 1, errUsage
	}
	switch {
	case t.del != nil:
		return t.deletes(ctx)
	case t.query != nil:
		return t.queries(ctx)
	case t.sequence:
		if len(t.files) == 0 {
			return 1, nil
		}
		return 0, t.dump(ctx, t.spec(t.files[0]))
	}
	for _, arg := range t.files {
		if err := t.create(arg); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

// create makes or extends one table.
func (t *Tool) create(arg string) error {
	spec := t.spec(arg)
	typ, name, _ := strings.Cut(spec, ":")
	src := Source{Name: name, Incremental: t.incremental}
	if typ == "proxy" && !t.incremental {
		return errors.New("can't create maps via the proxy service")
	}
	if t.incremental {
		f, ok := t.env.Stdin.(*os.File)
		if !ok {
			return t.createFrom(spec, src)
		}
		src.File, src.Name = f, "stdin"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, maillog.Errno(err))
		}
		defer f.Close()
		src.File = f
	}
	st, err := src.File.Stat()
	if err != nil {
		return fmt.Errorf("fstat %s: %w", name, maillog.Errno(err))
	}
	sys := st.Sys().(*syscall.Stat_t)
	if !t.keepMask && st.Mode().IsRegular() {
		// Group and others may read the table when they may read the source.
		defer syscall.Umask(syscall.Umask(0o22 | int(^sys.Mode&0o77)))
	}
	if !t.keepUser && os.Getuid() == 0 && (int(sys.Uid) != os.Geteuid() || int(sys.Gid) != os.Getegid()) {
		id := cred.Identity{UID: int(sys.Uid), GID: int(sys.Gid), Groups: []int{int(sys.Gid)}}
		return cred.As(id, func() error { return t.createFrom(spec, src) })
	}
	return t.createFrom(spec, src)
}

func (t *Tool) createFrom(spec string, src Source) error {
	mode := table.Replace
	if src.Incremental {
		mode = table.Incremental
	}
	w, err := table.Create(t.Tables, spec, mode, t.Flags)
	if err != nil {
		return err
	}
	if err := t.style.Fill(t, src, w); err != nil {
		w.Abort()
		return failure(w.Name(), "write", err)
	}
	return w.Close()
}

// Reader is the text of a source.
func (t *Tool) Reader(src Source) *table.LineReader {
	if src.File == nil {
		return table.NewLineReader(t.env.Stdin, "stdin", t.Log)
	}
	return table.NewLineReader(src.File, src.Name, t.Log)
}

// InUTF8 tells whether sources must be UTF-8.
func (t *Tool) InUTF8() bool { return t.Flags&table.UTF8Request != 0 }

// failure words a failed operation on a table.
func failure(name, operation string, err error) error {
	var e *table.Error
	if !errors.As(err, &e) {
		return err
	}
	if errors.Is(err, table.ErrUnsupported) {
		return fmt.Errorf("%w", e.Err)
	}
	if !e.Temporary {
		if operation == "query" {
			return fmt.Errorf("table %s: query error", name)
		}
		return e.Err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("table %s: %s error: %w", name, operation, maillog.Errno(errno))
	}
	return fmt.Errorf("table %s: %s error: Application error", name, operation)
}
