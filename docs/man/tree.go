package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "posthaste/"

// tree is what the Go sources say: which programs there are and which
// parameters each of them names in its code, that of its imports included.
type tree struct {
	root     string
	programs []string
	packages map[string]*source
	readers  map[string][]string // programs by parameter, sorted
	daemons  int                 // programs that are services of master
}

// source is one package without its tests.
type source struct {
	files    []*ast.File
	imports  []string // ours, without the module's name
	literals []string // string literals that look like (part of) a name
}

func (t *tree) has(program string) bool { return slices.Contains(t.programs, program) }

func readTree(root string, ps *parameters) (*tree, error) {
	t := &tree{root: root, packages: map[string]*source{}, readers: map[string][]string{}}
	entries, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			t.programs = append(t.programs, e.Name())
		}
	}
	for _, program := range t.programs {
		if program == "posthaste" {
			continue // all programs in one
		}
		closure, err := t.closure("cmd/" + program)
		if err != nil {
			return nil, err
		}
		if slices.Contains(closure, "pkg/service") && program != "master" {
			t.daemons++
		}
		for _, name := range t.named(program, closure, ps) {
			t.readers[name] = append(t.readers[name], program)
		}
	}
	return t, nil
}

// common tells whether every daemon reads a parameter.
func (t *tree) common(name string) bool { return len(t.readers[name]) >= t.daemons }

// closure lists a package and all of ours that it is made of.
func (t *tree) closure(dir string) ([]string, error) {
	list := []string{dir}
	for i := 0; i < len(list); i++ {
		s, err := t.source(list[i])
		if err != nil {
			return nil, err
		}
		for _, path := range s.imports {
			if !slices.Contains(list, path) {
				list = append(list, path)
			}
		}
	}
	return list, nil
}

// source parses a package once.
func (t *tree) source(dir string) (*source, error) {
	if s, ok := t.packages[dir]; ok {
		return s, nil
	}
	s := &source{}
	files, err := filepath.Glob(filepath.Join(t.root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.add(f)
	}
	t.packages[dir] = s
	return s, nil
}

func (s *source) add(f *ast.File) {
	s.files = append(s.files, f)
	for _, i := range f.Imports {
		if path, err := strconv.Unquote(i.Path.Value); err == nil {
			if rest, ours := strings.CutPrefix(path, module); ours && !slices.Contains(s.imports, rest) {
				s.imports = append(s.imports, rest)
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if _, ok := n.(*ast.ImportSpec); ok {
			return false
		}
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil && len(text) < 60 {
				s.literals = append(s.literals, text)
			}
		}
		return true
	})
}

// siblings are programs made of one package that names its parameters without
// the prefix, which is the program's name.
var siblings = map[string]string{"smtp": "lmtp_", "lmtp": "smtp_"}

// named lists the parameters whose names stand in the packages, sorted: whole,
// or without the prefix that says whose it is, where the table agrees that the
// program reads it.
func (t *tree) named(program string, packages []string, ps *parameters) (list []string) {
	seen := map[string]bool{}
	note := func(name string, whole bool) {
		r, known := ps.rows[name]
		if !known || !whole && !slices.Contains(r.programs, program) {
			return
		}
		if other, ok := siblings[program]; ok && strings.HasPrefix(name, other) && !slices.Contains(r.programs, program) {
			return
		}
		seen[name] = true
	}
	for _, dir := range packages {
		for _, text := range t.packages[dir].literals {
			note(text, true)
			for _, prefix := range prefixes(program) {
				note(prefix+strings.TrimPrefix(text, "_"), false)
			}
			// milter_PLACE_macros
			note("milter_"+text+"_macros", false)
		}
	}
	for name := range seen {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// prefixes are what the names of a program's own parameters begin with.
func prefixes(program string) []string {
	return []string{program + "_", program + "_tls_", program + "_sasl_", "default_", "unverified_sender_", "unverified_recipient_"}
}
