package conf

import "maps"

// With returns a configuration in which the settings override what main.cf
// says, as -o does for one service. What was computed from other settings
// stays as it is.
func (c *Config) With(settings Settings) *Config {
	clone := *c
	clone.settings = maps.Clone(c.settings)
	maps.Copy(clone.settings, settings)
	return &clone
}

// Valid checks a value of main.cf against the type and limits of its
// parameter, where the getters would end the program. The name can be one that
// a service creates; of a name that is no parameter any value is valid.
func (c *Config) Valid(name string) error {
	p, ok := LookupParameter(name)
	if !ok {
		if p, ok = created(name); !ok {
			return nil
		}
	}
	return c.valid(p)
}

// created describes a parameter that a service creates, if the name ends like
// one (spec config.md 1.12).
func created(name string) (Parameter, bool) {
	for _, s := range ServiceParameters("pipe") {
		if len(name) > len(s.Suffix) && name[len(name)-len(s.Suffix):] == s.Suffix {
			return Parameter{Name: name, Kind: s.Kind, Default: "$" + s.Default, Min: s.Min, Max: s.Max}, true
		}
	}
	return Parameter{}, false
}

// IsSet tells whether main.cf or -o gives the name a value.
func (c *Config) IsSet(name string) bool {
	_, ok := c.settings[name]
	return ok
}

// Text returns the unexpanded value of a name, which can be any; ok is false
// if it has none.
func (c *Config) Text(name string) (value string, ok bool) { return c.raw(name) }

// Value returns the expanded value of a name, which can be any; one that has
// none is empty. The error is a *macro.Error; the program goes on.
func (c *Config) Value(name string) (string, error) {
	text, _ := c.raw(name)
	if p, ok := LookupParameter(name); ok && p.Kind == KindRaw {
		return text, nil
	}
	return c.Expand(text)
}
