package postconf

import (
	"maps"
	"slices"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// scan finds the user-defined names and database client names that are used,
// and warns about names that are referred to but set nowhere (spec config.md
// 2.3).
func (m *model) scan() error {
	for _, e := range m.services {
		s := scope{m, e}
		for _, name := range slices.Sorted(maps.Keys(e.parameters)) {
			if err := s.scanValue(name, e.parameters[name]); err != nil {
				return err
			}
		}
		if err := s.restrictionClasses(e.parameters); err != nil {
			return err
		}
	}
	main := scope{m, nil}
	names := map[string]bool{}
	for name := range m.main {
		names[name] = true
	}
	for _, b := range conf.Parameters() {
		names[b.Name] = true
	}
	for name := range m.created {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		text, err := m.value(name)
		if err == nil {
			err = main.scanValue(name, text)
		}
		if err != nil {
			return err
		}
	}
	return main.restrictionClasses(m.main)
}

// scanValue looks for names in a value, and for database clients in what it
// expands to. Raw values are not looked at.
func (s scope) scanValue(name, text string) error {
	b, isBuiltin := conf.LookupParameter(name)
	if isBuiltin && b.Kind == conf.KindRaw {
		return nil
	}
	if err := macro.Names(text, s.refer); err != nil {
		s.m.p.warn("%s", err)
	}
	if c, known := s.m.class(name); !known || c == user {
		return nil
	}
	value, err := s.expand(text)
	if err != nil {
		return err
	}
	return s.scanClients(value)
}

// refer notes that the scope refers to name.
func (s scope) refer(name string) {
	if c, ok := s.m.class(name); ok && (c != user || slices.Contains(legacy, name)) {
		return
	}
	if !s.use(name) {
		s.m.p.warn("%s: undefined parameter: %s", s.file(), name)
	}
}

// use marks the name as used where the scope finds it, and reports whether it
// does. What main.cf refers to can be set in main.cf and in any service.
func (s scope) use(name string) bool {
	entries := s.m.services
	if s.service != nil {
		entries = []*entry{s.service}
	}
	found := false
	for _, e := range entries {
		if _, ok := e.parameters[name]; ok {
			e.used[name] = true
			found = true
		}
	}
	if s.service != nil && found {
		return true
	}
	if _, ok := s.m.main[name]; ok {
		s.m.used[name] = true
		found = true
	}
	return found
}

// restrictionClasses marks the classes that the settings define.
func (s scope) restrictionClasses(settings map[string]string) error {
	text, ok := settings["smtpd_restriction_classes"]
	if !ok {
		return nil
	}
	value, err := s.expand(text)
	if err != nil {
		return err
	}
	for _, name := range conf.Fields(value) {
		s.refer(name)
	}
	return nil
}
