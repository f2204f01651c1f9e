// Package guard holds the rules about the source tree as tests: which way
// arrows point, that mains are thin, that packages are documented (DESIGN §2).
package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "posthaste/"

// layers from the bottom up. A package may import packages of its own layer
// and of those below it; the longest prefix decides.
var layers = []struct {
	prefix string
	layer  int
	why    string
}{
	{"pkg/sys", 0, "what Linux gives knows nothing of mail"},
	{"pkg/ipc/attr", 0, "a codec without knowledge of services"},
	{"pkg/ipc/dial", 2, "connections to services, below every protocol"},
	{"pkg/ipc/proxymap", 1, "the proxy: table type is a client of it"},
	{"pkg/conf", 1, ""},
	{"pkg/message", 1, ""},
	{"pkg/table", 2, "tables read the configuration"},
	{"pkg/spool", 3, ""},
	{"pkg/ipc", 4, ""},
	{"pkg/wire", 4, "how we talk to the outside stands beside how programs talk"},
	{"pkg/service", 5, ""},
	{"pkg/command", 6, ""},
	{"pkg/daemon", 6, ""},
	{"cmd", 7, ""},
	{"test", 8, ""},
}

func layer(path string) (n int, prefix string) {
	n = -1
	for _, l := range layers {
		if (path == l.prefix || strings.HasPrefix(path, l.prefix+"/")) && len(l.prefix) > len(prefix) {
			n, prefix = l.layer, l.prefix
		}
	}
	return n, prefix
}

type goPackage struct {
	ImportPath, Dir, Doc string
	Imports, Deps        []string
	GoFiles              []string
}

func top(t *testing.T) string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func packages(t *testing.T) []goPackage {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,Deps,GoFiles", "./cmd/...", "./pkg/...", "./test/...")
	cmd.Dir = top(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, errs.String())
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		list = append(list, p)
	}
}

// member is the program that a package below dir belongs to ("smtpd").
func member(path, dir string) string {
	rest, ok := strings.CutPrefix(path, dir+"/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func TestArrowsPointOneWay(t *testing.T) {
	shared := []string{"", "caller", "getopt", "load", "maptool"} // what commands have in common
	for _, p := range packages(t) {
		from, _ := layer(p.ImportPath)
		if from < 0 {
			t.Errorf("%s: in no layer of DESIGN §2", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			path, ours := strings.CutPrefix(i, module)
			if !ours {
				continue
			}
			to, prefix := layer(path)
			if to > from {
				t.Errorf("%s imports %s: arrows point down (%s)", p.ImportPath, path, prefix)
			}
			if strings.HasPrefix(p.ImportPath, "cmd/") || strings.HasPrefix(p.ImportPath, "test/") {
				continue
			}
			if d := member(path, "pkg/daemon"); d != "" && d != member(p.ImportPath, "pkg/daemon") {
				t.Errorf("%s imports %s: nothing imports a daemon but its main", p.ImportPath, path)
			}
			if c := member(path, "pkg/command"); !slices.Contains(shared, c) && c != member(p.ImportPath, "pkg/command") {
				t.Errorf("%s imports %s: nothing imports a command but its main", p.ImportPath, path)
			}
		}
	}
}

// What talks to the network has no reason to contain a database client
// (DESIGN §5).
func TestDependenciesPerProgram(t *testing.T) {
	forbidden := []string{"database/sql", "github.com/jackc/pgx", "github.com/go-sql-driver", "modernc.org/sqlite", "github.com/go-ldap", "github.com/redis", "net/http"}
	for _, p := range packages(t) {
		name := member(p.ImportPath, "cmd")
		if name == "" || name == "proxymap" || name == "posthaste" || strings.HasPrefix(name, "post") {
			continue
		}
		for _, d := range p.Deps {
			for _, f := range forbidden {
				if d == f || strings.HasPrefix(d, f+"/") {
					t.Errorf("cmd/%s links %s: tables of that kind are reached through proxymap", name, d)
				}
			}
		}
	}
}

func TestMainsAreThin(t *testing.T) {
	for _, p := range packages(t) {
		name := member(p.ImportPath, "cmd")
		if name == "" || name == "posthaste" {
			continue
		}
		for _, f := range p.GoFiles {
			data, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(data, []byte("\n")); n > 30 {
				t.Errorf("cmd/%s/%s has %d lines: a main names the program and calls its package", name, f, n)
			}
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if base := filepath.Base(p.ImportPath); slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, base) {
			t.Errorf("%s: a package is named after its one idea", p.ImportPath)
		}
	}
}

// Start-up stays cheap and nothing happens behind the reader's back: no init
// functions, and no package-level variable that is written to after its
// declaration is initialised (tables of data are fine, so this looks for
// variables without a value).
func TestNoInitNoGlobals(t *testing.T) {
	eachFile(t, "pkg", func(path string, f *ast.File, set *token.FileSet) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: has an init function", set.Position(fn.Pos()))
			}
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				if v := s.(*ast.ValueSpec); len(v.Values) == 0 && v.Names[0].Name != "_" && !embedded(g, v) {
					t.Errorf("%s: package-level variable %s without a value is state shared by all", set.Position(v.Pos()), v.Names[0].Name)
				}
			}
		}
	})
}

// embedded tells a //go:embed variable.
func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed") {
				return true
			}
		}
	}
	return false
}

func TestFilesHoldOneIdea(t *testing.T) {
	const limit = 700
	eachFile(t, "pkg", func(path string, f *ast.File, set *token.FileSet) {
		if n := set.Position(f.End()).Line; n > limit {
			t.Errorf("%s has %d lines: is it two ideas?", path, n)
		}
	})
}

func eachFile(t *testing.T, dir string, visit func(path string, f *ast.File, set *token.FileSet)) {
	set := token.NewFileSet()
	err := filepath.WalkDir(filepath.Join(top(t), dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		visit(strings.TrimPrefix(path, top(t)+"/"), f, set)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
