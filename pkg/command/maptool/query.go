package maptool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"posthaste/pkg/command"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/table"
)

// search is a list of tables, opened as the search gets to them.
type search struct {
	t      *Tool
	tables []table.Table
	out    *bufio.Writer
}

func (t *Tool) newSearch() *search {
	return &search{t: t, tables: make([]table.Table, len(t.files)), out: bufio.NewWriter(t.env.Stdout)}
}

func (s *search) table(i int, mode table.Mode) (table.Table, error) {
	if s.tables[i] != nil {
		return s.tables[i], nil
	}
	tab, err := table.OpenMode(s.t.Tables, s.t.spec(s.t.files[i]), mode, s.t.Flags|table.Lock)
	s.tables[i] = tab
	return tab, err
}

func (s *search) close() {
	s.out.Flush()
	for _, tab := range s.tables {
		if tab != nil {
			tab.Close()
		}
	}
}

// find gives the value in the first table that has the key.
func (s *search) find(ctx context.Context, key string) (string, bool, error) {
	for i := range s.tables {
		tab, err := s.table(i, table.ReadOnly)
		if err != nil {
			return "", false, err
		}
		value, found, err := tab.Lookup(ctx, key)
		if err != nil {
			return "", false, failure(table.MessageName(tab), "query", err)
		}
		if !found {
			continue
		}
		if value == "" {
			name := table.MessageName(tab)
			s.t.Log.Warn("table %s: key %s: empty string result is not allowed", name, key)
			s.t.Log.Warn("table %s should return NO RESULT in case of NOT FOUND", name)
		}
		return value, true, nil
	}
	return "", false, nil
}

// queries is -q.
func (t *Tool) queries(ctx context.Context) (int, error) {
	s := t.newSearch()
	defer s.close()
	if *t.query != "-" {
		value, found, err := s.find(ctx, *t.query)
		if err != nil || !found {
			return 1, err
		}
		fmt.Fprintln(s.out, value)
		return 0, nil
	}
	if t.headers || t.body {
		return t.queryMessage(ctx, s)
	}
	found, err := lines(t.env.Stdin, func(key string) (bool, error) { return s.show(ctx, key) })
	return status(found), err
}

func status(found bool) int {
	if found {
		return 0
	}
	return 1
}

// show looks a key up and prints what it finds.
func (s *search) show(ctx context.Context, key string) (bool, error) {
	value, found, err := s.find(ctx, key)
	if found {
		fmt.Fprintf(s.out, "%s%s%s\n", key, s.t.style.Separator, value)
	}
	return found, err
}

// maxInputLine bounds one line of standard input, in bytes.
const maxInputLine = 16 << 20

// lines calls f for each line and tells whether it was ever true.
func lines(r io.Reader, f func(line string) (bool, error)) (any bool, err error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxInputLine)
	in.Split(command.SplitLF)
	for in.Scan() {
		ok, err := f(in.Text())
		if err != nil {
			return any, err
		}
		any = any || ok
	}
	return any, in.Err()
}

// queryMessage is -q - with -b or -h: standard input is a message.
func (t *Tool) queryMessage(ctx context.Context, s *search) (int, error) {
	h := &messageKeys{ctx: ctx, s: s}
	m := mime.New(h, mime.Options{
		Parse:           t.mime,
		HeaderSizeLimit: t.Config.Int("header_size_limit"),
		BoundaryLimit:   t.Config.Int("mime_boundary_length_limit"),
		NestingLimit:    t.Config.Int("mime_nesting_limit"),
	})
	_, err := lines(t.env.Stdin, func(line string) (bool, error) {
		m.Record(true, []byte(line))
		return false, h.err
	})
	m.End()
	if h.err != nil {
		err = h.err
	}
	return status(h.found), err
}

// messageKeys looks up the headers and body lines of a message.
type messageKeys struct {
	ctx   context.Context
	s     *search
	found bool
	err   error
}

func (h *messageKeys) show(key []byte) {
	if h.err != nil {
		return
	}
	var found bool
	found, h.err = h.s.show(h.ctx, string(key))
	h.found = h.found || found
}

// Header is called by the MIME machine.
func (h *messageKeys) Header(_ mime.Class, _ *header.Known, text []byte, _ int) {
	if h.s.t.headers {
		h.show(text)
	}
}

// HeaderEnd is called by the MIME machine.
func (h *messageKeys) HeaderEnd() {}

// Body is called by the MIME machine.
func (h *messageKeys) Body(_ bool, data []byte, _ int64) {
	if h.s.t.body {
		h.show(data)
	}
}

// Problem is called by the MIME machine.
func (h *messageKeys) Problem(mime.Problem, []byte) {}

// deletes is -d.
func (t *Tool) deletes(ctx context.Context) (int, error) {
	s := t.newSearch()
	defer s.close()
	if *t.del != "-" {
		found, err := s.delete(ctx, *t.del)
		return status(found), err
	}
	found, err := lines(t.env.Stdin, func(key string) (bool, error) { return s.delete(ctx, key) })
	return status(found), err
}

// delete removes a key from all tables.
func (s *search) delete(ctx context.Context, key string) (bool, error) {
	any := false
	for i := range s.tables {
		tab, err := s.table(i, table.ReadWrite)
		if err != nil {
			return false, err
		}
		found, err := table.Delete(ctx, tab, key, s.t.Flags|table.Lock)
		if err != nil {
			return false, failure(table.MessageName(tab), "delete", err)
		}
		any = any || found
	}
	return any, nil
}

// dump is -s.
func (t *Tool) dump(ctx context.Context, spec string) error {
	if strings.HasPrefix(spec, "proxy:") {
		return errors.New("can't sequence maps via the proxy service")
	}
	tab, err := table.OpenMode(t.Tables, spec, table.ReadOnly, t.Flags|table.Lock)
	if err != nil {
		return err
	}
	defer tab.Close()
	out := bufio.NewWriter(t.env.Stdout)
	defer out.Flush()
	for first := true; ; first = false {
		key, value, ok, err := table.Sequence(ctx, tab, first)
		if err != nil {
			return failure(table.MessageName(tab), "sequence", err)
		}
		if !ok {
			return nil
		}
		if value, err = table.Decode(tab, key, value); err != nil {
			return failure(table.MessageName(tab), "sequence", err)
		}
		if key == "" {
			t.Log.Warn("table %s: empty lookup key value is not allowed", table.MessageName(tab))
		} else if value == "" {
			name := table.MessageName(tab)
			t.Log.Warn("table %s: key %s: empty string result is not allowed", name, key)
			t.Log.Warn("table %s should return NO RESULT in case of NOT FOUND", name)
		}
		fmt.Fprintf(out, "%s%s%s\n", key, t.style.Separator, value)
	}
}
