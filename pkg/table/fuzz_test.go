package table_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/pkg/table"
)

// fuzzRules fuzzes a rule table by its inline-free file form.
func fuzzRules(f *testing.F, typ string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s, "key")
		f.Add(s, "10.0.0.1")
	}
	path := filepath.Join(f.TempDir(), "rules")
	f.Fuzz(func(t *testing.T, text, key string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tab, err := table.Open(table.Env{Strict: true}, typ+":"+path, 0)
		if err != nil {
			return
		}
		if _, _, err := tab.Lookup(context.Background(), key); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRegexp(f *testing.F) {
	fuzzRules(f, "regexp", "/^(a+)b*$/ x$1\n", "if /a/\n/b/!/c/ d\nendif\n", `/[[:alpha:]]{1,2}|\(\1/x y`, "/a**[^]a-z]/m ${1}")
}

func FuzzPCRE(f *testing.F) {
	fuzzRules(f, "pcre", "/^(a+)b*$/ x$1\n", "if !/a/\n/b/ d\nendif\n", `/(?<n>x)\k<n>(?=[\d\S])\x{41}/xU y`, `/a++\Qx.y\E{2}?/s $$`)
}

func FuzzCIDR(f *testing.F) {
	fuzzRules(f, "cidr", "10.0.0.0/8 x\n", "if !::/0\n[::1]/128 y\nendif\n", "!1.2.3.4 z")
}

func FuzzInline(f *testing.F) {
	f.Add("{a=b, {c = d}}")
	f.Add(`{{"x" = y}}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range []string{"inline:", "static:", "randmap:", "unionmap:", "pipemap:"} {
			if strings.Contains(text, "tcp:") || strings.Contains(text, "proxy:") || strings.Contains(text, "socketmap:") {
				return
			}
			tab, err := table.Open(table.Env{Strict: true}, typ+text, 0)
			if err == nil {
				tab.Lookup(context.Background(), "a")
				tab.Close()
			}
		}
	})
}

func FuzzSource(f *testing.F) {
	f.Add("a b\n c\n# d\n\"x y\" z\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := table.NewSource(table.NewLineReader(strings.NewReader(text), "f", nil))
		for {
			key, value, line, ok := s.Next()
			if !ok {
				break
			}
			if key == "" || value == "" || line < 1 {
				t.Fatalf("%q, %q, %d", key, value, line)
			}
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
	})
}

func FuzzMatchList(f *testing.F) {
	f.Add("!10.0.0.0/8, [::1]/128 .example.com {a b}", "10.0.0.1")
	f.Fuzz(func(t *testing.T, patterns, key string) {
		if strings.ContainsAny(patterns, "/:") && strings.Contains(patterns, ":") && !strings.Contains(patterns, "[") {
			return // tables
		}
		if strings.Contains(patterns, "proxy:") || strings.Contains(patterns, "tcp:") || strings.Contains(patterns, "socketmap:") || strings.Contains(patterns, "/dev") {
			return
		}
		l, err := table.NewMatchList(table.Env{Strict: true}, "list", patterns, table.MatchHostAddr, 0)
		if err != nil {
			return
		}
		l.Match(context.Background(), key, key)
	})
}
