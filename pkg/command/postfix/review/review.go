// Package review reads a configuration as an experienced administrator would
// and says what is probably not meant, although every program accepts it:
// misspelt names, values that will stop a program, tables that are not there,
// certificates about to expire, open relays, domains of two classes and -o
// options that have no effect. "postfix check" shows what it finds.
package review

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/mastercf"
)

// Finding is one thing that is probably not meant.
type Finding struct {
	File      string `json:"file"`
	Line      int    `json:"line"` // of the setting's first line, or of the -o
	Kind      string `json:"kind"` // one of the Kind constants
	Parameter string `json:"parameter"`
	Service   string `json:"service,omitempty"` // "name/type"; "" for main.cf
	Text      string `json:"text"`
}

// String returns "FILE:LINE: TEXT".
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text) }

// The kinds of findings.
const (
	KindUnknown     = "unknown-parameter"
	KindValue       = "bad-value"
	KindTable       = "table"
	KindCertificate = "certificate"
	KindRelay       = "open-relay"
	KindDomain      = "domain-class"
	KindNotRead     = "not-read"
	KindDeprecated  = "deprecated-parameter"
	KindRestriction = "restriction"
	KindService     = "service"
)

// Review looks at main.cf and master.cf in the directory of c, which has been
// read from there; unused is what postconf says about them. The findings come
// in the order of files and lines.
func Review(c *conf.Config, now time.Time, unused []Unused) ([]Finding, error) {
	r := &reviewer{config: c, now: now, mainFile: filepath.Join(c.Dir(), "main.cf"), masterFile: filepath.Join(c.Dir(), "master.cf"), lines: map[string]int{}}
	if err := r.readMain(); err != nil {
		return nil, err
	}
	if err := r.readMaster(); err != nil {
		return nil, err
	}
	r.unknown(unused)
	for _, look := range []func(){r.values, r.words, r.comments, r.networks, r.together, r.milters, r.tables, r.files, r.restrictions, r.certificates, r.relay, r.domains,
		r.destinations, r.commands, r.notRead, r.deprecations} {
		look()
	}
	slices.SortStableFunc(r.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(r.findings), nil
}

// Unusable returns only the findings that would end a program at its start:
// values out of type or range of parameters that a program of master.cf reads.
func Unusable(c *conf.Config) ([]Finding, error) {
	r := &reviewer{config: c, mainFile: filepath.Join(c.Dir(), "main.cf"), masterFile: filepath.Join(c.Dir(), "master.cf"), lines: map[string]int{}}
	if err := r.readMain(); err != nil {
		return nil, err
	}
	if err := r.readMaster(); err != nil {
		return nil, err
	}
	for _, p := range r.places() {
		for _, name := range p.names() {
			if err := p.config().Valid(name); err != nil && p.isRead(name) {
				p.add(KindValue, name, "%s", err)
			}
		}
	}
	return r.findings, nil
}

// isRead tells whether a program of the place reads a parameter. Those that a
// service creates count as read.
func (p place) isRead(name string) bool {
	b, ok := conf.LookupParameter(name)
	if !ok {
		return true
	}
	services := p.r.services
	if p.s != nil {
		services = []*service{p.s}
	}
	return reads("master", b) || slices.ContainsFunc(services, func(s *service) bool {
		program := cmp.Or(aliases[s.program], s.program)
		return reads(program, b)
	})
}

// reviewer is one review.
type reviewer struct {
	config               *conf.Config
	now                  time.Time
	mainFile, masterFile string
	names                []string       // that main.cf sets, in its order
	lines                map[string]int // where; the last one counts
	services             []*service
	findings             []Finding
}

// service is an entry of master.cf.
type service struct {
	name, typ, program string
	line               int
	names              []string // that -o sets
	lines              map[string]int
	stray              string       // the first word that is no option
	config             *conf.Config // with the -o
}

func (s *service) String() string { return s.name + "/" + s.typ }

// place is main.cf, or one service.
type place struct {
	r *reviewer
	s *service // nil: main.cf
}

func (p place) config() *conf.Config {
	if p.s != nil {
		return p.s.config
	}
	return p.r.config
}

func (p place) names() []string {
	if p.s != nil {
		return p.s.names
	}
	return p.r.names
}

// value returns the expanded value of a name; one that cannot be expanded,
// which values tells, is empty.
func (p place) value(name string) string {
	value, err := p.config().Value(name)
	if err != nil {
		return ""
	}
	return value
}

// add notes a finding about a parameter: where the place sets it, else where
// main.cf does, else at the place itself.
func (p place) add(kind, parameter, format string, a ...any) {
	f := Finding{File: p.r.mainFile, Line: max(1, p.r.lines[parameter]), Kind: kind, Parameter: parameter, Text: fmt.Sprintf(format, a...)}
	if p.s != nil {
		f.Service = p.s.String()
		if line, ok := p.s.lines[parameter]; ok {
			f.File, f.Line = p.r.masterFile, line
		} else if _, ok := p.r.lines[parameter]; !ok {
			f.File, f.Line = p.r.masterFile, p.s.line
		}
	}
	p.r.findings = append(p.r.findings, f)
}

// places are main.cf and the services that override something.
func (r *reviewer) places() []place {
	list := []place{{r, nil}}
	for _, s := range r.services {
		if len(s.names) > 0 {
			list = append(list, place{r, s})
		}
	}
	return list
}

// read calls f for each logical line of a file.
func read(path string, f func(conf.Line)) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %s", path, conf.Reason(err))
	}
	defer file.Close()
	lines := conf.NewLineReader(file, path, nil)
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %s", path, conf.Reason(err))
		}
		f(line)
	}
}

func (r *reviewer) readMain() error {
	return read(r.mainFile, func(line conf.Line) {
		name, _, err := conf.SplitNameValue(line.Text)
		if err != nil {
			return // conf.Load would have refused the file
		}
		if _, ok := r.lines[name]; !ok {
			r.names = append(r.names, name)
		}
		r.lines[name] = line.First
	})
}

func (r *reviewer) readMaster() error {
	text, err := os.ReadFile(r.masterFile)
	if err != nil {
		return fmt.Errorf("open %s: %s", r.masterFile, conf.Reason(err))
	}
	physical := strings.Split(string(text), "\n")
	const fields = 8
	return read(r.masterFile, func(line conf.Line) {
		words := mastercf.Split(line.Text)
		if len(words) < fields {
			words = append(words, make([]string, fields-len(words))...)
		}
		s := &service{name: words[0], typ: words[1], program: filepath.Base(words[fields-1]), line: line.First, lines: map[string]int{}}
		settings := conf.Settings{}
		given, rest := options(words[fields:])
		if len(rest) > 0 {
			s.stray = rest[0]
		}
		for _, setting := range given {
			name, value, err := conf.SplitNameValue(setting)
			if err != nil {
				s.stray = cmp.Or(s.stray, setting)
				continue
			}
			if _, ok := settings[name]; !ok {
				s.names = append(s.names, name)
			}
			settings[name] = value
			s.lines[name] = find(physical, line, name)
		}
		s.config = r.config.With(settings)
		r.services = append(r.services, s)
	})
}

// withValue are the letters of daemons' options that take a value (spec
// master.md §1.2).
const withValue = "imnost"

// options returns what the leading -o options of a command set, and the words
// from the first that is no option.
func options(words []string) (list, rest []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			return list, slices.DeleteFunc(slices.Clone(words[i:]), func(w string) bool { return w == "" || w == "--" })
		}
		at := strings.IndexAny(word[1:], withValue) + 1
		if at == 0 {
			continue
		}
		value := word[at+1:]
		if value == "" && i+1 < len(words) {
			i++
			value = words[i]
		}
		if word[at] != 'o' {
			continue
		}
		if inner, err := conf.Unbrace(value); err == nil {
			value = inner
		}
		list = append(list, value)
	}
	return list, nil
}

// find returns the number of the last physical line of an entry on which the
// name stands before an equals sign.
func find(physical []string, line conf.Line, name string) int {
	for n := min(line.Last, len(physical)); n >= line.First; n-- {
		text := physical[n-1]
		if body := conf.TrimLeft(text); strings.HasPrefix(body, "#") {
			continue
		}
		for rest := text; ; {
			_, after, ok := strings.Cut(rest, name)
			if !ok {
				break
			}
			if strings.HasPrefix(conf.TrimLeft(after), "=") {
				return n
			}
			rest = after
		}
	}
	return line.First
}
