package milter

import (
	"fmt"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
)

func isSeparator(r rune) bool { return strings.ContainsRune(" ,\t\r\n", r) }

// macroData is the content of a macro packet.
func (f *Filters) macroData(m *filter, e *event) []byte {
	names := &m.cfg.Macros
	if m.macros != nil {
		names = m.macros
	}
	data := []byte{e.command}
	for _, name := range strings.FieldsFunc(names[e.stage], isSeparator) {
		if value, ok := f.macro(name); ok {
			data = append(data, cstrings(name, value)...)
		}
	}
	return data
}

// macro is the value of a macro. A name of several letters may be configured
// without its braces; it is sent as configured.
func (f *Filters) macro(name string) (string, bool) {
	name = braced(name)
	if f.Lookup != nil {
		if value, ok := f.Lookup(name); ok {
			return value, true
		}
	}
	for _, d := range f.cfg.Defaults {
		if d.Name == name {
			return d.Value, true
		}
	}
	return "", false
}

// ParseDefaults reads milter_macro_defaults: name=value pairs, in braces if
// the value has blanks. A name of several letters gets braces.
func ParseDefaults(text string) ([]attr.Attr, error) {
	var list []attr.Attr
	for _, word := range conf.FieldsBraced(text) {
		pair := word
		if strings.HasPrefix(word, "{") && strings.HasSuffix(word, "}") {
			inner, err := conf.Unbrace(word)
			if err != nil {
				return nil, err
			}
			pair = inner
		}
		name, value, ok := strings.Cut(pair, "=")
		name, value = conf.Trim(conf.TrimLeft(name)), conf.Trim(conf.TrimLeft(value))
		if !ok || name == "" {
			return nil, fmt.Errorf("malformed milter_macro_defaults entry: %s", word)
		}
		list = append(list, attr.Attr{Name: braced(name), Value: value})
	}
	return list, nil
}

// braced is the form of a macro's name under which it is looked up: braces
// around several letters, none around one.
func braced(name string) string {
	if len(name) == 3 && name[0] == '{' && name[2] == '}' {
		return name[1:2]
	}
	if len(name) > 1 && name[0] != '{' {
		return "{" + name + "}"
	}
	return name
}

// Configuration reads the milter_* parameters.
func Configuration(c *conf.Config, log Logger) (Config, error) {
	cfg := Config{
		ConnectTimeout: c.Duration("milter_connect_timeout"), CommandTimeout: c.Duration("milter_command_timeout"),
		ContentTimeout: c.Duration("milter_content_timeout"), Protocol: c.String("milter_protocol"),
		DefaultAction: c.String("milter_default_action"), SoftBounce: c.Bool("soft_bounce"), Log: log,
	}
	for stage, name := range [...]string{"connect", "helo", "mail", "rcpt", "data", "end_of_data", "end_of_header", "unknown_command"} {
		cfg.Macros[stage] = c.String("milter_" + name + "_macros")
	}
	var err error
	cfg.Defaults, err = ParseDefaults(c.String("milter_macro_defaults"))
	return cfg, err
}

// New makes the filters of a list, smtpd_milters or the like; nothing is
// connected yet. An element is an address, "unix:path" or "inet:host:port", or
// "{ address, name=value ... }" with options of its own.
func New(list string, cfg Config) (*Filters, error) {
	f := &Filters{cfg: cfg}
	for _, word := range conf.FieldsBraced(list) {
		m := &filter{cfg: &f.cfg, name: word, connect: cfg.ConnectTimeout, command: cfg.CommandTimeout, content: cfg.ContentTimeout,
			protocol: cfg.Protocol, action: cfg.DefaultAction, state: stateClosed}
		if strings.HasPrefix(word, "{") {
			if err := m.options(word); err != nil {
				return nil, err
			}
		}
		f.list = append(f.list, m)
	}
	return f, nil
}

// options reads "{ address, name=value ... }".
func (m *filter) options(word string) error {
	inner, err := conf.Unbrace(word)
	if err != nil {
		return err
	}
	words := conf.FieldsBraced(inner)
	if len(words) == 0 {
		return fmt.Errorf("empty milter definition: \"%s\"", word)
	}
	m.name = words[0]
	for _, option := range words[1:] {
		if strings.HasPrefix(option, "{") {
			if option, err = conf.Unbrace(option); err != nil {
				return err
			}
		}
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			return fmt.Errorf("malformed option: missing '=' after attribute name: \"...%s...\"", option)
		}
		name, value = conf.Trim(conf.TrimLeft(name)), conf.Trim(conf.TrimLeft(value))
		if err := m.option(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (m *filter) option(name, value string) error {
	var err error
	switch name {
	case "connect_timeout":
		m.connect, err = conf.ParseDuration(value, 's')
	case "command_timeout":
		m.command, err = conf.ParseDuration(value, 's')
	case "content_timeout":
		m.content, err = conf.ParseDuration(value, 's')
	case "protocol":
		m.protocol = value
	case "default_action":
		m.action = value
	default:
		err = fmt.Errorf("unknown option: \"%s = %s\"", name, value)
	}
	return err
}
