package mastercf

import (
	"strings"

	"posthaste/pkg/conf"
)

// pattern is one item of master_service_disable: "type" or "name/type".
type pattern struct {
	name, typ string // name "" = any
	negate    bool
}

// parseDisable parses the list. The old form name.type is read as name/type.
func parseDisable(list string) []pattern {
	var patterns []pattern
	for _, word := range conf.Fields(list) {
		text := strings.TrimLeft(word, "!")
		p := pattern{negate: (len(word)-len(text))%2 == 1}
		slash := strings.LastIndexByte(text, '/')
		if slash < 0 {
			slash = strings.LastIndexByte(text, '.')
		}
		if slash < 0 {
			p.typ = text
		} else {
			p.name, p.typ = text[:slash], text[slash+1:]
		}
		patterns = append(patterns, p)
	}
	return patterns
}

// matches reports what the first pattern that fits says.
func matches(patterns []pattern, name, typ string) bool {
	for _, p := range patterns {
		if strings.EqualFold(p.typ, typ) && (p.name == "" || strings.EqualFold(p.name, name)) {
			return !p.negate
		}
	}
	return false
}
