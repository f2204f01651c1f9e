package showq

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/showq"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/spool/spooltest"
	"posthaste/pkg/sys/maillog"
)

func newTestLister(dir string) (*lister, *maillog.Buffer) {
	log, buffer := maillog.Capture()
	spool := queue.New(dir, queue.Options{HashNames: []string{"deferred", "defer"}, HashDepth: 1, Log: log})
	return &lister{spool: spool, log: log, empty: "MAILER-DAEMON", duplicate: 1000, utf8: true}, buffer
}

type listed struct {
	showq.Message
	Recipients []showq.Recipient
}

// read reads a stream, sorted by queue id: the order is the directory's.
func read(t *testing.T, stream io.Reader) []listed {
	t.Helper()
	r := showq.NewReader(attr.NewReader(stream, attr.Null, "showq"))
	if err := r.Begin(); err != nil {
		t.Fatal(err)
	}
	var list []listed
	for {
		m, err := r.Next()
		if err == io.EOF {
			sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		one := listed{Message: m}
		for {
			rcpt, more, err := r.Recipient()
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
			one.Recipients = append(one.Recipients, rcpt)
		}
		list = append(list, one)
	}
}

func run(t *testing.T, l *lister) []listed {
	t.Helper()
	var b bytes.Buffer
	if err := l.list(context.Background(), showq.NewWriter(attr.NewWriter(&b, attr.Null))); err != nil {
		t.Fatal(err)
	}
	return read(t, &b)
}

// The same spool gives the same list as Debian's showq gave.
func TestDebianSpool(t *testing.T) {
	golden, err := os.Open("testdata/stream.bin")
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	want := read(t, golden)
	l, buffer := newTestLister(spooltest.Debian(t))
	got := run(t, l)
	if len(got) != 8 || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if lines := buffer.Lines(); len(lines) != 0 {
		t.Error(lines)
	}
}

// Each kind of damage costs at most the file it is in.
func TestDamage(t *testing.T) {
	dir := spooltest.Empty(t)
	put := func(name string, fields ...string) {
		var b []byte
		for _, f := range fields {
			b = record.Append(b, record.Type(f[0]), []byte(f[1:]))
		}
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0700)
		if err := os.WriteFile(path, b, 0700); err != nil {
			t.Fatal(err)
		}
	}
	put("incoming/AAAAA1", "C12x", "T5", "Sa b@c", "R", "Rx@y", "Rx@y", "M", "NR", "X", "Rlate@x", "Dd@x", "E", "Rbehind@x")
	put("incoming/AAAAA2", "T5", "Fx")
	put("incoming/AAAAA3", "T5", "Rx@y", "Sa@b")
	put("incoming/AAAAA4", "T5", "Sa@b", "Sc@d", "Rx@y")
	put("incoming/AAAAA5", "T5", "S\x01@é", "Rx@y", "E")
	put("hold/AAAAA6", "C              6", "T7", "S", "Rx@y", "M", "Nabcd", "X", "Rz@z", "E")
	os.WriteFile(filepath.Join(dir, "incoming/AAAAA7"), []byte("T\x017S\x01aR\x05a"), 0700)
	os.WriteFile(filepath.Join(dir, "incoming/AAAAA8"), nil, 0600)
	os.MkdirAll(filepath.Join(dir, "defer/A"), 0700)
	os.WriteFile(filepath.Join(dir, "defer/A/AAAAA1"), []byte("\nrecipient=x@y\nreason=later\n\n"), 0600)
	l, buffer := newTestLister(dir)
	var got []string
	for _, m := range run(t, l) {
		line := m.ID + " " + m.Sender
		for _, r := range m.Recipients {
			line += " " + r.Address
		}
		got = append(got, line)
	}
	want := []string{
		`AAAAA1 "a b"@c x@y MAILER-DAEMON late@x`,
		`AAAAA4 a@b`,
		`AAAAA5 "?"@é x@y`,
		`AAAAA6 MAILER-DAEMON x@y z@z`,
		`AAAAA7 a`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	log := strings.Join(buffer.Lines(), "\n")
	for _, want := range []string{
		"warning: AAAAA1: malformed size record: 12x -- using file size instead",
		"warning: AAAAA3: missing sender address: x@y -- skipping remainder of this file",
		"warning: AAAAA4: duplicate sender address: c@d -- skipping remainder of this file",
		"incoming/AAAAA7: unexpected EOF in data, record type 82 length 5",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
}
