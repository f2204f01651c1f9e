package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// page is one source file: a line "name - what it is", then sections.
type page struct {
	name, section string
	summary       string
	same          string // "name.section" of the page this one is another name of
	sections      []section
}

// section is a heading and what follows it.
type section struct {
	title string
	parts []part
}

// part is a paragraph, a tagged paragraph or lines to be shown as they are.
type part struct {
	kind partKind
	tag  string // of a tagged paragraph
	text []string
}

type partKind int

const (
	paragraph partKind = iota
	tagged
	verbatim
)

func (p *page) String() string { return p.name + "." + p.section }

// program tells whether the page describes a program rather than a file.
func (p *page) program() bool { return p.section != "5" }

// find returns the section of that title, or nil.
func (p *page) find(title string) *section {
	for i := range p.sections {
		if p.sections[i].title == title {
			return &p.sections[i]
		}
	}
	return nil
}

// tags returns the tags of the section's tagged paragraphs.
func (s *section) tags() (list []string) {
	for _, part := range s.parts {
		if part.kind == tagged {
			list = append(list, part.tag)
		}
	}
	return list
}

var heading = regexp.MustCompile(`^[A-Z][A-Z0-9 ,-]+$`)

// readPage parses pages/NAME.SECTION.txt.
func readPage(file string) (*page, error) {
	base := strings.TrimSuffix(filepath.Base(file), ".txt")
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 {
		return nil, fmt.Errorf("%s: no section in the name", file)
	}
	p := &page{name: base[:dot], section: base[dot+1:]}
	lines, err := readLines(file)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s: empty", file)
	}
	if same, ok := strings.CutPrefix(lines[0], "@same "); ok {
		p.same = same
		return p, nil
	}
	names, summary, ok := strings.Cut(lines[0], " - ")
	if !ok || names != p.name {
		return nil, fmt.Errorf("%s: the first line must be %q and a summary", file, p.name+" - ")
	}
	p.summary = summary
	for i := 1; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.TrimSpace(line) == "":
			continue
		case heading.MatchString(line) && !next(lines, i, "\t"):
			p.sections = append(p.sections, section{title: line})
			continue
		case len(p.sections) == 0:
			return nil, fmt.Errorf("%s:%d: text before the first section", file, i+1)
		}
		s := &p.sections[len(p.sections)-1]
		var one part
		switch {
		case strings.HasPrefix(line, "    "):
			one.kind = verbatim
			for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || lines[i] == "" && next(lines, i, "    ")); i++ {
				one.text = append(one.text, strings.TrimPrefix(lines[i], "    "))
			}
			i--
		case strings.HasPrefix(line, "\t"):
			return nil, fmt.Errorf("%s:%d: indented text without a tag", file, i+1)
		case next(lines, i, "\t"):
			one.kind, one.tag = tagged, line
			for i++; i < len(lines) && strings.HasPrefix(lines[i], "\t"); i++ {
				one.text = append(one.text, strings.TrimSpace(lines[i]))
			}
			i--
		default:
			for ; i < len(lines) && running(lines, i); i++ {
				one.text = append(one.text, lines[i])
			}
			i--
		}
		s.parts = append(s.parts, one)
	}
	return p, nil
}

// running tells whether line i is one of a paragraph.
func running(lines []string, i int) bool {
	line := lines[i]
	return line != "" && !strings.HasPrefix(line, "    ") && !next(lines, i, "\t") && !heading.MatchString(line)
}

// next tells whether the line after i begins with prefix.
func next(lines []string, i int, prefix string) bool {
	return i+1 < len(lines) && strings.HasPrefix(lines[i+1], prefix)
}

// readLines reads a file in which "@include NAME" stands for the lines of
// another one in its directory.
func readLines(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \n")
		if name, ok := strings.CutPrefix(line, "@include "); ok {
			more, err := readLines(filepath.Join(filepath.Dir(file), name))
			if err != nil {
				return nil, err
			}
			lines = append(lines, more...)
			continue
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// readPages reads all pages of a directory, sorted by section and name.
func readPages(dir string) ([]*page, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.[158].txt"))
	if err != nil {
		return nil, err
	}
	var list []*page
	for _, file := range files {
		p, err := readPage(file)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *page) int {
		return cmp.Or(strings.Compare(a.section, b.section), strings.Compare(a.name, b.name))
	})
	return list, nil
}
