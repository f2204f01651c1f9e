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

	"posthaste/pkg/conf"
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
	imports  []string        // ours, without the module's name
	literals map[string]bool // short string literals; true: the one argument of a getter
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
	s := &source{literals: map[string]bool{}}
	files, err := filepath.Glob(filepath.Join(t.root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, "pkg/conf/parameters.go") {
			continue // the latter has names of parameters, and reads none
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
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			if text, ok := short(n); ok {
				if _, known := s.literals[text]; !known {
					s.literals[text] = false
				}
			}
		case *ast.CallExpr:
			fun, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || len(n.Args) != 1 || !slices.Contains(getters, fun.Sel.Name) {
				break
			}
			if lit, ok := n.Args[0].(*ast.BasicLit); ok {
				if text, ok := short(lit); ok {
					s.literals[text] = true
				}
			}
		}
		return true
	})
}

// getters are the methods of conf.Config that read a parameter.
var getters = []string{"String", "Raw", "Int", "Int64", "Bool", "Duration", "List", "Explicit"}

// short is the value of a string literal that is not too long for a name.
func short(lit *ast.BasicLit) (string, bool) {
	if lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil && text != "" && len(text) < 70
}

// other are programs that the table of parameters has under another name.
var other = map[string]string{"nqmgr": "qmgr", "mailq": "sendmail", "newaliases": "sendmail"}

// reads tells whether Postfix's program of that name reads a parameter.
func (r row) reads(program string) bool {
	if o, ok := other[program]; ok {
		program = o
	}
	return slices.ContainsFunc(r.programs, func(p string) bool {
		return p == program || p == "all" || p == "daemons" || p == "tls-library"
	})
}

// named lists the parameters that a program reads, sorted. Their names stand
// in one of its packages: as the argument of a getter; or in any way, whole or
// in pieces to be put together, if Postfix's program reads that parameter, too.
func (t *tree) named(program string, packages []string, ps *parameters) (list []string) {
	for name, r := range ps.rows {
		if slices.ContainsFunc(packages, func(dir string) bool {
			literals := t.packages[dir].literals
			if literals[name] {
				return true
			}
			return r.reads(program) && (made(name, program+"_", literals) || made(name, "default_", literals))
		}) {
			list = append(list, name)
		}
	}
	for _, s := range conf.ServiceParameters("pipe") {
		for name, r := range ps.rows {
			// local_destination_... and the like are read by their suffix.
			if slices.Contains(list, s.Default) && name != s.Default && strings.HasSuffix(name, s.Suffix) && r.reads(program) && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list
}

// made tells whether name is one of the literals, or several of them, the
// first of which may be prefix, joined where underscores are.
func made(name, prefix string, literals map[string]bool) bool {
	if _, ok := literals[name]; ok {
		return true
	}
	if rest, ok := strings.CutPrefix(name, prefix); ok && prefix != "" && made(rest, "", literals) {
		return true
	}
	for at := 1; at < len(name); at++ {
		if name[at-1] != '_' && name[at] != '_' {
			continue
		}
		if _, ok := literals[name[:at]]; ok && made(name[at:], "", literals) {
			return true
		}
	}
	return false
}
