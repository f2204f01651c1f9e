package postconf

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// model is the configuration as postconf looks at it.
type model struct {
	p        *program
	main     conf.Settings // empty with -d
	services []*entry
	created  map[string]string // parameters that master.cf creates, and their defaults
	used     map[string]bool   // names of main that are referred to
	computed map[string]string
	files    map[string]bool // database client files that have been looked at
}

// scope is where a name is referred to, or set: main.cf, or one service.
type scope struct {
	m       *model
	service *entry // nil: main.cf
}

func (s scope) file() string {
	if s.service != nil {
		return s.m.p.path("master.cf")
	}
	return s.m.p.path("main.cf")
}

// load reads both files and finds out which names are used. named says that
// the directory was asked for, not the default.
func (p *program) load(named bool) (*model, error) {
	m := &model{p: p, main: conf.Settings{}, created: map[string]string{}, used: map[string]bool{},
		computed: map[string]string{}, files: map[string]bool{}}
	if !p.opt.has('d') {
		if err := m.readMain(named); err != nil {
			return nil, err
		}
	}
	if err := m.readMaster(); err != nil {
		return nil, err
	}
	if p.opt.has('d') {
		return m, nil
	}
	for _, name := range m.main.Names() {
		if isReadOnly(name) {
			p.warn("%s: read-only parameter assignment: %s=%s", p.path("main.cf"), name, m.main[name])
			delete(m.main, name)
		}
	}
	for _, e := range m.services {
		for _, setting := range e.readOnly {
			p.warn("%s: read-only parameter assignment: %s", p.path("master.cf"), setting)
		}
	}
	return m, m.scan()
}

func (m *model) readMain(named bool) error {
	path := m.p.path("main.cf")
	base := conf.Settings{}
	if named {
		base["config_directory"] = m.p.dir
	}
	settings, err := conf.ReadSettingsOver(base, path, m.p.warn)
	if err != nil {
		return err
	}
	m.main = settings
	for _, arg := range m.p.opt.overrides {
		name, value, err := conf.SplitNameValue(arg)
		if err != nil {
			reason, _, _ := strings.Cut(err.Error(), ": ")
			return fmt.Errorf("invalid parameter override: %s: %s", arg, reason)
		}
		settings[name] = value
	}
	return nil
}

func (m *model) readMaster() error {
	path := m.p.path("master.cf")
	f, err := os.Open(path)
	if err != nil {
		err = fmt.Errorf("open %s: %s", path, conf.Reason(err))
		if m.p.opt.mode() != 'p' {
			return err
		}
		m.p.warn("%s", err)
		return nil
	}
	defer f.Close()
	lines := conf.NewLineReader(f, path, m.p.warn)
	for {
		line, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %s", path, conf.Reason(err))
		}
		e, err := parseEntry(line.Text, m.p.warn)
		if errors.Is(err, errFieldCount) {
			return fmt.Errorf("file %s: line %d: %w", path, line.First, err)
		}
		if err != nil {
			return err
		}
		m.services = append(m.services, e)
	}
	for _, e := range m.services {
		for _, s := range conf.ServiceParameters(e.fields[fieldCommand]) {
			name, text := e.fields[fieldName]+s.Suffix, "$"+s.Default
			if b, ok := conf.LookupParameter(name); ok {
				text = b.Default
			}
			m.created[name] = text
		}
	}
	return nil
}

func isReadOnly(name string) bool {
	return name == "process_name" || name == "process_id" || name == "service_name"
}

// legacy names have no default any more but are accepted.
var legacy = strings.Fields(`virtual_maps fallback_relay authorized_verp_clients smtpd_client_connection_limit_exceptions
	postscreen_dnsbl_ttl postscreen_blacklist_action postscreen_dnsbl_whitelist_threshold postscreen_whitelist_interfaces
	lmtp_per_record_deadline smtp_per_record_deadline smtpd_per_record_deadline tlsproxy_client_level tlsproxy_client_policy`)

// class returns the class of a parameter; ok is false for an unknown name.
func (m *model) class(name string) (c class, ok bool) {
	if _, ok := m.created[name]; ok {
		return service, true
	}
	if _, ok := conf.LookupParameter(name); ok {
		return builtin, true
	}
	return user, m.used[name] || slices.Contains(legacy, name)
}

// fallback returns the default text of a known parameter.
func (m *model) fallback(name string) (string, error) {
	if text, ok := m.created[name]; ok {
		return text, nil
	}
	switch name {
	case "process_name":
		return m.p.name, nil
	case "process_id":
		return strconv.Itoa(os.Getpid()), nil
	case "config_directory":
		return conf.DefaultDir, nil
	}
	b, ok := conf.LookupParameter(name)
	if !ok || b.Default != conf.Computed {
		return b.Default, nil
	}
	if text, ok := m.computed[name]; ok {
		return text, nil
	}
	text, err := conf.ComputedDefault(name, m.main, m.p.warn)
	m.computed[name] = text
	return text, err
}

// value returns the text of a known parameter, unexpanded.
func (m *model) value(name string) (string, error) {
	if text, ok := m.main[name]; ok {
		return text, nil
	}
	return m.fallback(name)
}

// expand expands text that stands in the scope.
func (s scope) expand(text string) (string, error) { return s.expandAt(text, 0) }

// expandAt expands text that depth references led to.
func (s scope) expandAt(text string, depth int) (string, error) {
	var failed error
	out, err := macro.Expand(text, func(name string) (string, bool) {
		value, ok, err := s.lookup(name)
		if err != nil {
			failed = err
		}
		return value, ok
	}, macro.Options{Recurse: true, Depth: depth})
	if failed != nil {
		return "", failed
	}
	return out, err
}

func (s scope) lookup(name string) (value string, ok bool, err error) {
	if s.service != nil {
		switch name {
		case "service_name":
			return s.service.fields[fieldName], true, nil
		case "process_name":
			return filepath.Base(s.service.fields[fieldCommand]), true, nil
		}
		if value, ok := s.service.parameters[name]; ok {
			return value, true, nil
		}
	}
	if value, ok := s.m.main[name]; ok {
		return value, true, nil
	}
	if _, ok := s.m.class(name); !ok {
		return "", false, nil
	}
	value, err = s.m.fallback(name)
	return value, true, err
}

// names returns the parameters of the given classes, sorted.
func (m *model) names(classes class) []string {
	set := map[string]bool{}
	if classes&builtin != 0 {
		for _, b := range conf.Parameters() {
			set[b.Name] = true
		}
	}
	for name := range m.created {
		if classes&service != 0 {
			set[name] = true
		} else {
			delete(set, name)
		}
	}
	if classes&user != 0 {
		for name := range m.main {
			if c, ok := m.class(name); ok && c == user {
				set[name] = true
			}
		}
		for _, name := range legacy {
			if slices.ContainsFunc(m.services, func(e *entry) bool { _, ok := e.parameters[name]; return ok }) {
				set[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// warnUnused names the settings that nothing refers to; main says whether
// main.cf is looked at too.
func (m *model) warnUnused(main bool) {
	if main {
		for _, name := range m.main.Names() {
			if _, ok := m.class(name); !ok {
				m.p.warn("%s: unused parameter: %s=%s", m.p.path("main.cf"), name, m.main[name])
			}
		}
	}
	for _, e := range m.services {
		for _, name := range slices.Sorted(maps.Keys(e.parameters)) {
			if _, ok := m.class(name); ok || e.used[name] {
				continue
			}
			m.p.warn("%s: unused parameter: %s=%s", m.p.path("master.cf"), name, e.parameters[name])
		}
	}
}
