package postconf

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/edit"
	"posthaste/pkg/conf/mastercf"
)

func (p *program) operation() edit.Operation {
	switch {
	case p.opt.has('X'):
		return edit.Remove
	case p.opt.has('#'):
		return edit.Comment
	}
	return edit.Set
}

// checkText refuses arguments that would change more than one line.
func checkText(arg, subject, verb string) error {
	if strings.Contains(arg, "\n") {
		return fmt.Errorf("%s %s no multi-line input", subject, verb)
	}
	if strings.HasPrefix(conf.TrimLeft(arg), "#") {
		return fmt.Errorf("%s %s no comment input", subject, verb)
	}
	return nil
}

// editMain changes main.cf (-e, -X, -#).
func (p *program) editMain() error {
	op := p.operation()
	var list []edit.Setting
	for _, arg := range p.opt.args {
		if err := checkText(arg, "-e, -X, or -#", "accepts"); err != nil {
			return err
		}
		s, err := mainRequest(op, arg)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(list, func(old edit.Setting) bool { return old.Name == s.Name }); i >= 0 {
			if op == edit.Set {
				p.warn("ignoring earlier request: '%s = %s'", list[i].Name, list[i].Value)
			}
			list = slices.Delete(list, i, i+1)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b edit.Setting) int { return strings.Compare(a.Name, b.Name) })
	path := p.path("main.cf")
	return edit.Replace(path, func(r io.Reader, w io.Writer) error {
		return edit.MainCF(r, w, op, list, func(name string) { p.warn(`%s: multiple entries for "%s"`, path, name) })
	})
}

func mainRequest(op edit.Operation, arg string) (edit.Setting, error) {
	if op == edit.Set {
		name, value, err := conf.SplitNameValue(arg)
		return edit.Setting{Name: name, Value: value}, err
	}
	switch {
	case conf.TrimLeft(arg) == "":
		return edit.Setting{}, errors.New("-X or -# requires non-blank parameter names")
	case strings.Contains(arg, "="):
		return edit.Setting{}, errors.New("-X or -# requires parameter names without value")
	}
	return edit.Setting{Name: arg}, nil
}

// masterRequest is one change of master.cf.
type masterRequest struct {
	request
	value string
	entry *entry // -Me: what to write
	done  bool   // -Me: it has been written
}

// editMaster changes master.cf (-Me, -Fe, -Pe, -MX, -M#, -PX).
func (p *program) editMaster() error {
	var list []*masterRequest
	for _, arg := range p.opt.args {
		r, err := p.masterRequest(arg)
		if err != nil {
			return err
		}
		if p.opt.mode() == 'M' && p.operation() == edit.Set {
			list = slices.DeleteFunc(list, func(old *masterRequest) bool { return old.parts == r.parts })
		}
		list = append(list, r)
	}
	path := p.path("master.cf")
	decide := func(s edit.Service) (edit.Change, error) { return p.change(path, s, list) }
	tail := func() string {
		var text strings.Builder
		for _, r := range list {
			if r.entry != nil && !r.done {
				text.WriteString(r.entry.text(true) + "\n")
			}
		}
		return text.String()
	}
	err := edit.Replace(path, func(r io.Reader, w io.Writer) error { return edit.MasterCF(r, w, path, decide, tail) })
	if err != nil || p.opt.mode() == 'M' {
		return err
	}
	for _, r := range list {
		if !r.matched {
			p.warn(`unmatched service_name/type: "%s"`, r.text)
		}
	}
	return nil
}

// masterRequest parses an argument.
func (p *program) masterRequest(arg string) (*masterRequest, error) {
	if err := checkText(arg, "-Me, -Fe, -Pe, -X, or -#", "accept"); err != nil {
		return nil, err
	}
	mode, op := p.opt.mode(), p.operation()
	key, value := arg, ""
	if op == edit.Set {
		var err error
		if key, value, err = conf.SplitNameValue(arg); err != nil {
			return nil, err
		}
	} else if strings.Contains(arg, "=") {
		return nil, errors.New("-X or -# requires names without value")
	}
	syntax := map[byte]string{
		'M': "-Me, -MX or -M# requires service_name/type",
		'F': "-Fe or -FX requires service_name/type/field_name",
		'P': "-Pe or -PX requires service_name/type/parameter",
	}
	r, given, ok := splitRequest(key, modeParts[mode])
	if !ok || given != modeParts[mode] {
		return nil, errors.New(syntax[mode])
	}
	r.text = arg
	m := &masterRequest{request: *r, value: value}
	switch mode {
	case 'F':
		return m, m.checkFieldEdit()
	case 'P':
		return m, m.checkParameterEdit()
	}
	if op == edit.Set {
		var err error
		m.entry, err = parseEntry(value, p.warn)
		if errors.Is(err, errFieldCount) {
			return nil, fmt.Errorf(`bad field count: "%s"`, arg)
		}
		return m, err
	}
	return m, nil
}

func (r *masterRequest) checkFieldEdit() error {
	field := r.parts[2]
	if field == "*" {
		return errors.New("-Fe does not accept wild-card field name")
	}
	i := slices.Index(fieldNames[:], field)
	switch {
	case i < 0:
		return fmt.Errorf(`invalid service attribute name: "%s"`, field)
	case i == fieldCommand:
		if len(mastercf.Split(r.value)) == 0 {
			return fmt.Errorf(`bad field count: "%s"`, r.text)
		}
		return nil
	case strings.ContainsAny(r.value, " \t\r\n"):
		return errors.New("-Fe does not accept whitespace in non-command field")
	}
	return nil
}

func (r *masterRequest) checkParameterEdit() error {
	switch {
	case r.parts[2] == "*":
		return errors.New("-Pe does not accept wild-card parameter name")
	case strings.ContainsAny(r.value, " \t\r\n"):
		return errors.New("-Pe does not accept whitespace in parameter value")
	}
	return nil
}

// change says what becomes of a service.
func (p *program) change(path string, s edit.Service, list []*masterRequest) (edit.Change, error) {
	mode, op := p.opt.mode(), p.operation()
	if mode == 'M' {
		return changeEntry(s, op, list), nil
	}
	var e *entry
	for _, r := range list {
		if !r.matches(s.Name, s.Type) {
			continue
		}
		r.matched = true
		if e == nil {
			var err error
			e, err = parseEntry(s.Text, p.warn)
			if errors.Is(err, errFieldCount) {
				return edit.Change{}, fmt.Errorf("file %s: line %d: %w", path, s.Line, err)
			}
			if err != nil {
				return edit.Change{}, err
			}
		}
		switch {
		case mode == 'F':
			if err := e.setField(r.parts[2], r.value, p.warn); err != nil {
				return edit.Change{}, err
			}
		case op == edit.Set:
			e.setParameter(r.parts[2], r.value)
		default:
			e.removeParameter(r.parts[2])
		}
	}
	if e == nil {
		return edit.Change{}, nil
	}
	return edit.Change{Action: edit.Rewrite, Text: e.text(true) + "\n"}, nil
}

// changeEntry applies -Me, -MX and -M#.
func changeEntry(s edit.Service, op edit.Operation, list []*masterRequest) edit.Change {
	for _, r := range list {
		if !r.matches(s.Name, s.Type) && !(r.entry != nil && r.entry.fields[fieldName] == s.Name && r.entry.fields[fieldType] == s.Type) {
			continue
		}
		switch {
		case op == edit.Comment:
			return edit.Change{Action: edit.CommentUp}
		case op == edit.Remove || r.done:
			return edit.Change{Action: edit.Drop}
		}
		r.done = true
		return edit.Change{Action: edit.Replaced, Text: r.entry.text(true) + "\n"}
	}
	return edit.Change{}
}

func (e *entry) setField(name, value string, warn func(format string, a ...any)) error {
	i := slices.Index(fieldNames[:], name)
	if i != fieldCommand {
		if value == "" {
			return fmt.Errorf(`invalid %s field "" in ""`, name)
		}
		e.fields[i] = value
		return checkField(i, value, value)
	}
	words := mastercf.Split(value)
	e.fields[i] = words[0]
	e.setArgs(words[1:], warn)
	return nil
}

// setParameter changes every -o of the parameter, or adds one after the last
// option.
func (e *entry) setParameter(name, value string) {
	setting, found := name+"="+value, false
	for i := 0; i+1 < e.options; i++ {
		if e.args[i] != "-o" {
			continue
		}
		i++
		if n, _, ok := strings.Cut(e.args[i], "="); ok && n == name {
			e.args[i], found = setting, true
		}
	}
	if !found {
		e.args = slices.Insert(e.args, e.options, "-o", setting)
		e.options += 2
	}
	e.findParameters()
}

func (e *entry) removeParameter(name string) {
	for i := 0; i+1 < e.options; {
		if e.args[i] != "-o" {
			i++
			continue
		}
		if n, _, ok := strings.Cut(e.args[i+1], "="); ok && n == name {
			e.args = slices.Delete(e.args, i, i+2)
			e.options -= 2
			continue
		}
		i += 2
	}
	e.findParameters()
}
