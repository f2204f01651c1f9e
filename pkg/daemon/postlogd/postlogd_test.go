package postlogd

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"posthaste/pkg/service"
)

func TestSplit(t *testing.T) {
	for line, want := range map[string][2]string{
		"Nov 22 06:45:13 host postfix/master[18394]: daemon started -- version": {"postfix/master[18394]", "daemon started -- version"},
		"Nov  2 06:45:13 host my/tag[1]: warning: a: b":                         {"my/tag[1]", "warning: a: b"},
		"nonsense": {"postfix/postlogd", "nonsense"},
		"":         {"postfix/postlogd", ""},
	} {
		if ident, text := split(line); ident != want[0] || text != want[1] {
			t.Errorf("%q: %q %q", line, ident, text)
		}
	}
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := &daemon{path: path, file: f}
	d.record(context.Background(), &service.Runtime{}, []byte("Nov 22 06:45:13 host postfix/x[1]: text"))
	d.record(context.Background(), &service.Runtime{}, []byte("forged\nline\x00"))
	if text, _ := os.ReadFile(path); string(text) != "Nov 22 06:45:13 host postfix/x[1]: text\nforged?line?\n" {
		t.Errorf("%q", text)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("Nov 22 06:45:13 host postfix/x[1]: text")
	f.Fuzz(func(t *testing.T, line string) { split(line) })
}
