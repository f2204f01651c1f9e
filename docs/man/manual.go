package main

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
)

// manual is all there is to know.
type manual struct {
	pages  []*page
	params *parameters
	tree   *tree
}

func load(root string) (*manual, error) {
	dir := filepath.Join(root, "docs", "man")
	pages, err := readPages(filepath.Join(dir, "pages"))
	if err != nil {
		return nil, err
	}
	params, err := readParameters(filepath.Join(root, "pkg/conf/parameters.tsv"), filepath.Join(dir, "parameters.txt"))
	if err != nil {
		return nil, err
	}
	t, err := readTree(root, params)
	if err != nil {
		return nil, err
	}
	return &manual{pages, params, t}, nil
}

// render makes the man(7) text of a page: its sections, and the generated ones
// PARAMETERS and SEE ALSO at their places.
func (m *manual) render(p *page) string {
	r := &roff{}
	if p.same != "" {
		name, sec, _ := strings.Cut(p.same, ".")
		r.line(".so man%s/%s.%s", sec, name, sec)
		return r.String()
	}
	r.head(p)
	names := m.parametersOf(p)
	for i := range p.sections {
		if s := &p.sections[i]; s.title != "SEE ALSO" {
			r.body(s)
		}
	}
	switch {
	case p.String() == "postconf.5":
		m.allParameters(r)
	case len(names) > 0:
		r.heading("PARAMETERS")
		r.line(".PP")
		r.text([]string{"What this program reads from main.cf, beside what every program reads. postconf(5) describes the values."})
		for _, name := range names {
			r.tagged(m.params.tag(name), []string{m.params.sentence[name]})
		}
	}
	see := p.references()
	if p.program() || p.section == "5" && len(see) == 0 {
		see = append(see, "postconf(5)")
	}
	if p.section == "8" && p.name != "master" && p.name != "posthaste" {
		see = append(see, "master(5)", "master(8)")
	}
	slices.Sort(see)
	see = slices.DeleteFunc(slices.Compact(see), func(ref string) bool { return ref == p.name+"("+p.section+")" })
	r.heading("SEE ALSO")
	r.line(".PP")
	r.text([]string{strings.Join(see, ", ") + "."})
	return r.String()
}

// parametersOf lists the parameters that a program's page describes: those it
// reads and not every other program reads, too.
func (m *manual) parametersOf(p *page) (list []string) {
	if !p.program() || p.name == "posthaste" || p.find("PARAMETERS") != nil {
		return nil
	}
	for _, name := range m.params.names() {
		own := slices.Contains(m.params.rows[name].programs, p.name)
		if slices.Contains(m.tree.readers[name], p.name) && (own || !m.tree.common(name)) {
			list = append(list, name)
		}
	}
	return list
}

// allParameters is what postconf(5) has below its introduction: the groups of
// parameters.txt, and what master.cf creates.
func (m *manual) allParameters(r *roff) {
	for _, g := range m.params.groups {
		r.heading(strings.ToUpper(g.title))
		for _, name := range g.names {
			text := []string{m.params.sentence[name]}
			if value := m.params.value(name); value != "" {
				text = append(text, value)
			}
			r.tagged(m.params.tag(name), append(text, m.usedBy(name)))
		}
	}
	r.heading("PARAMETERS THAT MASTER.CF CREATES")
	r.line(".PP")
	r.text([]string{"An entry of master.cf for a delivery agent, and one for pipe(8) or spawn(8), makes parameters",
		"that begin with the name of the service. Each has the value of the parameter named here until it is set."})
	for _, s := range conf.ServiceParameters("pipe") {
		r.tagged(`\fISERVICE\fP\fB`+literal(s.Suffix)+`\fP (default: \fB$`+literal(s.Default)+`\fP)`,
			[]string{m.params.sentence[s.Default]})
	}
}

// usedBy is the line that names a parameter's programs.
func (m *manual) usedBy(name string) string {
	if m.tree.common(name) {
		return "Read by every daemon."
	}
	var refs []string
	for _, program := range m.tree.readers[name] {
		if s := m.sectionOf(program); s != "" {
			refs = append(refs, program+"("+s+")")
		}
	}
	if len(refs) == 0 {
		if users := m.params.referrers(name); users != "" {
			return "Read as part of the value of " + users + "."
		}
		return "Known, so that an existing main.cf is accepted; no program here reads it."
	}
	return "Read by " + strings.Join(refs, ", ") + "."
}

// sectionOf is the section of a program's page.
func (m *manual) sectionOf(program string) string {
	for _, p := range m.pages {
		if p.name == program && p.program() && p.same == "" {
			return p.section
		}
	}
	return ""
}

// unit words for the one-letter units of time parameters.
var unitWords = map[string]string{"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

// value says of what type a value is and what its limits are; "" for a text
// without limits.
func (ps *parameters) value(name string) string {
	p := ps.rows[name]
	kind, unit, _ := strings.Cut(p.kind, ":")
	text := ""
	switch kind {
	case "bool", "nbool":
		return "Value: `yes` or `no`."
	case "int", "nint", "long":
		text = "Value: a whole number"
	case "time":
		text = "Value: a time, in " + unitWords[unit] + " unless a unit follows (`s`, `m`, `h`, `d`, `w`)"
	case "raw":
		return "Value: a text in which $names are expanded when it is used."
	default:
		if p.min > 0 {
			return "The value must not be empty."
		}
		return ""
	}
	if p.min > 0 {
		text += ", at least " + strconv.FormatInt(p.min, 10)
	}
	if p.max > 0 {
		text += ", at most " + strconv.FormatInt(p.max, 10)
		if kind == "time" {
			text += " seconds"
		}
	}
	return text + "."
}
