package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/spool/record"
)

type capture struct{ lines []string }

func (c *capture) Warn(format string, a ...any) { c.lines = append(c.lines, fmt.Sprintf(format, a...)) }

// file builds a queue file. A line is a record type and its data; "C" stands for a
// correct size record with the hints given.
func file(t testing.TB, hints int64, lines ...string) []byte {
	t.Helper()
	build := func(size record.SizeRecord) ([]byte, record.SizeRecord) {
		var b bytes.Buffer
		w := record.NewWriter(&b)
		for _, l := range lines {
			data := l[1:]
			if l == "C" {
				data = size.String()
			}
			if l[0] == 'R' || l[0] == 'D' {
				size.Recipients++
			}
			if l[0] == 'X' {
				size.ContentSize = w.Offset() - size.DataOffset
				size.ContentLength = size.ContentSize
			}
			w.PutString(record.Type(l[0]), data)
			if l[0] == 'M' {
				size.DataOffset = w.Offset()
			}
		}
		w.Flush()
		return b.Bytes(), size
	}
	_, size := build(record.SizeRecord{})
	size.Hints = hints
	b, _ := build(size)
	return b
}

func read(t testing.TB, data []byte, more func(int) bool) (*Envelope, []deliver.Recipient, []string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	log := new(capture)
	o := options(log)
	o.More = more
	e, r, err := Read(f, o)
	return e, r, log.lines, err
}

func options(log *capture) Options {
	return Options{ID: "QID", Path: "active/QID", VERPFilter: "-=+", Log: log}
}

var ordinary = []string{"C", "T1795329797 640553", "Acreate_time=1795329797", "Alog_ident=OLD", "Arewrite_context=remote", "Sjoe@spec.example",
	"Alog_client_name=host", "Aclient_name=other", "V+=", "W     1795329900", "Anotify_flags=2", "Adsn_orig_rcpt=rfc822;u1@x", "Ou1", "Ru1@x",
	"Ou2", "Du2@x", "Ru3@x", "M", "Nhello", "X", "Lfilter:next", ">red@x", "Aencoding=8bit", "Ru4@x", "E"}

func TestRead(t *testing.T) {
	e, r, log, err := read(t, file(t, 4, ordinary...), nil)
	if err != nil || len(log) != 0 {
		t.Fatal(err, log)
	}
	if e.Sender != "joe@spec.example" || e.VERP != "+=" || e.Filter != "filter:next" || e.Redirect != "red@x" || e.Encoding != "8bit" ||
		e.Client.Name != "host" || e.LogIdent != "OLD" || e.RewriteContext != "remote" || e.Arrival.UnixMicro() != 1795329797640553 ||
		e.Created.Unix() != 1795329797 || e.Warn.Unix() != 1795329900 || e.Unread != 0 || !e.Wants(2) || e.Wants(8) {
		t.Errorf("%+v", e)
	}
	want := []deliver.Recipient{{Original: "u1", Address: "u1@x", DSNOrig: "rfc822;u1@x", Notify: 2}, {Address: "u3@x"}, {Address: "u4@x"}}
	if len(r) != len(want) {
		t.Fatalf("%+v", r)
	}
	data := file(t, 4, ordinary...)
	for i := range r {
		if data[r[i].Offset] != 'R' {
			t.Errorf("offset %d is not that of a recipient", r[i].Offset)
		}
		r[i].Offset = 0
		if r[i] != want[i] {
			t.Errorf("%+v, want %+v", r[i], want[i])
		}
	}
}

// Every batch size gives the same recipients, whether the file says that recipients
// stand together or not, and the rest of the envelope is known after the first batch.
func TestBatches(t *testing.T) {
	lines := []string{"C", "T1 0", "Ss@x"}
	for i := range 7 {
		lines = append(lines, fmt.Sprintf("Adsn_orig_rcpt=rfc822;%d", i), fmt.Sprintf("O%d", i), fmt.Sprintf("R%d@x", i))
	}
	lines = append(lines, "M", "Nx", "X", ">red@x", "R7@x", "R8@x", "E")
	for _, hints := range []int64{0, 1} {
		data := file(t, hints, lines...)
		for n := 1; n <= 10; n++ {
			f := bytes.NewReader(data)
			log := new(capture)
			o := options(log)
			o.More = func(have int) bool { return have < n }
			e, all, err := Read(f, o)
			if err != nil {
				t.Fatal(err, log)
			}
			if e.Redirect != "red@x" {
				t.Errorf("batch %d: redirect not seen", n)
			}
			for e.Unread > 0 {
				more, err := e.More(f, o)
				if err != nil || len(more) == 0 || len(more) > n {
					t.Fatalf("batch %d: %d recipients, %v", n, len(more), err)
				}
				all = append(all, more...)
			}
			if len(all) != 9 || len(log.lines) != 0 {
				t.Fatalf("batch %d: %d recipients, %v", n, len(all), log.lines)
			}
			for i, r := range all {
				if r.Address != fmt.Sprintf("%d@x", i) || i < 7 && r.Original != fmt.Sprint(i) {
					t.Errorf("batch %d: recipient %d is %+v", n, i, r)
				}
			}
		}
	}
}

// A size record that promises too few recipients loses none.
func TestTooFewPromised(t *testing.T) {
	data := file(t, 0, "C", "T1 0", "Ss@x", "R1@x", "R2@x", "R3@x", "M", "Nx", "X", "E")
	s := record.SizeRecord{}
	r := record.NewReader(bytes.NewReader(data))
	_, d, _ := r.Next()
	s, _ = record.ParseSize(d)
	s.Recipients = 1
	copy(data[2:], s.String())
	f := bytes.NewReader(data)
	log := new(capture)
	o := options(log)
	o.More = func(have int) bool { return have < 1 }
	e, all, err := Read(f, o)
	for err == nil && e.Unread > 0 && len(all) < 10 {
		var more []deliver.Recipient
		more, err = e.More(f, o)
		all = append(all, more...)
	}
	if err != nil || len(all) != 3 {
		t.Fatalf("%v %v", all, err)
	}
}

func TestDamage(t *testing.T) {
	good := file(t, 0, ordinary...)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"truncated", good[:len(good)-3], "QID: message rejected: missing end record"},
		{"no end", file(t, 0, ordinary[:len(ordinary)-1]...), "QID: message rejected: missing end record"},
		{"type", file(t, 0, "C", "T1 0", "?x", "Ss", "M", "Nx", "X", "E"), "Unexpected record type '?' at offset 102"},
		{"attribute", file(t, 0, "C", "T1 0", "Ajunk", "Ss", "M", "Nx", "X", "E"), "QID: bad attribute record: missing '=' after attribute name: junk"},
		{"no time", file(t, 0, "C", "Ss", "M", "Nx", "X", "E"), "QID: message rejected: missing arrival time record"},
		{"no sender", file(t, 0, "C", "T1 0", "M", "Nx", "X", "E"), "QID: message rejected: missing sender record"},
		{"no size", file(t, 0, "T1 0", "Ss", "M", "Nx", "X", "E"), "QID: message rejected: missing size record"},
		{"weird size", file(t, 0, "Cx", "T1 0", "Ss", "M", "Nx", "X", "E"), "QID: message rejected: weird size record"},
		{"bad size", file(t, 0, "C0 0 0 0", "T1 0", "Ss", "M", "Nx", "X", "E"), "QID: invalid size record: 0 0 0 0"},
		{"bad hints", file(t, 0, "C1 1 1 64", "T1 0", "Ss", "M", "Nx", "X", "E"), "QID: invalid flags in size record: 1 1 1 64"},
		{"content", file(t, 0, "C2 130 0 0", "T1 0", "Ss", "M", "Nx", "Nx", "Nx", "X", "E"), ""},
		{"empty", nil, "QID: message rejected: missing end record"},
	} {
		_, _, log, err := read(t, c.data, nil)
		if !errors.Is(err, ErrCorrupt) || c.want != "" && !strings.Contains(strings.Join(log, "\n"), c.want) {
			t.Errorf("%s: %v %q", c.name, err, log)
		}
	}
}

func TestOddities(t *testing.T) {
	e, r, log, err := read(t, file(t, 0, "C", "T1", "T5 0", "S", "Sother", "V+=", "Vab", "Atrace_flags=1024", "Atrace_flags=512", "W             -1",
		"Anotify_flags=99", "Oa", "Ob", "Rc", "/d", "M", "Nx", "X", "E"), nil)
	if err != nil || len(r) != 1 || r[0].Original != "b" {
		t.Fatal(err, r)
	}
	if e.Sender != "" || e.Arrival.Unix() != 1 || e.VERP != "" || e.Trace != deliver.Record || !e.WarnSent || e.WarnLen != 15 {
		t.Errorf("%+v", e)
	}
	want := []string{"QID: ignoring VERP request for null sender", "QID: ignoring VERP request for null sender",
		"QID: ignoring malformed DSN notify flags <99>", "QID: ignoring out-of-order original recipient <a>"}
	if strings.Join(log, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", log)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(f, 0, ordinary...), 2)
	f.Add(file(f, 1, ordinary...), 1)
	f.Add([]byte("p\x0f              0E\x00"), 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		r := bytes.NewReader(data)
		o := options(new(capture))
		n = 1 + max(0, n)%50
		o.More = func(have int) bool { return have < n }
		e, rcpts, err := Read(r, o)
		if err != nil {
			return
		}
		for turns := 0; e.Unread > 0 && turns < 100; turns++ {
			more, err := e.More(r, o)
			if err != nil {
				return
			}
			rcpts = append(rcpts, more...)
			if e.Unread > 0 && len(more) == 0 {
				t.Fatal("a batch without recipients, and no end")
			}
		}
		for _, x := range rcpts {
			if x.Offset < 0 || x.Offset >= int64(len(data)) || data[x.Offset] != 'R' {
				t.Fatalf("offset %d", x.Offset)
			}
		}
	})
}
