package attr

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// The announcement of flush as the spec gives it in hex (ipc.md §1.2).
func TestAnnounceGolden(t *testing.T) {
	var b bytes.Buffer
	if err := Announce(NewWriter(&b, Null), "queue_flush_protocol"); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != "protocol\x00queue_flush_protocol\x00\x00" {
		t.Errorf("got %q", got)
	}
	if err := Expect(NewReader(&b, Null, "x"), "queue_flush_protocol"); err != nil {
		t.Error(err)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, codec := range []Codec{Null, Plain} {
		var b bytes.Buffer
		w := NewWriter(&b, codec)
		w.Str("s", "a b=c").Int("i", -1).Long("l", -2).Data("d", []byte{0, 1, 2})
		if codec == Null {
			w.Hash([]Attr{{Name: "k", Value: "v"}})
		}
		if err := w.Send(); err != nil {
			t.Fatal(err)
		}
		wire := b.String()
		if !strings.Contains(wire, "4294967295") || !strings.Contains(wire, "18446744073709551614") {
			t.Errorf("numbers are not sent unsigned: %q", wire)
		}
		var s string
		var i int
		var l int64
		var d []byte
		var h []Attr
		fields := []Field{Str("s", &s), Int("i", &i), Long("l", &l), Data("d", &d)}
		if codec == Null {
			fields = append(fields, Hash(&h))
		}
		if err := NewReader(&b, codec, "test").Scan(fields...); err != nil {
			t.Fatal(err)
		}
		if s != "a b=c" || i != -1 || l != -2 || !bytes.Equal(d, []byte{0, 1, 2}) {
			t.Errorf("got %q %d %d %v", s, i, l, d)
		}
		if codec == Null && !reflect.DeepEqual(h, []Attr{{Name: "k", Value: "v"}}) {
			t.Errorf("hash %v", h)
		}
	}
}

func TestScanSkipsAndMisses(t *testing.T) {
	l := List{{Name: "a", Value: "1"}, {Name: "x", Value: "?"}, {Name: "b", Value: "2"}}
	var a, b int
	if n, err := l.Scan("peer", Int("a", &a), Int("b", &b)); n != 2 || err != nil || a != 1 || b != 2 {
		t.Error(n, err, a, b)
	}
	n, err := l.Scan("peer", Int("b", &b), Int("a", &a))
	if n != 1 || err == nil || err.Error() != "missing attribute a in input from peer" {
		t.Error(n, err)
	}
	if _, err := l.Scan("peer", Int("x", &a)); err == nil {
		t.Error("malformed number accepted")
	}
}

func TestBrokenStreams(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a", "unexpected end-of-input from x while reading input attribute name"},
		{"a\x00b", "unexpected end-of-input from x while reading input attribute value"},
		{"a\x00b\x00", "premature end-of-input on x while reading input attribute name"},
		{"{\x00a\x00b\x00a\x00b\x00}\x00\x00", "duplicate attribute a in input from x"},
	} {
		_, err := NewReader(strings.NewReader(c.in), Null, "x").List()
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v", c.in, err)
		}
	}
	if _, err := NewReader(strings.NewReader(""), Null, "x").List(); err != io.EOF {
		t.Error(err)
	}
	_, err := NewReader(strings.NewReader(strings.Repeat("a", MaxValue+5000)), Null, "x").List()
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Text, "exceeds") {
		t.Error("unbounded name:", err)
	}
	if err := NewWriter(io.Discard, Null).Str("a", "b\x00c").Send(); err == nil {
		t.Error("NUL accepted in a value")
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("protocol\x00anvil\x00\x00"), false)
	f.Add([]byte("a=b\nc=d\n\n"), true)
	f.Add([]byte("{\x00a\x00b\x00}\x00\x00"), false)
	f.Fuzz(func(t *testing.T, in []byte, plain bool) {
		codec := Null
		if plain {
			codec = Plain
		}
		l, err := NewReader(bytes.NewReader(in), codec, "fuzz").List()
		if err != nil {
			return
		}
		var b bytes.Buffer
		w := NewWriter(&b, codec)
		for _, a := range l {
			if a.Hash != nil {
				w.Hash(a.Hash)
			} else {
				w.Str(a.Name, a.Value)
			}
		}
		if err := w.Send(); err != nil {
			t.Fatal(err)
		}
		if again, err := NewReader(&b, codec, "fuzz").List(); err != nil || !reflect.DeepEqual(l, again) {
			t.Fatalf("%v %v %v", l, again, err)
		}
	})
}
