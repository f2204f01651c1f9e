package table_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/table/tabletest"
)

func capture(t *testing.T) (table.Env, *maillog.Buffer) {
	log, buffer := maillog.Capture()
	return table.Env{Log: log}, buffer
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour) // texthash waits for files that are hot
	os.Chtimes(path, old, old)
	return path
}

func mustOpen(t *testing.T, spec string, flags table.Flags) table.Table {
	t.Helper()
	tab, err := table.Open(table.Env{Strict: true}, spec, flags)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func create(t *testing.T, spec string, pairs map[string]string, flags table.Flags) {
	t.Helper()
	w, err := table.Create(table.Env{}, spec, table.Replace, flags)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range pairs {
		if err := w.Put(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	text := func(format string) string {
		var b strings.Builder
		for key, value := range tabletest.Pairs() {
			fmt.Fprintf(&b, format, key, value)
		}
		return b.String()
	}
	const flags = table.Lock | table.FoldFix | table.UTF8Request
	specs := map[string]func(t *testing.T) string{
		"texthash":  func(t *testing.T) string { return "texthash:" + write(t, "t", text("%s %s\n")) },
		"cidr":      func(t *testing.T) string { return "cidr:" + write(t, "t", text("%s %s\n")) },
		"regexp":    func(t *testing.T) string { return "regexp:" + write(t, "t", text("/^%s$/ %s\n")) },
		"pcre":      func(t *testing.T) string { return `pcre:` + write(t, "t", text(`/^%s\z/ %s`+"\n")) },
		"inline":    func(t *testing.T) string { return "inline:{" + text("{%s = %s} ") + "}" },
		"unionmap":  func(t *testing.T) string { return "unionmap:{inline:{" + text("{%s = %s} ") + "}}" },
		"pipemap":   func(t *testing.T) string { return "pipemap:{inline:{" + text("{%s = %s} ") + "}}" },
		"tcp":       func(t *testing.T) string { return "tcp:" + serve(t, tcpServer) },
		"socketmap": func(t *testing.T) string { return "socketmap:inet:" + serve(t, socketmapServer) + ":m" },
	}
	for _, typ := range []string{"hash", "btree", "cdb"} {
		for _, null := range []table.Flags{0, table.Try0Null, table.Try1Null} {
			specs[fmt.Sprint(typ, " ", null)] = func(t *testing.T) string {
				spec := typ + ":" + filepath.Join(t.TempDir(), "t")
				create(t, spec, tabletest.Pairs(), null)
				return spec
			}
		}
	}
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			tabletest.Run(t, func(t *testing.T) table.Table { return mustOpen(t, spec(t), flags) })
		})
	}
}

func TestUpdates(t *testing.T) {
	for _, typ := range []string{"hash", "btree", "internal"} {
		for _, flags := range []table.Flags{table.Lock, table.OpenLock} {
			t.Run(fmt.Sprint(typ, flags), func(t *testing.T) {
				spec := typ + ":" + filepath.Join(t.TempDir(), "cache")
				tab, err := table.OpenMode(table.Env{Strict: true}, spec, table.ReadWriteCreate, flags)
				if err != nil {
					t.Fatal(err)
				}
				tabletest.RunUpdates(t, tab)
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
				if typ == "internal" {
					return
				}
				again := mustOpen(t, spec, table.Lock)
				defer again.Close()
				if v, found, err := again.Lookup(context.Background(), "key299"); v != "299" || !found || err != nil {
					t.Errorf("after close: %q, %v, %v", v, found, err)
				}
			})
		}
	}
}

// serve starts a line-oriented server for one table; it ends with the test.
func serve(t *testing.T, handle func(conn net.Conn)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
	return l.Addr().String()
}

func tcpServer(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		key := strings.TrimPrefix(in.Text(), "get ")
		if value, ok := tabletest.Pairs()[key]; ok {
			fmt.Fprintf(conn, "200 %s\n", strings.NewReplacer(" ", "%20", "\t", "%09").Replace(value))
		} else {
			fmt.Fprint(conn, "500 no\n")
		}
	}
}

func socketmapServer(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		var n int
		if _, err := fmt.Fscanf(r, "%d:", &n); err != nil {
			return
		}
		data := make([]byte, n+1)
		for i := range data {
			data[i], _ = r.ReadByte()
		}
		key := strings.TrimPrefix(string(data[:n]), "m ")
		reply := "NOTFOUND "
		if value, ok := tabletest.Pairs()[key]; ok {
			reply = "OK " + value
		}
		fmt.Fprintf(conn, "%d:%s,", len(reply), reply)
	}
}

func TestFolding(t *testing.T) {
	for _, c := range []struct {
		key   string
		flags table.Flags
		found bool
	}{
		{"KEY", table.FoldFix, true},
		{"KEY", 0, false},
		{"STRASSE", table.FoldFix | table.UTF8Request, true},
		{"straße", table.FoldFix | table.UTF8Request, true},
		{"Äb", table.FoldFix | table.UTF8Request, true},
		{"Äb", table.FoldFix, false},
		{"äB", table.FoldFix, true},
	} {
		tab := mustOpen(t, "inline:{key=v, strasse=v, äb=v}", c.flags)
		if _, found, err := tab.Lookup(context.Background(), c.key); found != c.found || err != nil {
			t.Errorf("%s with %s: %v, %v", c.key, c.flags, found, err)
		}
	}
}

func TestReplacedFile(t *testing.T) {
	ctx := context.Background()
	for _, typ := range []string{"hash", "btree", "cdb"} {
		t.Run(typ, func(t *testing.T) {
			dir := t.TempDir()
			spec := typ + ":" + filepath.Join(dir, "t")
			create(t, spec, map[string]string{"k": "old"}, 0)
			tab := mustOpen(t, spec, table.Lock)
			defer tab.Close()
			expect := func(want string) {
				t.Helper()
				if v, _, err := tab.Lookup(ctx, "k"); v != want || err != nil {
					t.Fatalf("got %q, %v; want %q", v, err, want)
				}
			}
			expect("old")
			if table.Changed(tab) {
				t.Error("changed at once")
			}
			create(t, spec, map[string]string{"k": "rewritten", "l": "x"}, 0)
			expect("rewritten")
			if !table.Changed(tab) {
				t.Error("rewriting not seen")
			}
			// Another file in its place.
			other := filepath.Join(dir, "u")
			create(t, typ+":"+other, map[string]string{"k": "replaced"}, 0)
			suffix := ".db"
			if typ == "cdb" {
				suffix = ".cdb"
			}
			if err := os.Rename(other+suffix, filepath.Join(dir, "t")+suffix); err != nil {
				t.Fatal(err)
			}
			expect("replaced")
			os.Remove(filepath.Join(dir, "t") + suffix)
			expect("replaced") // the open file stays usable
		})
	}
}

// TestAbort: a writer that is given up leaves the old table.
func TestAbort(t *testing.T) {
	spec := "hash:" + filepath.Join(t.TempDir(), "t")
	create(t, spec, map[string]string{"k": "v"}, 0)
	w, err := table.Create(table.Env{}, spec, table.Replace, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Put("k", "new")
	w.Abort()
	tab := mustOpen(t, spec, table.Lock)
	defer tab.Close()
	if v, _, err := tab.Lookup(context.Background(), "k"); v != "v" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestUnavailable(t *testing.T) {
	env, log := capture(t)
	m, err := table.OpenMaps(env, "test_maps", "hash:/no/such/file, static:x", table.Lock)
	if err != nil {
		t.Fatal(err)
	}
	_, found, err := m.Find(context.Background(), "key")
	var e *table.Error
	if found || !errors.As(err, &e) || !e.Temporary {
		t.Errorf("found %v, error %v", found, err)
	}
	want := "error: open database /no/such/file.db: No such file or directory\n" +
		"warning: hash:/no/such/file is unavailable. open database /no/such/file.db: No such file or directory\n" +
		"warning: hash:/no/such/file lookup error for \"key\""
	if got := strings.Join(log.Lines(), "\n"); got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
	if _, err := table.Open(table.Env{Strict: true}, "hash:/no/such/file", 0); err == nil || err.Error() != "open database /no/such/file.db: No such file or directory" {
		t.Errorf("strict: %v", err)
	}
	if _, err := table.Open(env, "word", 0); err == nil || err.Error() != `open dictionary: expecting "type:name" form instead of "word"` {
		t.Errorf("no type: %v", err)
	}
}

func TestMaps(t *testing.T) {
	ctx := context.Background()
	env, log := capture(t)
	m, err := table.OpenMaps(env, "alias_maps", "inline:{a=1 {c = }}, inline:{ a=2, b=3 }\n\tregexp:{{/z/ re}}", table.FoldFix)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		mask table.Flags
		want string
	}{{"A", 0, "1"}, {"b", 0, "3"}, {"z", 0, "re"}, {"z", table.Fixed, ""}, {"", 0, ""}, {"x", 0, ""}} {
		v, found, err := m.FindFlags(ctx, c.key, c.mask)
		if v != c.want || found != (c.want != "") || err != nil {
			t.Errorf("%q: %q, %v, %v", c.key, v, found, err)
		}
	}
	_, found, err := m.Find(ctx, "c")
	if found || err == nil || table.IsTemporary(err) {
		t.Errorf("empty value: %v, %v", found, err)
	}
	if got := strings.Join(log.Lines(), "|"); got != "warning: alias_maps lookup of c returns an empty string result|warning: alias_maps should return NO RESULT in case of NOT FOUND" {
		t.Error(got)
	}
	if name, changed := m.Changed(); changed {
		t.Errorf("%s changed", name)
	}
	var none *table.Maps
	if _, found, err := none.Find(ctx, "x"); found || err != nil || !none.Empty() {
		t.Error("nil Maps")
	}
}

func TestRegistryName(t *testing.T) {
	spec := "hash:" + filepath.Join(t.TempDir(), "aliases")
	create(t, spec, map[string]string{"a": "b"}, 0)
	tab := mustOpen(t, spec, table.Lock|table.Paranoid|table.FoldFix|table.UTF8Request)
	defer tab.Close()
	want := spec + "(0,lock|no_regsub|no_proxy|no_unauth|fold_fix|utf8_request)"
	if got := table.RegistryName(tab); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParanoid(t *testing.T) {
	for spec, want := range map[string]string{
		"tcp:localhost:1":                "tcp:localhost:1 map is not allowed for security sensitive data",
		"socketmap:inet:localhost:1:map": "socketmap:inet:localhost:1:map map is not allowed for security-sensitive data",
	} {
		if _, err := table.Open(table.Env{Strict: true}, spec, table.Paranoid); err == nil || err.Error() != want {
			t.Errorf("%s: %v", spec, err)
		}
	}
	env, log := capture(t)
	tab, err := table.Open(env, `regexp:{{/(.)/ x$1}, {/a/ plain}}`, table.Paranoid)
	if err != nil {
		t.Fatal(err)
	}
	if v, _, _ := tab.Lookup(context.Background(), "a"); v != "plain" {
		t.Errorf("got %q", v)
	}
	if l := log.Lines(); len(l) != 1 || !strings.HasSuffix(l[0], "line 1: regular expression substitution is not allowed: skipping this rule") {
		t.Errorf("logged %q", l)
	}
}

// TestBacktracking: a pattern that needs the backtracking engine ends in time.
func TestBacktracking(t *testing.T) {
	env, log := capture(t)
	tab, err := table.Open(env, `pcre:{{/^(a+)+\1$/ bad}}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, found, err := tab.Lookup(context.Background(), strings.Repeat("a", 60)+"!")
	if found || err != nil || time.Since(start) > 20*time.Second {
		t.Errorf("%v, %v after %v", found, err, time.Since(start))
	}
	if l := log.Lines(); len(l) != 1 || !strings.Contains(l[0], "line 1: match limit exceeded") {
		t.Errorf("logged %q", l)
	}
}
