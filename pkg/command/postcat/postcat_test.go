package postcat

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/spool/spooltest"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

func cat(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(append([]string{"postcat"}, args...), command.Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs})
	return out.String(), errs.String(), code
}

// The same files give the same output as Debian's postcat gave.
func TestGolden(t *testing.T) {
	dir := spooltest.Debian(t)
	golden, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	cases, _ := filepath.Glob(filepath.Join(golden, "*.args"))
	if len(cases) < 10 {
		t.Fatal("no golden files")
	}
	for _, file := range cases {
		args, _ := os.ReadFile(file)
		want, err := os.ReadFile(strings.TrimSuffix(file, ".args") + ".out")
		if err != nil {
			t.Fatal(err)
		}
		got, _, code := cat(t, "", strings.Fields(string(args))...)
		if got != string(want) || code != 0 {
			t.Errorf("postcat %s: exit %d, got\n%s\nwant\n%s", strings.TrimSpace(string(args)), code, got, want)
		}
	}
}

func build(fields ...string) string {
	var b []byte
	for _, f := range fields {
		b = record.Append(b, record.Type(f[0]), []byte(f[1:]))
	}
	return string(b)
}

// A file to which a Milter added a recipient: it stands behind the end record,
// and pointers lead there and back.
func TestPointers(t *testing.T) {
	head := build("Sa@b", "Rc@d")
	back := len(head) + 17
	tail := build("M", "NSubject: x", "w000", "X", "E")
	file := head + build(fmt.Sprintf("p%15d", back+len(tail))) + tail + build("Rnew@x", fmt.Sprintf("p%15d", back))
	path := filepath.Join(t.TempDir(), "f")
	os.WriteFile(path, []byte(file), 0600)
	for _, c := range []struct{ option, want string }{
		{"-o", `*** ENVELOPE RECORDS PATH ***
        0 sender: a@b
        5 recipient: c@d
       10 recipient: new@x
       57 *** MESSAGE CONTENTS PATH ***
       29 Subject: x
       41 *** HEADER EXTRACTED PATH ***
       48 *** MESSAGE FILE END PATH ***
`},
		{"-ov", `*** ENVELOPE RECORDS PATH ***
        0 sender: a@b
        5 recipient: c@d
       10 pointer_record:              50
       50 recipient: new@x
       57 pointer_record:              27
       27 *** MESSAGE CONTENTS PATH ***
       29 regular_text: Subject: x
       41 padding: 000
       46 *** HEADER EXTRACTED PATH ***
       48 *** MESSAGE FILE END PATH ***
`},
		{"-orv", `*** ENVELOPE RECORDS PATH ***
        0 sender: a@b
        5 recipient: c@d
       10 pointer_record:              50
       27 *** MESSAGE CONTENTS PATH ***
       29 regular_text: Subject: x
       41 padding: 000
       46 *** HEADER EXTRACTED PATH ***
       48 *** MESSAGE FILE END PATH ***
       50 recipient: new@x
       57 pointer_record:              27
`},
	} {
		got, errs, code := cat(t, "", c.option, path)
		if want := strings.ReplaceAll(c.want, "PATH", path); got != want || errs != "" || code != 0 {
			t.Errorf("%s: exit %d %s\n%s", c.option, code, errs, got)
		}
	}
}

func TestTrouble(t *testing.T) {
	dir := t.TempDir()
	at := func(name, data string) string {
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(data), 0600)
		return path
	}
	for _, c := range []struct {
		name  string
		stdin string
		args  []string
		code  int
		out   string
		err   string
	}{
		{"option", "", []string{"-z"}, 1, "", "postcat: invalid option -- 'z'\npostcat: fatal: usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] [file(s)...]\n"},
		{"offset", "", []string{"-s", "12x"}, 1, "", "postcat: fatal: bad offset: 12x\n"},
		{"skip", "abc", []string{"-s", "10"}, 1, "", "postcat: fatal: stdin: skip 10 bytes failed after 3\n"},
		{"missing", "", []string{dir + "/none"}, 1, "", "postcat: fatal: open " + dir + "/none: No such file or directory\n"},
		{"empty", "", []string{at("empty", "")}, 0, "", ""},
		{"kind", "", []string{at("kind", build("Nx"))}, 0, "", "postcat: warning: " + dir + "/kind: input is not a valid queue file\n"},
		{"stdin", build("Sa@b", "M", "NA: b", "N", "Ltail", "X", "E"), nil, 0,
			"*** ENVELOPE RECORDS stdin ***\nsender: a@b\n*** MESSAGE CONTENTS stdin ***\nA: b\n\ntail\n*** HEADER EXTRACTED stdin ***\n*** MESSAGE FILE END stdin ***\n", ""},
		{"cut", "", []string{at("cut", "S\x03a@bR\x09xx")}, 1, "*** ENVELOPE RECORDS " + dir + "/cut ***\nsender: a@b\n",
			"postcat: warning: " + dir + "/cut: unexpected EOF in data, record type 82 length 9\npostcat: fatal: record read error\n"},
		{"attribute", build("Ax", "E"), []string{"-e"}, 0, "*** ENVELOPE RECORDS stdin ***\n*** MESSAGE FILE END stdin ***\n", "postcat: warning: stdin: malformed attribute: missing '=' after attribute name: x\n"},
		{"order", build("Sa", "X", "M", "M", "E"), []string{"-e"}, 0,
			"*** ENVELOPE RECORDS stdin ***\nsender: a\n*** HEADER EXTRACTED stdin ***\n*** MESSAGE CONTENTS stdin ***\n*** MESSAGE CONTENTS stdin ***\n*** MESSAGE FILE END stdin ***\n",
			"postcat: warning: stdin: out-of-order extracted segment marker\npostcat: warning: stdin: out-of-order message content marker\npostcat: warning: stdin: out-of-order message end marker\n"},
	} {
		out, errs, code := cat(t, c.stdin, c.args...)
		if out != c.out || errs != c.err || code != c.code {
			t.Errorf("%s: exit %d\nout %q\nerr %q", c.name, code, out, errs)
		}
	}
}

// -b reads the body of a file whose envelope is damaged.
func TestBodyBehindDamage(t *testing.T) {
	content := build("NSubject: x", "N", "Nbody")
	envelope := "Z\xff\xff\xff\xff\xff garbage"
	size := record.SizeRecord{ContentSize: int64(len(content)), DataOffset: int64(97 + len(envelope))}.String()
	path := filepath.Join(t.TempDir(), "f")
	os.WriteFile(path, []byte(build("C"+size)+envelope+content+build("X", "E")), 0600)
	if out, errs, code := cat(t, "", "-b", path); out != "\nbody\n" || errs != "" || code != 0 {
		t.Errorf("%d %q %q", code, out, errs)
	}
}
