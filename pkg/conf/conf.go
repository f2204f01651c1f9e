// Package conf reads Postfix's configuration: main.cf with its macro
// expansion, typed parameters with their limits, computed defaults and the
// checks that stop every program (spec config.md 1).
//
// A program calls Load once, copies what it needs into its own struct of typed
// settings and hands the Config down where more is needed; there is no global
// configuration. Load returns trouble as an error whose text is what Postfix
// says after "fatal: ". Getters have no error result: a value that does not fit
// its type or limits ends the program through Options.Fatal, as it does in
// Postfix, and a name that is no parameter is a programming error and panics.
//
// The built-in parameters are one table, parameters.tsv.
package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"posthaste/pkg/conf/macro"
)

// Version is the value of the parameter mail_version.
const Version = "3.7.11-posthaste-0.1"

// Config is the configuration of one program. It is immutable and safe for
// concurrent use.
type Config struct {
	dir      string
	settings Settings          // main.cf and -o, unexpanded
	runtime  map[string]string // config_directory, process_name and the like, computed defaults
	origin   string            // first line of the file that myorigin names, or ""
	level    macro.Level
	network  network
	fatal    func(format string, a ...any)
	warn     func(format string, a ...any)
}

// Options says what Load reads and whom it tells about trouble.
type Options struct {
	Dir         string   // configuration directory; "" = $MAIL_CONFIG or /etc/postfix
	Overrides   []string // "name=value" from -o, in order
	ServiceName string   // master.cf service name (-n), for $service_name
	ProcessName string   // base name of argv[0], for $process_name; "" = from os.Args
	// Fatal ends the program: it must not return. Nil panics.
	Fatal func(format string, a ...any)
	Warn  func(format string, a ...any) // nil discards
	Error func(format string, a ...any) // log level "error"; nil = Warn

	noUsers bool // tests: do not look at user and group names
}

func (o *Options) defaults() {
	if o.ProcessName == "" {
		o.ProcessName = filepath.Base(os.Args[0])
	}
	if o.Fatal == nil {
		o.Fatal = func(format string, a ...any) { panic("conf: fatal: " + fmt.Sprintf(format, a...)) }
	}
	if o.Warn == nil {
		o.Warn = func(string, ...any) {}
	}
	if o.Error == nil {
		o.Error = o.Warn
	}
}

// Load reads main.cf, applies the overrides and makes the checks that stop
// every program (spec config.md 1.9 and 1.10).
func Load(o Options) (*Config, error) {
	o.defaults()
	dir := Directory(o.Dir)
	if dir != DefaultDir && Unsafe() {
		if err := authorize(dir, o); err != nil {
			return nil, err
		}
	}
	settings, err := ReadSettings(filepath.Join(dir, "main.cf"), o.Warn)
	if err != nil {
		return nil, err
	}
	for _, arg := range o.Overrides {
		name, value, err := SplitNameValue(arg)
		if err != nil {
			return nil, fmt.Errorf(`invalid "-o %s" option value: %w`, arg, err)
		}
		settings[name] = value
	}
	c := newConfig(dir, settings, o)
	if err := c.check(!o.noUsers); err != nil {
		var m *macro.Error
		if errors.As(err, &m) && !m.Fatal {
			o.Warn("%s", m.Text)
			return nil, errors.New("dictionary mail_dict: macro processing error")
		}
		return nil, err
	}
	return c, nil
}

func authorize(dir string, o Options) error {
	ok, err := authorized(dir, DefaultDir, o.Warn)
	if err != nil {
		return err
	}
	if !ok {
		o.Error("unauthorized configuration directory name: %s", dir)
		return fmt.Errorf(`specify "alternate_config_directories = %s" or "multi_instance_directories = %s" in %s/main.cf`, dir, dir, DefaultDir)
	}
	return nil
}

func newConfig(dir string, settings Settings, o Options) *Config {
	delete(settings, "config_directory")
	return &Config{
		dir: dir, settings: settings, fatal: o.Fatal, warn: o.Warn,
		runtime: map[string]string{
			"config_directory": dir,
			"process_name":     o.ProcessName,
			"process_id":       strconv.Itoa(os.Getpid()),
			"service_name":     o.ServiceName,
		},
	}
}

// FromMap is for tests: the built-in defaults and these settings, without
// reading a file or checking users. A bad value panics, also in a getter.
// Unless m says otherwise the host is named "localhost.localdomain".
func FromMap(m map[string]string) *Config {
	o := Options{Dir: DefaultDir, ProcessName: "test"}
	o.defaults()
	settings := Settings{"myhostname": "localhost.localdomain"}
	for name, value := range m {
		settings[name] = value
	}
	dir := DefaultDir
	if d, ok := settings["config_directory"]; ok {
		dir = d
	}
	c := newConfig(dir, settings, o)
	if err := c.compute(); err != nil {
		panic("conf.FromMap: " + err.Error())
	}
	return c
}

// Dir returns the configuration directory.
func (c *Config) Dir() string { return c.dir }

// MailVersion returns the value of mail_version.
func (c *Config) MailVersion() string { return c.String("mail_version") }

// Level returns the compatibility level.
func (c *Config) Level() macro.Level { return c.level }

// LegacyDefault reports whether the parameter is set neither in main.cf nor by
// -o while compatibility_level is below major.minor, so that its
// backwards-compatible default is in force (spec config.md 1.8).
func (c *Config) LegacyDefault(name string, major, minor int) bool {
	_, set := c.settings[name]
	return !set && c.level.Less(major, minor)
}

// raw returns the unexpanded value: what main.cf says, then what this process
// knows, then the built-in default.
func (c *Config) raw(name string) (string, bool) {
	if isReadOnly(name) {
		value, ok := c.runtime[name]
		return value, ok
	}
	if value, ok := c.settings[name]; ok {
		return value, true
	}
	if value, ok := c.runtime[name]; ok {
		return value, true
	}
	if p, ok := LookupParameter(name); ok && p.Default != Computed {
		return p.Default, true
	}
	return "", false
}

// isReadOnly tells the parameters that main.cf cannot set.
func isReadOnly(name string) bool {
	return name == "process_name" || name == "process_id" || name == "service_name"
}

// Expand replaces the parameter references in text (spec config.md 1.4). A
// reference to a parameter that is not set gives its default, to an unknown
// name nothing. An error is a *macro.Error.
func (c *Config) Expand(text string) (string, error) {
	return macro.Expand(text, c.raw, macro.Options{Recurse: true})
}

// Raw returns the value as it is written, without expansion.
func (c *Config) Raw(name string) string {
	value, ok := c.raw(name)
	if !ok {
		mustKnow(name)
	}
	return value
}

// Explicit returns the value that main.cf or -o gives the name, and whether it
// does. The name can be any, also one defined by the user or made from the name
// of a service. The value is expanded unless the parameter's type is raw.
func (c *Config) Explicit(name string) (value string, ok bool) {
	raw, ok := c.settings[name]
	if !ok {
		return "", false
	}
	if p, known := LookupParameter(name); known && p.Kind == KindRaw {
		return raw, true
	}
	value, err := c.Expand(raw)
	c.must(err)
	return value, true
}

// List returns the words of the expanded value, split at commas and blanks
// outside { }.
func (c *Config) List(name string) []string { return FieldsBraced(c.String(name)) }

// mustKnow panics when name is no parameter.
func mustKnow(name string) Parameter {
	p, ok := LookupParameter(name)
	if !ok {
		panic("conf: unknown parameter " + name)
	}
	return p
}

// must ends the program when err is not nil.
func (c *Config) must(err error) {
	if err == nil {
		return
	}
	var m *macro.Error
	if errors.As(err, &m) && !m.Fatal {
		c.warn("%s", m.Text)
		c.fatal("dictionary mail_dict: macro processing error")
	} else {
		c.fatal("%s", strings.TrimPrefix(err.Error(), "fatal: "))
	}
	panic("conf: Options.Fatal returned after: " + err.Error())
}

// Warnf hands a warning about the configuration to Options.Warn.
func (c *Config) Warnf(format string, a ...any) { c.warn(format, a...) }
