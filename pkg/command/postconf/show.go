package postconf

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Widths of the output.
const (
	lineLimit = 80
	indent    = 4
)

// showParameters prints main.cf parameters (-p).
func (p *program) showParameters(m *model, classes class) error {
	names := p.opt.args
	if len(names) == 0 {
		names = m.names(classes)
		if p.opt.has('n') {
			names = m.explicit(names)
		}
	}
	for _, name := range names {
		if _, ok := m.class(name); !ok {
			p.warn("%s: unknown parameter", name)
			continue
		}
		if err := p.showParameter(m, name); err != nil {
			return err
		}
	}
	return nil
}

// explicit keeps the names that are set.
func (m *model) explicit(names []string) []string {
	var set []string
	for _, name := range names {
		if _, ok := m.main[name]; ok {
			set = append(set, name)
		}
	}
	return set
}

func (p *program) showParameter(m *model, name string) error {
	if p.opt.has('n') {
		if _, ok := m.main[name]; !ok {
			return nil
		}
	}
	value, err := m.value(name)
	if p.opt.has('d') {
		value, err = m.fallback(name)
	}
	if err != nil {
		return err
	}
	if p.opt.has('x') && !isRaw(name) {
		if value, err = (scope{m, nil}).expandAt(value, 1); err != nil {
			return err
		}
	}
	p.printLine(name, value)
	return nil
}

// printLine prints "name = value" as -h, -H and -f want it.
func (p *program) printLine(name, value string) {
	words := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' })
	switch {
	case p.opt.has('j'):
		p.printJSON(name, strings.Join(words, " "))
		return
	case p.opt.has('H'):
		words = []string{name}
	case !p.opt.has('h'):
		words = append([]string{name, "="}, words...)
	}
	p.out.WriteString(p.fold(words) + "\n")
}

// printJSON prints an object with one member, on a line of its own (-j).
func (p *program) printJSON(name, value string) {
	p.out.WriteString("{" + quoteJSON(name) + ": " + quoteJSON(value) + "}\n")
}

// quoteJSON returns a JSON string; bytes that are not UTF-8 become U+FFFD.
func quoteJSON(s string) string {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string can always be encoded
		return `""`
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// fold joins words by blanks, with -f by a new line where a line would get too
// long.
func (p *program) fold(words []string) string {
	if !p.opt.has('f') {
		return strings.Join(words, " ")
	}
	var out strings.Builder
	length := 0
	for i, word := range words {
		switch {
		case i == 0:
		case length+len(word) < lineLimit:
			out.WriteByte(' ')
			length++
		default:
			out.WriteString("\n    ")
			length = indent
		}
		out.WriteString(word)
		length += len(word)
	}
	return out.String()
}
