package handbook

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	steps, err := parse(strings.Join([]string{
		"A title: with a colon", "", "Prose, and more prose:", "",
		"$ postfix start", "bob$ ls", "    a", "", "    b", "until outside$ true",
		"file /etc/x 600 bob:bob:", "    one", "    ", "      two", "log:", "    x", ""}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{line: 5, verb: "$", args: "postfix start"},
		{line: 6, verb: "$", user: "bob", args: "ls", block: []string{"a", "", "b"}},
		{line: 10, verb: "$", user: "outside", again: true, args: "true"},
		{line: 11, verb: "file", args: "/etc/x 600 bob:bob", block: []string{"one", "", "  two"}},
		{line: 15, verb: "log", block: []string{"x"}},
	}
	if !slices.EqualFunc(steps, want, func(a, b step) bool {
		return a.line == b.line && a.verb == b.verb && a.user == b.user && a.again == b.again && a.args == b.args && slices.Equal(a.block, b.block)
	}) {
		t.Errorf("got  %+v\nwant %+v", steps, want)
	}
}

// A page with a slip of the pen must not pass as prose.
func TestParseErrors(t *testing.T) {
	for _, text := range []string{"only prose", "    indented first", "$ true\nprose\n    indented below prose", "lgo:\n    a line", ""} {
		if steps, err := parse(text); err == nil {
			t.Errorf("%q: accepted as %+v", text, steps)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ordered   bool
		missed    string
	}{
		{"a\nb", "x\na\ny\nb", true, ""},
		{"b\na", "a\nb", true, "a"},
		{"b\na", "a\nb", false, ""},
		{"a...c", "abc", true, ""},
		{"a...c", "abcd", true, "a...c"},
		{"a b", "  a\t  b ", true, ""},
		{"(empty)", "\n  \n", true, ""},
		{"(empty)", "x", true, "(empty)"},
		{"! b", "a", true, ""},
		{"! b...", "a\nbc", true, "! b..."},
		{"{id}: from\n{id}: to", "1: from\n2: to\n1: to", false, ""},
		{"{id}: from\n{id}: to", "1: from\n2: to", false, "{id}: to"},
		{"cost (1.5)", "cost (1x5)", false, "cost (1.5)"},
	} {
		n := names{}
		if missed := n.compare(strings.Split(c.want, "\n"), strings.Split(c.got, "\n"), c.ordered); missed != c.missed {
			t.Errorf("%q in %q: %q, want %q", c.want, c.got, missed, c.missed)
		}
	}
}

func TestNames(t *testing.T) {
	n := names{}
	if !n.match("{id}: to=<{who}>, ...", "4F1C2: to=<ann@x.test>, relay=none") {
		t.Fatal("no match")
	}
	if got := n.fill("postsuper -d {id} {other} ${HOME}"); got != "postsuper -d 4F1C2 {other} ${HOME}" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("title\n$ true\n    out\nfile /x:\n    y\n")
	f.Add("until bob$ x\n\n    y\n")
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parse(text)
		if err == nil && len(steps) == 0 {
			t.Error("no steps and no error")
		}
		for _, s := range steps {
			names{}.compare(s.block, []string{"x"}, true)
		}
	})
}
