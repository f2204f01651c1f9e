package postconf

import (
	"io"
	"maps"
	"slices"

	"posthaste/pkg/command"
)

// Unused is a setting that nothing reads: its name is no parameter, no value
// refers to it and no table's name makes it a database client's.
type Unused struct {
	Service string // "name/type" of the master.cf entry; "" for main.cf
	Index   int    // of the entry in master.cf, from 0
	Name    string
}

// FindUnused looks for the settings of which postconf says "unused parameter",
// in the files of a configuration directory.
func FindUnused(dir string) ([]Unused, error) {
	p := &program{env: command.Env{Stdout: io.Discard, Stderr: io.Discard}, called: "postconf", name: "postconf", dir: dir,
		opt: &options{set: map[byte]bool{'p': true}, classes: "all"}}
	m, err := p.load(true)
	if err != nil {
		return nil, err
	}
	var list []Unused
	for _, name := range m.main.Names() {
		if _, ok := m.class(name); !ok {
			list = append(list, Unused{Name: name})
		}
	}
	for i, e := range m.services {
		for _, name := range slices.Sorted(maps.Keys(e.parameters)) {
			if _, ok := m.class(name); !ok && !e.used[name] {
				list = append(list, Unused{e.fields[fieldName] + "/" + e.fields[fieldType], i, name})
			}
		}
	}
	return list, nil
}
