package qshape

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/spool/spooltest"
)

// shape counts the queues at a fixed time.
func shape(t *testing.T, dir string, now time.Time, args ...string) string {
	t.Helper()
	s, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := newCounter(s, now)
	c.out = bufio.NewWriter(&b)
	for _, name := range s.queues {
		if err := c.walk(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	c.print(true)
	c.out.Flush()
	return b.String()
}

// The same spool gives the same table as Debian's qshape gave 25 minutes
// after the messages had arrived.
func TestGolden(t *testing.T) {
	dir := spooltest.Debian(t)
	cases, _ := filepath.Glob("testdata/*.args")
	if len(cases) == 0 {
		t.Fatal("no golden files")
	}
	for _, file := range cases {
		args, _ := os.ReadFile(file)
		want, err := os.ReadFile(strings.TrimSuffix(file, ".args") + ".out")
		if err != nil {
			t.Fatal(err)
		}
		got := shape(t, dir, time.Unix(1795335967+25*60, 0), strings.Fields(string(args))...)
		if sorted(got) != sorted(string(want)) { // rows of the same count are in no order
			t.Errorf("qshape %s got\n%s\nwant\n%s", args, got, want)
		}
	}
}

func sorted(table string) string {
	lines := strings.Split(table, "\n")
	sort.Strings(lines[1:])
	return strings.Join(lines, "\n")
}

func TestBuckets(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	for _, c := range []struct {
		age     int // minutes
		options string
		want    int
	}{
		{-5, "", 1}, {0, "", 1}, {4, "", 1}, {5, "", 2}, {9, "", 2}, {10, "", 3}, {40, "", 5}, {1279, "", 9}, {1280, "", 10}, {1 << 20, "", 10},
		{0, "-l -b 4 -t 1", 1}, {1, "-l -b 4 -t 1", 2}, {2, "-l -b 4 -t 1", 3}, {9, "-l -b 4 -t 1", 4},
	} {
		s, _ := parse(strings.Fields(c.options))
		if got := newCounter(s, now).bucket(now.Add(time.Duration(-c.age) * time.Minute)); got != c.want {
			t.Errorf("%d minutes %s: bucket %d, want %d", c.age, c.options, got, c.want)
		}
	}
}

func TestDomain(t *testing.T) {
	for in, want := range map[string]string{"": "MAILER-DAEMON", "a@B.Test": "b.test", "a@b@c.test": "c.test", "x": "x", "a@.b..c.": "b.c", "a@": ""} {
		if got := domain(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestParents(t *testing.T) {
	dir := spooltest.Empty(t)
	write := func(id string, rcpts ...string) {
		var b []byte
		put := func(typ record.Type, data string) { b = record.Append(b, typ, []byte(data)) }
		put('T', "1999999000 0")
		put('S', "a@sender.test")
		for _, r := range rcpts {
			put('R', r)
		}
		put('M', "")
		size := record.SizeRecord{ContentSize: 4, DataOffset: int64(97 + len(b)), Recipients: 1}.String()
		put('N', "hi")
		put('X', "")
		put('E', "")
		os.WriteFile(filepath.Join(dir, "hold", id), append(record.Append(nil, 'C', []byte(size)), b...), 0700)
	}
	write("AAAAA1", "u@a.x.test", "u@b.x.test", "u@c.d.x.test")
	write("AAAAA2", "u@x.test", "u@"+strings.Repeat("n", 80)+".test")
	write("AAAAA3.tmp", "u@no.test")
	const indent = 80 - 18 - 9
	var got []string
	table := shape(t, dir, time.Unix(2_000_000_000, 0), "-p", "-m", "3", "-b", "2", "hold")
	for line := range strings.Lines(table) {
		got = append(got, strings.TrimSpace(line))
	}
	want := []string{"T  5 5+", "TOTAL  5  0  5", ".x.test  3  0  3", "x.test  1  0  1", "a.x.test  1  0  1", "b.x.test  1  0  1", "c.d.x.test  1  0  1",
		"+" + strings.Repeat("n", indent+12) + ".test  1  0  1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if s := shape(t, dir, time.Unix(2_000_000_000, 0), "-s", "hold"); !strings.Contains(s, "sender.test  2 ") {
		t.Error(s)
	}
}

func TestIncomplete(t *testing.T) {
	whole := spooltest.Debian(t)
	data, err := os.ReadFile(filepath.Join(whole, "deferred/A/A5B4A56"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ABCDEF")
	for cut := range data {
		os.WriteFile(path, data[:cut], 0700)
		if _, ok := read(path); ok {
			t.Fatalf("counted after %d of %d bytes", cut, len(data))
		}
	}
	os.WriteFile(path, data, 0700)
	if e, ok := read(path); !ok || len(e.recipients) != 2 || e.sender != "alice@example.test" {
		t.Errorf("%+v %v", e, ok)
	}
	os.Chmod(path, 0710)
	if _, ok := read(path); ok {
		t.Error("a forcibly expired message is counted")
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) (string, string, int) {
		var out, errs bytes.Buffer
		code := Run(append([]string{"qshape"}, args...), command.Env{Stdout: &out, Stderr: &errs})
		return out.String(), errs.String(), code
	}
	if _, errs, code := run("-y"); code != 255 || !strings.HasPrefix(errs, "qshape: Unknown option: y\nUsage: qshape [ -s ] [ -p ]") {
		t.Error(code, errs)
	}
	if _, errs, code := run("-h"); code != 255 || !strings.HasPrefix(errs, "Usage: qshape ") {
		t.Error(code, errs)
	}
	out, errs, code := run("-b", "1", dir+"/none")
	if code != 0 || errs != "Can't stat "+dir+"/none: No such file or directory\n" || out != strings.Repeat(" ", 76)+"T 0+\n"+strings.Repeat(" ", 69)+"TOTAL  0  0\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
}
