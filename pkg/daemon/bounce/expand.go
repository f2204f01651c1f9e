package bounce

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// variables are the parameters that a template may refer to.
type variables interface {
	// Lookup gives a parameter's value; ok is false for one that bounce does
	// not have.
	Lookup(name string) (value string, ok bool)
	// Duration gives one of the time parameters with units.
	Duration(name string) time.Duration
}

// configVars are those of main.cf: what is set there, and what every program
// has.
type configVars struct{ *conf.Config }

func (v configVars) Lookup(name string) (string, bool) {
	if commonParameter(name) {
		return v.String(name), true
	}
	value, ok := v.Explicit(name)
	if !ok {
		return "", false
	}
	expanded, err := v.Expand(value)
	return expanded, err == nil
}

// units of the time parameters in templates.
var units = []struct {
	name string
	unit time.Duration
}{
	{"seconds", time.Second},
	{"minutes", time.Minute},
	{"hours", time.Hour},
	{"days", 24 * time.Hour},
	{"weeks", 7 * 24 * time.Hour},
}

var timeParameters = []string{"delay_warning_time", "maximal_queue_lifetime"}

// expand returns the text of a template with its references replaced. The error
// is a mistake in the template, of the kind that Postfix does not survive
// (routing.md §5.5).
func (s *templateSet) expand(t *template) ([]string, error) {
	lines := make([]string, 0, len(t.text))
	for _, line := range t.text {
		var trouble error
		out, err := macro.Expand(line, func(name string) (string, bool) {
			value, ok, err := s.value(t, name)
			if trouble == nil {
				trouble = err
			}
			if !ok && trouble == nil {
				trouble = fmt.Errorf("%s: undefined $name in %s template: %s", t.origin, t.class, line)
			}
			return visible(value, s.utf8), ok
		}, macro.Options{})
		if err != nil {
			return nil, fmt.Errorf("%s: bad $name syntax in %s template: %s", t.origin, t.class, line)
		}
		if trouble != nil {
			return nil, trouble
		}
		lines = append(lines, out)
	}
	return lines, nil
}

// value looks one name up.
func (s *templateSet) value(t *template, name string) (value string, ok bool, err error) {
	for _, p := range timeParameters {
		if suffix, found := strings.CutPrefix(name, p+"_"); found {
			return s.interval(t, p, suffix)
		}
	}
	value, ok = s.vars.Lookup(name)
	if ok && s.utf8 && (name == "myhostname" || name == "mydomain") {
		if u, err := idna.ToUnicode(value); err == nil {
			value = u
		}
	}
	return value, ok, nil
}

// interval formats a time parameter in a unit, and complains when the number
// will look silly.
func (s *templateSet) interval(t *template, param, suffix string) (string, bool, error) {
	for _, u := range units {
		if u.name != suffix {
			continue
		}
		d, full := s.vars.Duration(param), param+"_"+u.name
		n := int64(d / u.unit)
		switch {
		case n > 999 && u.unit < 24*time.Hour:
			s.log.Warn("%s: excessive result \"%d\" in %s template conversion of parameter \"%s\"", t.origin, n, t.class, full)
			s.log.Warn("please increase time unit \"%s\" of \"%s\" in %s template", u.name, full, t.class)
			s.log.Warn("for instructions see the bounce(5) manual")
		case n == 0 && d > 0:
			s.log.Warn("%s: zero result in %s template conversion of parameter \"%s\"", t.origin, t.class, full)
			s.log.Warn("please reduce time unit \"%s\" of \"%s\" in %s template", u.name, full, t.class)
			s.log.Warn("for instructions see the bounce(5) manual")
		}
		return strconv.FormatInt(n, 10), true, nil
	}
	return "", false, fmt.Errorf("unrecognized suffix \"%s\" in parameter \"%s\"", suffix, param+"_"+suffix)
}

// visible replaces what is not printable in a value by '_'.
func visible(value string, utf8 bool) string {
	var b strings.Builder
	for _, r := range value {
		if r < ' ' || r == 0x7f || r == '\uFFFD' || !utf8 && r >= 0x80 {
			r = '_'
		}
		b.WriteRune(r)
	}
	return b.String()
}
