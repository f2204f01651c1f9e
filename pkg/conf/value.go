package conf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// String returns the expanded value of a parameter of any type; a raw one is
// returned unexpanded. Only the length of str and raw values is checked.
func (c *Config) String(name string) string {
	value, err := c.str(c.parameter(name))
	c.must(err)
	return value
}

// Int returns the value of an int parameter.
func (c *Config) Int(name string) int { return int(c.Int64(name)) }

// Int64 returns the value of an int or long parameter.
func (c *Config) Int64(name string) int64 {
	value, err := c.integer(c.parameter(name))
	c.must(err)
	return value
}

// Bool returns the value of a bool parameter.
func (c *Config) Bool(name string) bool {
	value, err := c.boolean(c.parameter(name))
	c.must(err)
	return value
}

// Duration returns the value of a time parameter.
func (c *Config) Duration(name string) time.Duration {
	value, err := c.duration(c.parameter(name))
	c.must(err)
	return value
}

// TransportInt returns the value of transport_suffix, for example
// ("smtp", "destination_concurrency_limit"), else of default_suffix.
func (c *Config) TransportInt(transport, suffix string) int {
	value, err := c.integer(c.transport(transport, suffix))
	c.must(err)
	return int(value)
}

// TransportDuration is TransportInt for time parameters.
func (c *Config) TransportDuration(transport, suffix string) time.Duration {
	value, err := c.duration(c.transport(transport, suffix))
	c.must(err)
	return value
}

// TransportString is TransportInt for string parameters.
func (c *Config) TransportString(transport, suffix string) string {
	value, err := c.str(c.transport(transport, suffix))
	c.must(err)
	return value
}

// ServiceDuration returns the value of service+suffix, for example
// ("maildrop", "_time_limit", "command_time_limit"), else of defaultName.
func (c *Config) ServiceDuration(service, suffix, defaultName string) time.Duration {
	value, err := c.duration(c.derived(service+suffix, defaultName))
	c.must(err)
	return value
}

// parameter describes name. One that is set but not built in is a string.
func (c *Config) parameter(name string) Parameter {
	if p, ok := LookupParameter(name); ok {
		return p
	}
	if _, set := c.settings[name]; set {
		return Parameter{Name: name}
	}
	return mustKnow(name)
}

// transport describes a parameter of a delivery transport.
func (c *Config) transport(transport, suffix string) Parameter {
	defaultName := "default_" + suffix
	if suffix == "initial_destination_concurrency" {
		defaultName = suffix
	}
	return c.derived(transport+"_"+suffix, defaultName)
}

// derived describes a parameter made from a service's name, whose default is
// another parameter's value and whose limits are those of spec config.md 1.12.
func (c *Config) derived(name, defaultName string) Parameter {
	if p, ok := LookupParameter(name); ok {
		return p
	}
	p := mustKnow(defaultName)
	p.Name, p.Default = name, "$"+defaultName
	p.Min, p.Max = 0, 0
	for _, s := range ServiceParameters("pipe") {
		if s.Default == defaultName {
			p.Min, p.Max = s.Min, s.Max
		}
	}
	return p
}

// expanded returns the expanded value and default.
func (c *Config) expanded(p Parameter) (value, fallback string, err error) {
	raw, ok := c.raw(p.Name)
	if p.Default != Computed {
		if fallback, err = c.Expand(p.Default); err != nil {
			return "", "", err
		}
	}
	if !ok {
		return fallback, fallback, nil
	}
	value, err = c.Expand(raw)
	return value, fallback, err
}

func (c *Config) str(p Parameter) (string, error) {
	if p.Name == "myorigin" && c.origin != "" {
		return c.origin, nil
	}
	raw, ok := c.raw(p.Name)
	if !ok && p.Default != Computed {
		raw = p.Default
	}
	value, form := raw, "bad string length (%d %s %d): %s = %s"
	if p.Kind != KindRaw {
		var err error
		if value, err = c.Expand(raw); err != nil {
			return "", err
		}
		form = "bad string length %d %s %d: %s = %s"
	}
	if p.Kind != KindString && p.Kind != KindRaw {
		return value, nil
	}
	if n := int64(len(value)); p.Min > 0 && n < p.Min {
		return "", fmt.Errorf(form, n, "<", p.Min, p.Name, value)
	} else if p.Max > 0 && n > p.Max {
		return "", fmt.Errorf(form, n, ">", p.Max, p.Name, value)
	}
	return value, nil
}

func (c *Config) integer(p Parameter) (int64, error) {
	text, _, err := c.expanded(p)
	if err != nil {
		return 0, err
	}
	bits := 32
	if p.Kind == KindLong {
		bits = 64
	}
	value, err := strconv.ParseInt(TrimLeft(text), 10, bits)
	if err != nil || strings.Contains(text, "_") {
		return 0, fmt.Errorf("bad numerical configuration: %s = %s", p.Name, text)
	}
	if p.Min != 0 && value < p.Min {
		return 0, fmt.Errorf("invalid %s parameter value %d < %d", p.Name, value, p.Min)
	}
	if p.Max != 0 && value > p.Max {
		return 0, fmt.Errorf("invalid %s parameter value %d > %d", p.Name, value, p.Max)
	}
	return value, nil
}

func (c *Config) boolean(p Parameter) (bool, error) {
	text, _, err := c.expanded(p)
	switch {
	case err != nil:
		return false, err
	case strings.EqualFold(text, "yes"):
		return true, nil
	case strings.EqualFold(text, "no"):
		return false, nil
	}
	return false, fmt.Errorf("bad boolean configuration: %s = %s", p.Name, text)
}

func (c *Config) duration(p Parameter) (time.Duration, error) {
	text, fallback, err := c.expanded(p)
	if err != nil {
		return 0, err
	}
	unit := byte('s')
	for i := 0; i < len(fallback); i++ {
		if b := fallback[i] | 0x20; b >= 'a' && b <= 'z' {
			unit = fallback[i]
			break
		}
	}
	value, err := ParseDuration(text, unit)
	if err != nil {
		return 0, fmt.Errorf("parameter %s: bad time value or unit: %s", p.Name, text)
	}
	seconds := int64(value / time.Second)
	if p.Min != 0 && seconds < p.Min {
		return 0, fmt.Errorf("invalid %s: %d (min %d)", p.Name, seconds, p.Min)
	}
	if p.Max != 0 && seconds > p.Max {
		return 0, fmt.Errorf("invalid %s: %d (max %d)", p.Name, seconds, p.Max)
	}
	return value, nil
}

// ErrBadTime says that a text is no time value.
var ErrBadTime = errors.New("bad time value or unit")

// ParseDuration parses a time value: digits and a unit letter s, m, h, d or w,
// or the given unit. Text after the unit letter is ignored (spec config.md
// 1.5). The result is below 2^31-1 seconds.
func ParseDuration(text string, unit byte) (time.Duration, error) {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	value, err := strconv.ParseInt(text[:n], 10, 32)
	if err != nil {
		return 0, ErrBadTime
	}
	if n < len(text) {
		unit = text[n]
	}
	seconds, ok := map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[unit|0x20]
	if !ok || unit < 'A' || value > (math.MaxInt32-1)/seconds {
		return 0, ErrBadTime
	}
	return time.Duration(value*seconds) * time.Second, nil
}
