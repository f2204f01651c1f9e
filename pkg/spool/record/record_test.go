package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCode(t *testing.T) {
	for _, c := range []struct {
		t    Type
		data string
		want string
	}{
		{TypeMessage, "", "M\x00"},
		{TypeNormal, "Subject: hi", "N\x0bSubject: hi"},
		{TypeNormal, strings.Repeat("a", 127), "N\x7f" + strings.Repeat("a", 127)},
		{TypeNormal, strings.Repeat("a", 128), "N\x80\x01" + strings.Repeat("a", 128)},
		{TypeContinued, strings.Repeat("b", 2048), "L\x80\x10" + strings.Repeat("b", 2048)},
		{TypeRcpt, "a\x00b", "R\x03a\x00b"},
	} {
		var b bytes.Buffer
		w := NewWriter(&b)
		if err := w.PutString(c.t, c.data); err != nil {
			t.Fatal(err)
		}
		if w.Offset() != int64(len(c.want)) || Size(len(c.data)) != len(c.want) {
			t.Errorf("offset %d, size %d, want %d", w.Offset(), Size(len(c.data)), len(c.want))
		}
		w.Flush()
		if b.String() != c.want {
			t.Errorf("%q", b.String())
		}
		if got := Append(nil, c.t, []byte(c.data)); string(got) != c.want {
			t.Errorf("Append: %q", got)
		}
		r := NewReader(&b)
		gotType, data, err := r.Next()
		if gotType != c.t || string(data) != c.data || err != nil {
			t.Errorf("read %c %q %v", gotType, data, err)
		}
		if _, _, err := r.Next(); err != io.EOF {
			t.Errorf("at end: %v", err)
		}
	}
}

// The file of spec queue.md §8.3 as postdrop writes it.
func TestPostdropFile(t *testing.T) {
	const file = "T\x111795330234 433092A\x15rewrite_context=localF\x04rootS\x12alice@example.testR\x0ebob@defer.testM\x00N\x0bSubject: hiN\x00N\x04bodyX\x00E\x00"
	var got []string
	r := NewReader(strings.NewReader(file))
	for {
		typ, data, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d%c%s", r.Offset(), typ, data))
	}
	want := []string{"0T1795330234 433092", "19Arewrite_context=local", "42Froot", "48Salice@example.test", "68Rbob@defer.test", "84M", "86NSubject: hi", "99N", "101Nbody", "107X", "109E"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestDamage(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"N", "x: unexpected EOF reading length, record type 78"},
		{"N\x80", "x: unexpected EOF reading length, record type 78"},
		{"N\xff\xff\xff\xff\xff\x01", "x: too many length bits, record type 78"},
		{"N\x05abc", "x: unexpected EOF in data, record type 78 length 5"},
		{"N\x90\x4e", "x: illegal length 10000, record type 78"},
		{"p\x03a b", "x: malformed pointer record value: a b"},
	} {
		r := NewReader(strings.NewReader(c.in))
		r.Path, r.Max = "x", 2048
		_, _, err := r.Next()
		if !errors.Is(err, ErrMalformed) || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.in, err, c.want)
		}
	}
}

// An oversize record is skipped, so that the next one can be read.
func TestOversizeIsSkipped(t *testing.T) {
	r := NewReader(strings.NewReader("N\x05abcdeN\x02hi"))
	r.Max = 4
	if _, _, err := r.Next(); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	if typ, data, err := r.Next(); typ != 'N' || string(data) != "hi" || err != nil {
		t.Error(typ, data, err)
	}
}

// A claimed length must not cost memory before the data is there.
func TestClaimedLengthCostsNothing(t *testing.T) {
	r := NewReader(strings.NewReader("N\x80\x80\x80\x1fabc")) // 65011712 bytes
	if _, _, err := r.Next(); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	if cap(r.data) > 1<<20 {
		t.Errorf("%d bytes for a record of three bytes", cap(r.data))
	}
}

func TestPointers(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	pointer := func(target int) { w.Printf(TypePointer, "%15d", target) }
	w.PutString(TypeFrom, "a") // 0..3
	pointer(0)                 // 3..20: a place holder
	pointer(54)                // 20..37: jump over the killed text
	w.PutString(TypeNormal, strings.Repeat("x", 15))
	w.PutString(TypePadding, "0") // 54..57
	at := w.Offset()
	w.PutString(TypeNormal, "end")
	w.PutString(TypeEnd, "")
	w.PutString(TypeNormal, "behind the end")
	w.Flush()

	r := NewReader(bytes.NewReader(b.Bytes()))
	r.Next()
	typ, data, err := r.Next()
	if typ != 'N' || string(data) != "end" || err != nil || r.Offset() != at || r.Start() != 3 {
		t.Errorf("%c %q %v at %d from %d", typ, data, err, r.Offset(), r.Start())
	}
	if typ, _, _ := r.Next(); typ != TypeEnd {
		t.Error(typ)
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Error("read past the end record:", err)
	}

	raw := NewReader(bytes.NewReader(b.Bytes()))
	raw.Raw = true
	var types []byte
	for {
		typ, _, err := raw.Next()
		if err != nil {
			break
		}
		types = append(types, byte(typ))
	}
	if string(types) != "SppNwNEN" {
		t.Errorf("raw: %q", types)
	}
}

func TestPointerLoop(t *testing.T) {
	loop := bytes.NewReader(append([]byte("S\x01a"), Append(nil, TypePointer, []byte("              3"))...))
	r := NewReader(loop)
	r.Path = "x"
	r.Next()
	if _, _, err := r.Next(); err == nil || err.Error() != "x: too many reverse jump records" {
		t.Error(err)
	}
	stream := NewReader(io.MultiReader(bytes.NewReader(Append(nil, TypePointer, []byte("5")))))
	if _, _, err := stream.Next(); !errors.Is(err, ErrMalformed) {
		t.Error("pointer on a pipe:", err)
	}
}

func TestReaderStartsWhereTheFileIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	os.WriteFile(path, []byte("junkN\x02hi"), 0600)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Seek(4, io.SeekStart)
	r := NewReader(f)
	if _, data, err := r.Next(); string(data) != "hi" || err != nil || r.Offset() != 4 || r.Tell() != 8 {
		t.Error(data, err, r.Offset(), r.Tell())
	}
	if err := r.SeekTo(4); err != nil {
		t.Fatal(err)
	}
	if _, data, _ := r.Next(); string(data) != "hi" {
		t.Error(data)
	}
}

func TestPutText(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	w.PutText([]byte("abcdefgh"), 3)
	w.PutText([]byte("abc"), 3)
	w.PutText(nil, 3)
	w.Flush()
	if b.String() != "L\x03abcL\x03defN\x02ghN\x03abcN\x00" {
		t.Errorf("%q", b.String())
	}
}

func TestParseAttr(t *testing.T) {
	for _, c := range []struct {
		in, name, value string
		err             error
	}{
		{"a=b", "a", "b", nil},
		{" a = b c ", "a", "b c", nil},
		{"a=", "a", "", nil},
		{"a=b=c", "a", "b=c", nil},
		{"", "", "", ErrNoAttrName},
		{"=b", "", "", ErrNoAttrName},
		{"a", "", "", ErrNoAttrEqual},
		{"a b=c", "", "", ErrNoAttrEqual},
	} {
		name, value, err := ParseAttr([]byte(c.in))
		if name != c.name || value != c.value || err != c.err {
			t.Errorf("%q: %q %q %v", c.in, name, value, err)
		}
	}
	if typ, ok := Pseudo("notify_flags"); typ != TypeDSNNotify || !ok {
		t.Error(typ, ok)
	}
	if _, ok := Pseudo("encoding"); ok {
		t.Error("encoding")
	}
}

func TestSizeRecord(t *testing.T) {
	const line = "            344             865               3              12             344               0"
	s, n := ParseSize([]byte(line))
	if n != 6 || s != (SizeRecord{344, 865, 3, 12, 344, 0}) {
		t.Error(s, n)
	}
	if s.String() != line || len(line) != SizeLength {
		t.Errorf("%q", s.String())
	}
	for in, want := range map[string]int{"": 0, "x": 0, "12": 1, "1 2 x": 2, "1 -2 3 4 5 6 7": 6, "1x 2": 1} {
		if _, n := ParseSize([]byte(in)); n != want {
			t.Errorf("%q: %d", in, n)
		}
	}
}

func TestNames(t *testing.T) {
	for typ, want := range map[Type]string{'C': "message_size", 'L': "content_filter", 'd': "unknown_record_type", 'E': "message_end", '/': "canceled_recipient"} {
		if typ.String() != want {
			t.Errorf("%c: %s", typ, typ)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("T\x111795330234 433092S\x01aR\x01bM\x00N\x02hiX\x00E\x00"), false)
	f.Add([]byte("S\x01ap\x0f              3"), false)
	f.Add([]byte("N\xff\xff\xff\xff\x7f"), true)
	f.Fuzz(func(t *testing.T, in []byte, raw bool) {
		r := NewReader(bytes.NewReader(in))
		r.Raw = raw
		var again []byte
		for n := 0; ; n++ {
			typ, data, err := r.Next()
			if err != nil {
				if err != io.EOF && !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
				break
			}
			if r.Offset() < 0 || r.Tell() > int64(len(in)) {
				t.Fatalf("offset %d, tell %d of %d", r.Offset(), r.Tell(), len(in))
			}
			if in[r.Offset()] != byte(typ) {
				t.Fatalf("no %c at %d", typ, r.Offset())
			}
			again = Append(again, typ, data)
			if n > 50_000 {
				break
			}
		}
		if raw && !bytes.HasPrefix(in, again) && len(again) <= len(in) && minimal(in) {
			t.Fatalf("%q read as %q", in, again)
		}
	})
}

// minimal reports whether no length has a useless last byte, so that writing
// again gives the same bytes.
func minimal(in []byte) bool {
	return !bytes.Contains(in, []byte{0x80, 0}) && !bytes.ContainsAny(in, "\x80\x81\xff")
}
