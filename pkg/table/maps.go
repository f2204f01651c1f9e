package table

import (
	"context"
	"errors"
	"fmt"
)

// Maps is a list of tables searched in order, as a parameter such as
// virtual_alias_maps names it. The zero value and nil are empty lists.
type Maps struct {
	env    Env
	title  string
	tables []Table
}

// OpenMaps opens each table of the list specs. title is the name of the parameter,
// for messages. Request flags in flags apply to each lookup.
func OpenMaps(env Env, title, specs string, flags Flags) (*Maps, error) {
	m := &Maps{env: env, title: title}
	for _, spec := range SplitList(specs) {
		t, err := Open(env, spec, flags)
		if err != nil {
			m.Close()
			return nil, err
		}
		m.tables = append(m.tables, t)
	}
	return m, nil
}

// NewMaps makes a list of tables that are open already.
func NewMaps(env Env, title string, tables ...Table) *Maps {
	return &Maps{env: env, title: title, tables: tables}
}

// Title is the name given to OpenMaps.
func (m *Maps) Title() string { return m.title }

// Empty tells that there are no tables in the list.
func (m *Maps) Empty() bool { return m == nil || len(m.tables) == 0 }

// Tables gives the tables in order.
func (m *Maps) Tables() []Table {
	if m == nil {
		return nil
	}
	return m.tables
}

// Find gives the value of key in the first table that has it. An empty value is
// an error, an empty key is never found (config.md 3.3).
func (m *Maps) Find(ctx context.Context, key string) (string, bool, error) {
	return m.FindFlags(ctx, key, 0)
}

// FindFlags is Find over the tables that have one of the flags in mask: Fixed
// for a partial key (user without extension, domain alone ...). 0 means all tables.
func (m *Maps) FindFlags(ctx context.Context, key string, mask Flags) (string, bool, error) {
	value, _, found, err := m.FindTable(ctx, key, mask)
	return value, found, err
}

// FindTable is FindFlags that also tells which table had the key.
func (m *Maps) FindTable(ctx context.Context, key string, mask Flags) (string, Table, bool, error) {
	if m.Empty() || key == "" {
		return "", nil, false, nil
	}
	for _, t := range m.tables {
		if mask != 0 && t.Flags()&mask == 0 {
			continue
		}
		value, found, err := t.Lookup(ctx, key)
		if err != nil {
			m.env.Log.Warn("%s lookup error for \"%s\"", MessageName(t), key)
			return "", t, false, err
		}
		if !found {
			continue
		}
		if value == "" {
			m.env.Log.Warn("%s lookup of %s returns an empty string result", m.title, key)
			m.env.Log.Warn("%s should return NO RESULT in case of NOT FOUND", m.title)
			return "", t, false, &Error{Table: MessageName(t), Err: errEmpty}
		}
		return value, t, true, nil
	}
	return "", nil, false, nil
}

var errEmpty = errors.New("empty string result")

// Changed gives the registry name ("hash:/etc/aliases(0,lock|fold_fix)") of a
// table whose file changed since it was opened.
func (m *Maps) Changed() (name string, changed bool) {
	if m == nil {
		return "", false
	}
	for _, t := range m.tables {
		if Changed(t) {
			return RegistryName(t), true
		}
	}
	return "", false
}

// Close closes all tables.
func (m *Maps) Close() error {
	var all error
	for _, t := range m.Tables() {
		all = errors.Join(all, t.Close())
	}
	return all
}

// IsTemporary tells whether err is a lookup error that may go away. Errors of
// unknown origin count as temporary.
func IsTemporary(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Temporary
	}
	return err != nil
}

// String gives the title and the tables, for logs.
func (m *Maps) String() string {
	return fmt.Sprintf("%s (%d tables)", m.title, len(m.tables))
}
