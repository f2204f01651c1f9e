package postconf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// request is an argument "service/type/third"; "*" matches everything.
type request struct {
	text    string
	parts   [3]string
	matched bool
}

// matches reports whether the request is about the entry.
func (r *request) matches(name, typ string) bool {
	return (r.parts[0] == "*" || r.parts[0] == name) && (r.parts[1] == "*" || r.parts[1] == typ)
}

// modeParts says how many parts an argument of a mode has.
var modeParts = map[byte]int{'M': 2, 'F': 3, 'P': 3}

// splitRequest splits an argument into its parts; missing ones are "*".
func splitRequest(text string, most int) (r *request, given int, ok bool) {
	r = &request{text: text, parts: [3]string{"*", "*", "*"}}
	parts := strings.Split(text, "/")
	for len(parts) > 1 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	if len(parts) > most {
		return nil, 0, false
	}
	for i, part := range parts {
		if part == "" || part != "*" && strings.Contains(part, "*") {
			return nil, 0, false
		}
		r.parts[i] = part
	}
	return r, len(parts), true
}

// requests parses the arguments of -M, -F or -P.
func (p *program) requests() ([]*request, error) {
	syntax := map[byte]string{
		'M': "-M option requires service_name[/type]",
		'F': "-F option requires service_name[/type[/field]]",
		'P': "-P option requires service_name[/type[/parameter]]",
	}
	mode := p.opt.mode()
	if len(p.opt.args) == 0 {
		return []*request{{parts: [3]string{"*", "*", "*"}, matched: true}}, nil
	}
	var list []*request
	for _, arg := range p.opt.args {
		r, _, ok := splitRequest(arg, modeParts[mode])
		if !ok {
			return nil, errors.New(syntax[mode])
		}
		if mode == 'F' && r.parts[2] != "*" && !slices.Contains(fieldNames[:], r.parts[2]) {
			return nil, fmt.Errorf(`invalid service attribute name: "%s"`, r.parts[2])
		}
		list = append(list, r)
	}
	return list, nil
}

// showServices prints master.cf entries (-M), their fields (-F) or their
// parameters (-P).
func (p *program) showServices(m *model) error {
	list, err := p.requests()
	if err != nil {
		return err
	}
	show := map[byte]func(*model, *entry, *request) error{
		'M': p.showEntry, 'F': p.showFields, 'P': p.showSettings,
	}[p.opt.mode()]
	for _, e := range m.services {
		shown := e
		if p.opt.has('x') {
			if shown, err = m.expanded(e); err != nil {
				return err
			}
		}
		for _, r := range list {
			if r.matches(e.fields[fieldName], e.fields[fieldType]) {
				if err := show(m, shown, r); err != nil {
					return err
				}
			}
		}
	}
	for _, r := range list {
		if !r.matched {
			p.warn(`unmatched request: "%s"`, r.text)
		}
	}
	return nil
}

// expanded returns a copy of the entry with the -o values expanded.
func (m *model) expanded(e *entry) (*entry, error) {
	c := *e
	c.args = slices.Clone(e.args)
	for i := 0; i+1 < c.options; i++ {
		if c.args[i] != "-o" {
			continue
		}
		i++
		name, value, ok := strings.Cut(c.args[i], "=")
		if !ok {
			continue
		}
		value, err := (scope{m, e}).expand(value)
		if err != nil {
			return nil, err
		}
		c.args[i] = name + "=" + value
	}
	c.findParameters()
	return &c, nil
}

func (p *program) showEntry(_ *model, e *entry, r *request) error {
	r.matched = true
	if p.opt.has('j') {
		p.printJSON(e.fields[fieldName]+"/"+e.fields[fieldType], e.text(false))
		return nil
	}
	p.out.WriteString(e.text(p.opt.has('f')) + "\n")
	return nil
}

func (p *program) showFields(_ *model, e *entry, r *request) error {
	for i, name := range fieldNames {
		if r.parts[2] != "*" && r.parts[2] != name {
			continue
		}
		r.matched = true
		line := e.fields[i]
		label := e.fields[fieldName] + "/" + e.fields[fieldType] + "/" + name
		switch {
		case p.opt.has('H'):
			p.out.WriteString(label + "\n")
			continue
		case !p.opt.has('h') && !p.opt.has('j'):
			line = label + " = " + line
		}
		if i == fieldCommand {
			line = appendArgs(line, e, p.opt.has('f'))
		}
		if p.opt.has('j') {
			p.printJSON(label, line)
			continue
		}
		p.out.WriteString(line + "\n")
	}
	return nil
}

func (p *program) showSettings(m *model, e *entry, r *request) error {
	names := slices.Collect(maps.Keys(e.parameters))
	if p.opt.merged {
		names = append(names, m.names(builtin|service|user)...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if r.parts[2] != "*" && r.parts[2] != name {
			continue
		}
		r.matched = true
		value, err := p.serviceValue(m, e, name)
		if err != nil {
			return err
		}
		p.printLine(e.fields[fieldName]+"/"+e.fields[fieldType]+"/"+name, value)
	}
	return nil
}

// serviceValue returns a parameter's value as the service sees it. What -o
// sets has been expanded already where that is wanted.
func (p *program) serviceValue(m *model, e *entry, name string) (string, error) {
	if value, ok := e.parameters[name]; ok {
		return value, nil
	}
	value, err := m.value(name)
	if err == nil && p.opt.has('x') && !isRaw(name) {
		value, err = scope{m, e}.expandAt(value, 1)
	}
	return value, err
}
