package postalias

import "testing"

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, key, value, problem string }{
		{"root: joe,  jane", "root", "joe, jane", ""},
		{`"quo ted" : "|/bin/x y"`, "quo ted", `"|/bin/x y"`, ""},
		{"cc: x@y.z (comment), <d@e>", "cc", "x@y.z (comment), <d@e>", ""},
		{"a: x@y: z", "a", "x@y:z", ""},
		{"no colon", "", "", "need name:value pair"},
		{": x", "", "", "need name:value pair"},
		{"x:", "", "", "need name:value pair"},
		{"a,b: c", "", "", "need name:value pair"},
		{"a@b: c", "", "", "name must be local"},
		{"a%b: c", "", "", "name must be local"},
	} {
		key, value, problem := parse(c.text)
		if key != c.key || value != c.value || problem != c.problem {
			t.Errorf("%q: %q, %q, %q", c.text, key, value, problem)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("root: joe, (c) \"|/x y\" <a@b>")
	f.Fuzz(func(t *testing.T, text string) {
		if key, value, problem := parse(text); problem != "" && key+value != "" {
			t.Fatalf("%q, %q with %q", key, value, problem)
		}
	})
}
