package header

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestNameLen(t *testing.T) {
	for _, c := range []struct {
		in          string
		name, colon int
	}{
		{"To: x", 2, 2}, {"To :x", 2, 3}, {"To \t : x", 2, 5}, {"To", 0, 0}, {": x", 0, 0}, {" To: x", 0, 0},
		{"T\xc3: x", 0, 0}, {"a b: c", 0, 0}, {"", 0, 0}, {"X-\x7f: y", 0, 0}, {"From me", 0, 0},
	} {
		if n, colon := NameLen([]byte(c.in)); n != c.name || colon != c.colon {
			t.Errorf("%q: %d %d", c.in, n, colon)
		}
	}
}

func TestLookup(t *testing.T) {
	for i := range table {
		k := Lookup([]byte(strings.ToUpper(table[i].Name)))
		if k == nil || k.ID != table[i].ID || k.Name != table[i].Name {
			t.Errorf("%s: %v", table[i].Name, k)
		}
	}
	if LookupName("X-Other") != nil {
		t.Error("unknown header found")
	}
}

func TestParse(t *testing.T) {
	h, ok := Parse([]byte("message-ID:  <a@b>\n\tx"))
	if !ok || h.Known.ID != MessageID || string(h.Name) != "message-ID" || string(h.Value) != "<a@b>\n\tx" {
		t.Errorf("%q %q %v", h.Name, h.Value, ok)
	}
}

func TestMailDate(t *testing.T) {
	if got := MailDate(time.Date(2026, 11, 1, 6, 28, 13, 0, time.UTC)); got != "Sun,  1 Nov 2026 06:28:13 +0000 (UTC)" {
		t.Error(got)
	}
	zone := time.FixedZone("NST", -(3*3600 + 1800))
	if got := MailDate(time.Date(2026, 11, 22, 6, 28, 13, 0, zone)); got != "Sun, 22 Nov 2026 06:28:13 -0330 (NST)" {
		t.Error(got)
	}
}

func TestAppendFolded(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"To: a,\nb,\nc", "To: a, b, c"},
		{"To: " + strings.Repeat("x", 60) + ",\n" + "abc", "To: " + strings.Repeat("x", 60) + ", abc"},
		{"To: " + strings.Repeat("x", 60) + ",\n" + "abcd", "To: " + strings.Repeat("x", 60) + ",\n\tabcd"},
		{"a,\n", "a, "}, {"", ""},
	} {
		if got := string(AppendFolded(nil, []byte(c.in))); got != c.want {
			t.Errorf("%q: got %q", c.in, got)
		}
	}
}

func TestDropSet(t *testing.T) {
	s := NewDropSet([]string{"Bcc", "x-foo:"})
	if !s.Has([]byte("BCC")) || !s.Has([]byte("X-Foo")) || s.Has([]byte("bccx")) || s.Has(bytes.Repeat([]byte("x"), 200)) {
		t.Error("wrong")
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("Subject : x\n y"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := Parse(b)
		if ok != (len(h.Name) > 0) {
			t.Fatalf("%q: %v %q", b, ok, h.Name)
		}
		if ok && !bytes.HasPrefix(b, h.Name) {
			t.Fatalf("%q: %q", b, h.Name)
		}
	})
}
