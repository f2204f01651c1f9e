package main

import (
	"compress/gzip"
	"go/ast"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const root = "../.."

func manualOf(t *testing.T) *manual {
	t.Helper()
	m, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// loaded reads the whole tree, once.
var loaded = sync.OnceValues(func() (*manual, error) { return load(root) })

func TestEveryProgramHasItsPage(t *testing.T) {
	m := manualOf(t)
	for _, program := range m.tree.programs {
		if m.sectionOf(program) == "" && !slices.ContainsFunc(m.pages, func(p *page) bool { return p.name == program && p.same != "" }) {
			t.Errorf("cmd/%s has no page", program)
		}
	}
	for _, p := range m.pages {
		if p.program() && !m.tree.has(p.name) {
			t.Errorf("%s: there is no such program in cmd", p)
		}
		if name, section, ok := strings.Cut(p.same, "."); ok && !slices.ContainsFunc(m.pages, func(o *page) bool { return o.name == name && o.section == section }) {
			t.Errorf("%s is another name of %s, which does not exist", p, p.same)
		}
	}
}

func TestPagesAreWhole(t *testing.T) {
	for _, p := range manualOf(t).pages {
		if p.same != "" {
			continue
		}
		want := []string{"DESCRIPTION"}
		if p.program() {
			want = []string{"SYNOPSIS", "DESCRIPTION"}
		}
		if p.section == "1" {
			want = append(want, "OPTIONS", "EXIT STATUS")
		}
		for _, title := range want {
			if s := p.find(title); s == nil || len(s.parts) == 0 {
				t.Errorf("%s: no %s", p, title)
			}
		}
	}
}

// A page that another one refers to exists, here or in the system.
func TestReferencesLeadSomewhere(t *testing.T) {
	system := []string{"date(1)", "services(5)", "strftime(3)", "syslog(3)"}
	m := manualOf(t)
	known := func(ref string) bool {
		return slices.Contains(system, ref) || slices.ContainsFunc(m.pages, func(p *page) bool { return p.name+"("+p.section+")" == ref })
	}
	for _, p := range m.pages {
		for _, ref := range p.references() {
			if !known(ref) {
				t.Errorf("%s refers to %s", p, ref)
			}
		}
	}
	for name, text := range m.params.sentence {
		for _, ref := range inline.FindAllString(text, -1) {
			if !strings.HasPrefix(ref, "`") && !known(ref) {
				t.Errorf("%s refers to %s", name, ref)
			}
		}
	}
}

// load fails when a parameter lacks a sentence or a sentence its parameter;
// this is about what sentences say.
func TestSentencesNameParametersThatExist(t *testing.T) {
	m := manualOf(t)
	word := regexp.MustCompile(`[a-z0-9]+(_[A-Za-z0-9]+)+`)
	quoted := regexp.MustCompile("`[^`]*`")
	check := func(where, text string) {
		if strings.Count(text, "`")%2 != 0 {
			t.Errorf("%s: a stray back quote in %q", where, text)
		}
		for _, w := range word.FindAllString(quoted.ReplaceAllString(text, ""), -1) {
			_, known := m.params.rows[w]
			restriction := strings.HasPrefix(w, "reject_") || strings.HasPrefix(w, "permit_")
			table := m.sectionOf5(w)
			if !known && !restriction && !table {
				t.Errorf("%s: there is no parameter %s", where, w)
			}
		}
	}
	for name, text := range m.params.sentence {
		if !strings.HasSuffix(text, ".") {
			t.Errorf("%s: not a sentence: %s", name, text)
		}
		check(name, text)
	}
	for _, p := range m.pages {
		for _, s := range p.sections {
			for _, part := range s.parts {
				if part.kind != verbatim {
					check(p.String(), strings.Join(part.text, " "))
				}
			}
		}
	}
}

func (m *manual) sectionOf5(name string) bool {
	return slices.ContainsFunc(m.pages, func(p *page) bool { return p.name == name && p.section == "5" })
}

// TestReadersAreFound: what the sources say, for some whose names are written
// in each of the ways there are.
func TestReadersAreFound(t *testing.T) {
	m := manualOf(t)
	for _, c := range []struct{ parameter, program string }{
		{"smtpd_helo_required", "smtpd"},
		{"smtp_helo_name", "smtp"},
		{"lmtp_lhlo_name", "lmtp"},
		{"address_verify_relayhost", "trivial-rewrite"},
		{"milter_connect_macros", "smtpd"},
		{"default_destination_concurrency_limit", "qmgr"},
		{"local_destination_recipient_limit", "qmgr"},
		{"unverified_sender_reject_code", "smtpd"},
		{"smtpd_policy_service_timeout", "smtpd"},
		{"virtual_uid_maps", "virtual"},
		{"queue_directory", "postcat"},
	} {
		if !slices.Contains(m.tree.readers[c.parameter], c.program) {
			t.Errorf("%s does not seem to read %s", c.program, c.parameter)
		}
	}
	for _, c := range []struct{ parameter, program string }{
		{"smtp_helo_name", "lmtp"}, {"lmtp_lhlo_name", "smtp"}, {"mailbox_command", "smtpd"}, {"smtpd_banner", "bounce"}, {"body_checks", "smtp"},
	} {
		if slices.Contains(m.tree.readers[c.parameter], c.program) {
			t.Errorf("%s seems to read %s", c.program, c.parameter)
		}
	}
}

func TestOptions(t *testing.T) {
	m := manualOf(t)
	for _, p := range m.pages {
		if !p.program() || p.same != "" || p.name == "posthaste" || !m.tree.has(p.name) {
			continue
		}
		want, ok := m.tree.accepted(t, p.name)
		if !ok {
			t.Errorf("%s: cannot find out what options it takes", p)
			continue
		}
		var got []byte
		if s := p.find("OPTIONS"); s != nil {
			for _, tag := range s.tags() {
				for _, word := range strings.Split(tag, ", ") {
					if len(word) > 1 && word[0] == '-' && !slices.Contains(got, word[1]) {
						got = append(got, word[1])
					}
				}
			}
		}
		if _, alias := other[p.name]; alias && len(got) == 0 {
			continue // says that it takes those of the other program
		}
		for _, c := range want {
			if !slices.Contains(got, c) {
				t.Errorf("%s: -%c is not documented", p, c)
			}
		}
		for _, c := range got {
			if !slices.Contains(want, c) {
				t.Errorf("%s: -%c is documented and does not exist", p, c)
			}
		}
	}
}

// accepted are a program's option letters, as its package gives them to
// getopt or tests them by itself, or pkg/service does.
func (t *tree) accepted(tt *testing.T, program string) (letters []byte, ok bool) {
	tt.Helper()
	own := t.packages["cmd/"+program].imports
	if closure, err := t.closure("cmd/" + program); err == nil && slices.Contains(closure, "pkg/service") && program != "master" {
		own = append([]string{"pkg/service"}, own...)
	}
	for _, dir := range own {
		if dir == "pkg/command" {
			continue
		}
		for _, spec := range t.specs(tt, dir) {
			ok = true
			for _, c := range []byte(spec) {
				if c != ':' && c != '+' && !slices.Contains(letters, c) {
					letters = append(letters, c)
				}
			}
		}
	}
	return letters, ok
}

// specs are the strings of option letters in a package.
func (t *tree) specs(tt *testing.T, dir string) (list []string) {
	s, err := t.source(dir)
	if err != nil {
		tt.Fatal(err)
	}
	consts := map[string]string{} // also "package.Name"
	var values func(e ast.Expr) (string, bool)
	values = func(e ast.Expr) (string, bool) {
		switch e := e.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		case *ast.Ident:
			text, ok := consts[e.Name]
			return text, ok
		case *ast.SelectorExpr:
			x, ok := e.X.(*ast.Ident)
			if !ok {
				return "", false
			}
			text, ok := consts[x.Name+"."+e.Sel.Name]
			return text, ok
		case *ast.BinaryExpr:
			a, ok1 := values(e.X)
			b, ok2 := values(e.Y)
			return a + b, ok1 && ok2
		}
		return "", false
	}
	visit := func(s *source, f func(ast.Node)) {
		for _, file := range s.files {
			ast.Inspect(file, func(n ast.Node) bool { f(n); return true })
		}
	}
	note := func(s *source, prefix string) {
		visit(s, func(n ast.Node) {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
				if text, ok := values(v.Values[0]); ok {
					consts[prefix+v.Names[0].Name] = text
				}
			}
		})
	}
	note(s, "")
	for _, path := range s.imports {
		if i, err := t.source(path); err == nil {
			note(i, filepath.Base(path)+".")
		}
	}
	visit(s, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if fun, ok := n.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "Parse" && len(n.Args) == 2 {
				if x, ok := fun.X.(*ast.Ident); ok && x.Name == "getopt" {
					if text, ok := values(n.Args[1]); ok {
						list = append(list, text)
					}
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Options" {
				if text, ok := values(n.Value); ok {
					list = append(list, text)
				}
			}
		}
	})
	if dir == "pkg/service" {
		return []string{consts["common"]}
	}
	if list != nil {
		return list
	}
	// By hand: the characters that a function for options compares with.
	letters := ""
	visit(s, func(n ast.Node) {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "options" && f.Name.Name != "parseOptions" {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.CHAR {
				if c := lit.Value[1]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
					letters += string(c)
				}
			}
			return true
		})
	})
	if letters == "" {
		return nil
	}
	return []string{letters}
}

// What a table may say is what the daemon's source lists, and the other way
// round.
func TestActions(t *testing.T) {
	m := manualOf(t)
	word := regexp.MustCompile("`([A-Z][A-Z_]*)")
	upper := regexp.MustCompile(`^[A-Z][A-Z_]*$`)
	for _, c := range []struct{ page, pkg, where string }{
		{"access", "pkg/daemon/smtpd", "accessActions"},
		{"header_checks", "pkg/daemon/cleanup", "actions"},
	} {
		s, err := m.tree.source(c.pkg)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		for _, file := range s.files {
			ast.Inspect(file, func(n ast.Node) bool {
				var body ast.Node
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Name.Name == c.where {
						body = n.Body
					}
				case *ast.ValueSpec:
					if n.Names[0].Name == c.where {
						body = n
					}
				}
				if body == nil {
					return true
				}
				ast.Inspect(body, func(n ast.Node) bool {
					e, ok := n.(*ast.CompositeLit)
					if !ok {
						return true
					}
					for _, x := range e.Elts {
						if kv, ok := x.(*ast.KeyValueExpr); ok {
							x = kv.Key
						}
						if lit, ok := x.(*ast.BasicLit); ok && lit.Kind == token.STRING {
							if text, _ := short(lit); upper.MatchString(text) {
								want[text] = true
							}
						}
					}
					return true
				})
				return false
			})
		}
		got := map[string]bool{}
		for _, p := range m.pages {
			if s := p.find("ACTIONS"); p.name == c.page && s != nil {
				for _, tag := range s.tags() {
					for _, w := range word.FindAllStringSubmatch(tag, -1) {
						got[w[1]] = true
					}
				}
			}
		}
		if len(want) < 5 {
			t.Errorf("%s: cannot find the actions: %v", c.pkg, want)
		}
		for w := range want {
			if !got[w] {
				t.Errorf("%s(5) lacks %s", c.page, w)
			}
		}
		for w := range got {
			if !want[w] {
				t.Errorf("%s(5) has %s, which does not exist", c.page, w)
			}
		}
	}
}

func TestRendering(t *testing.T) {
	dir := t.TempDir()
	if err := run(root, dir, false); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "man*", "*"))
	if err != nil || len(files) < 50 {
		t.Fatal(len(files), err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not here to read the pages")
	}
	cmd := exec.Command(groff, append([]string{"-man", "-Tascii", "-P-cbou", "-ww", "-rLL=78n"}, files...)...)
	cmd.Dir = dir // for .so
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Errorf("%v\n%s", err, warnings.String())
	}
	if n := strings.Count(string(out), "\nDESCRIPTION\n"); n != len(files) {
		t.Errorf("%d files have %d descriptions", len(files), n)
	}
}

// With -z a link that Debian has for a page is replaced, not written through.
func TestCompressed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "man8"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("smtp.8postfix.gz", filepath.Join(dir, "man8", "lmtp.8postfix.gz")); err != nil {
		t.Fatal(err)
	}
	if err := run(root, dir, true); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"man1/postconf.1.gz": "postconf.1.txt", "man8/smtp.8postfix.gz": "smtp.8.txt", "man8/lmtp.8postfix.gz": "lmtp.8.txt",
	} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s is not made from %s: %v", file, want, err)
		}
		f.Close()
	}
}
