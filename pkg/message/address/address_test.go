package address

import (
	"reflect"
	"strings"
	"testing"
)

// Expected values were taken from Debian's cleanup 3.7.11 and routing.md §2.
func TestParseString(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"alice, Bob Smith <bob@host>", "alice, Bob Smith <bob@host>"},
		{`"Carol (x)" <carol@example.com> (a comment)`, `"Carol (x)" <carol@example.com>(a comment)`},
		{"group: dave, erin@host;, frank@a.b", "group: dave, erin@host;, frank@a.b"},
		{"a b c <x@y.z> d", "a b c <x@y.z>, d"},
		{"a;b", "a;, b"},
		{"joe () (c)x", "joe, x () (c)"},
		{"@: x.example<a@b>", "@:x.example <a@b>"},
		{"a@(c)", "a@ (c)"},
		{"", ""}, {",", ", "}, {"<>", "<>"}, {`\`, `""`}, {`\\a`, `"\\a"`}, {`"x`, `"x"`}, {"[1.2", "[1.2]"},
		{"<a,b>", "<a,b>"},
	} {
		if got := Parse(c.in, 0).String(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestExtractAddrs(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"Bob <bob@host>, alice (x)", []string{"bob@host", "alice"}},
		{`"joe blow"@x, a b`, []string{"joe blow@x", "a", "b"}},
		{"friends: a, b;, c", []string{"a", "b", "c"}},
		{"@r,@s:joe@x", []string{"@r", "@s:joe@x"}},
		{"<@r,@s:joe@x>", []string{"@r, @s:joe@x"}},
		{"joe@[1.2.3.4]", []string{"joe@[1.2.3.4]"}},
		{"<>", nil}, {"(only a comment)", nil}, {"", nil},
	} {
		if got := ExtractAddrs(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestScanLimit(t *testing.T) {
	if l := Scan("a, b, c", 3); l.String() != "a, b" {
		t.Errorf("got %q", l.String())
	}
}

func TestQuote(t *testing.T) {
	for _, c := range []struct{ internal, external string }{
		{"joe@x", "joe@x"}, {"joe blow@x", `"joe blow"@x`}, {"", `""`}, {"@x", `""@x`}, {"a..b@x", `"a..b"@x`},
		{".a@x", `".a"@x`}, {"a.@x", `"a."@x`}, {`a"b\c@x`, `"a\"b\\c"@x`}, {"a@b@c", `"a@b"@c`}, {"@r:a b@c", `@r:"a b"@c`},
		{"jos\u00e9@x", "jos\u00e9@x"}, {"joe", "joe"}, {"a b", `"a b"`},
	} {
		if got := Quote(c.internal); got != c.external {
			t.Errorf("Quote(%q) = %q, want %q", c.internal, got, c.external)
		}
		if got := Unquote(c.external); got != c.internal {
			t.Errorf("Unquote(%q) = %q, want %q", c.external, got, c.internal)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in, local, domain string
		found             bool
	}{
		{"a@b@c", "a@b", "c", true}, {`"a@b"`, `"a@b"`, "", false}, {`"a@b"@c`, `"a@b"`, "c", true},
		{`a"b@c`, `a"b`, "c", true}, {"joe@", "joe", "", true}, {"joe", "joe", "", false},
	} {
		if l, d, f := Cut(c.in); l != c.local || d != c.domain || f != c.found {
			t.Errorf("%q: %q %q %v", c.in, l, d, f)
		}
	}
}

func TestExtensions(t *testing.T) {
	e := Extensions{Delimiters: "+-", DoubleBounce: "double-bounce", OwnerRequest: true}
	for _, c := range []struct{ in, user, ext string }{
		{"joe+x-y", "joe", "+x-y"}, {"joe-x+y", "joe", "-x+y"}, {"+x", "+x", ""}, {"joe", "joe", ""},
		{"Mailer-Daemon", "Mailer-Daemon", ""}, {"double-bounce", "double-bounce", ""}, {"OWNER-list", "OWNER-list", ""},
		{"list-Request", "list-Request", ""}, {"list-requests", "list", "-requests"}, {"postmaster", "postmaster", ""},
	} {
		if u, x, _ := e.Split(c.in); u != c.user || x != c.ext {
			t.Errorf("%q: %q %q", c.in, u, x)
		}
	}
	if s, x := StripExtension("joe+x@y", "+"); s != "joe@y" || x != "+x" || AddExtension(s, x) != "joe+x@y" {
		t.Errorf("%q %q", s, x)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`a, "b c" <d@e> (f (g)) h: i, j;`, `\`, `((`, "[\"", "<a:b,@", "a@b@(c)", ";;::,,<<>>"} {
		f.Add(s, 0)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		l := Parse(s, limit)
		flat := Scan(s, limit)
		if limit > 0 && len(flat) > limit {
			t.Fatalf("%d tokens, limit %d", len(flat), limit)
		}
		once := l.String()
		if len(once) > 4*len(s)+16 {
			t.Errorf("%q grew to %q", s, once)
		}
		for _, a := range ExtractAddrs(s) {
			if back := Unquote(Quote(a)); strings.IndexByte(a, '@') < 0 && back != a {
				t.Errorf("%q came back as %q", a, back)
			}
		}
	})
}
