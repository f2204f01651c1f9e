package local

import (
	"regexp"
	"strings"
	"sync"

	"posthaste/pkg/conf/macro"
	"posthaste/pkg/sys/cred"
)

// macros are the names that forward_path, luser_relay and
// command_execution_directory may refer to.
type macros struct {
	state      *state
	id         *cred.Identity // nil when there is no such user
	delimiters string

	undefined bool // a name without a value was referred to
	extension bool // $extension was
}

// plain matches references that are not the condition of a choice. They get
// another name, so that a lookup can tell the two apart.
var plain = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\$\$|\$\{\s*(\w+)\s*\}|\$\(\s*(\w+)\s*\)|\$(\w+)`)
})

const plainPrefix = "plain_"

func (m *macros) expand(text, filter string) (string, error) {
	text = plain().ReplaceAllStringFunc(text, func(ref string) string {
		if ref == "$$" {
			return ref
		}
		return "${" + plainPrefix + strings.Trim(ref, "${}() \t") + "}"
	})
	return macro.Expand(text, m.lookup, macro.Options{Filter: filter})
}

func (m *macros) lookup(name string) (string, bool) {
	name, isPlain := strings.CutPrefix(name, plainPrefix)
	value, ok := m.value(name)
	if isPlain && !ok {
		m.undefined = true
	}
	if name == "extension" {
		m.extension = true
	}
	return value, ok
}

func (m *macros) value(name string) (string, bool) {
	s := m.state
	switch name {
	case "user":
		return s.user, true
	case "local", "mailbox":
		return s.local, true
	case "domain":
		return s.domain, true
	case "recipient":
		return s.rcpt.Address, true
	case "extension":
		if s.extension == "" {
			return "", false
		}
		return s.extension[1:], true
	case "recipient_delimiter":
		if s.extension != "" {
			return s.extension[:1], true
		}
		return m.delimiters[:min(1, len(m.delimiters))], m.delimiters != ""
	case "home":
		return m.account(func(id *cred.Identity) string { return id.Home })
	case "shell":
		return m.account(func(id *cred.Identity) string { return id.Shell })
	}
	return "", false
}

func (m *macros) account(get func(*cred.Identity) string) (string, bool) {
	if m.id == nil || get(m.id) == "" {
		return "", false
	}
	return get(m.id), true
}
