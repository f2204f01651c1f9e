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
//
// The names in all values are looked at before any value is expanded: a bad
// value is complained about twice, as the original does it.
func (m *model) scan() error {
	main := scope{m, nil}
	names := m.mainNames()
	if err := m.scanNames(main, names); err != nil {
		return err
	}
	for _, e := range m.services {
		for _, name := range slices.Sorted(maps.Keys(e.parameters)) {
			if err := (scope{m, e}).scanClients(name, e.parameters[name]); err != nil {
				return err
			}
		}
	}
	for _, name := range m.main.Names() { // defaults name no clients, and are not expanded before they are asked for
		if err := main.scanClients(name, m.main[name]); err != nil {
			return err
		}
	}
	return nil
}

// mainNames returns all names that main.cf, the built-in table and master.cf
// give a value to, sorted.
func (m *model) mainNames() []string {
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
	return slices.Sorted(maps.Keys(names))
}

// scanNames looks for the names in the values of all services and of main.
func (m *model) scanNames(main scope, names []string) error {
	for _, e := range m.services {
		s := scope{m, e}
		for _, name := range slices.Sorted(maps.Keys(e.parameters)) {
			s.scanValue(name, e.parameters[name])
		}
		if err := s.restrictionClasses(e.parameters); err != nil {
			return err
		}
	}
	for _, name := range names {
		text, err := m.value(name)
		if err != nil {
			return err
		}
		main.scanValue(name, text)
	}
	return main.restrictionClasses(m.main)
}

func isRaw(name string) bool {
	b, ok := conf.LookupParameter(name)
	return ok && b.Kind == conf.KindRaw
}

// scanValue looks for names in a value. Raw values are not looked at.
func (s scope) scanValue(name, text string) {
	if isRaw(name) {
		return
	}
	if err := macro.Names(text, s.refer); err != nil {
		s.m.p.warn("%s", err)
	}
}

// scanClients looks for database clients in what the value of a known
// parameter expands to.
func (s scope) scanClients(name, text string) error {
	if c, known := s.m.class(name); !known || c == user || isRaw(name) {
		return nil
	}
	value, err := s.expandAt(text, -1) // the original allows one level more here
	if err != nil {
		return err
	}
	return s.clients(value, 0)
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
