package rmail

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/command"
)

func TestOrigin(t *testing.T) {
	for _, x := range []struct {
		text, from, protocol, rest, err string
	}{
		{"From joe  Sun remote from hosta\nSubject: x\n", "hosta!joe", "hosta", "Subject: x\n", ""},
		{"From joe Sun remote from a\n>From jim Sun remote from b\n\nx", "a!b!jim", "a", "\nx", ""},
		{"From joe Sun\nx", "joe", "", "x", ""},
		{"From a!b!joe Sun\nx", "a!b!joe", "a!b", "x", ""},
		{"From a!joe Sun remote from h\nx", "h!a!joe", "h", "x", ""},
		{"From joe@x remote from\nx", "joe@x", "", "x", ""},
		{"", "", "", "", "no message"},
		{"From joe\n", "", "", "", "no message"},
		{"From \nx", "", "", "", "corrupted From line: From "},
		{"Subject: x\ny", "", "", "", "missing or empty From line: Subject: x"},
		{"From " + strings.Repeat("x", maxFrom) + "\nx", "", "", "", "line too long"},
	} {
		in := bufio.NewReaderSize(strings.NewReader(x.text), maxFrom)
		o, err := readOrigin(in)
		if err != nil || x.err != "" {
			if err == nil || err.Error() != x.err {
				t.Errorf("%.40q: %v, want %s", x.text, err, x.err)
			}
			continue
		}
		rest, _ := in.ReadString(0)
		if o.path+o.user != x.from || o.system != x.protocol || rest != x.rest {
			t.Errorf("%.40q: %q %q %q", x.text, o.path+o.user, o.system, rest)
		}
	}
}

// UUCP keeps what sendmail did not take. (Debian's rmail says 0.)
func TestStatus(t *testing.T) {
	fake := filepath.Join(t.TempDir(), "sendmail")
	script := "#!/bin/sh\necho \"$@\" >&2\ncat >&2\nexit $STATUS\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"0", "75"} {
		var errs bytes.Buffer
		env := command.Env{Stdin: strings.NewReader("From joe Sun remote from h\nSubject: x\n"), Stderr: &errs, Environ: []string{"STATUS=" + status, "PATH=" + os.Getenv("PATH")}}
		code := run([]string{"/usr/bin/rmail", "a,b", "c"}, env, fake)
		want := "-G -oee -odq -oi -pUUCP:h.UUCP -fh!joe <a,b> c\nSubject: x\n"
		if status == "75" {
			want += "rmail: " + fake + ": terminated with 75 (non-zero) status\n"
		}
		if got := errs.String(); got != want || (code == 0) != (status == "0") || code != 0 && code != 75 {
			t.Errorf("status %d, %q, want %q", code, got, want)
		}
	}
}

func TestArguments(t *testing.T) {
	got := origin{user: "joe"}.arguments("example.org", []string{"x"})
	if want := []string{"-G", "-oee", "-odq", "-oi", "-pexample.org", "-fjoe", "x"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("From a!b Sun remote from c\n>From x\ny")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := readOrigin(bufio.NewReaderSize(strings.NewReader(text), maxFrom))
		if err == nil && strings.ContainsAny(o.path+o.user, "\n") {
			t.Errorf("newline in %q", o.path+o.user)
		}
	})
}
