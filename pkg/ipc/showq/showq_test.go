package showq

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"posthaste/pkg/ipc/attr"
)

// The transcript of spec queue.md §4.1.
const transcript = "protocol\x00mail_queue_list_protocol\x00\x00queue_name\x00deferred\x00queue_id\x009222F9BC208\x00time\x001795328752\x00size\x00344\x00forced_expire\x000\x00sender\x00alice@example.test\x00" +
	"recipient\x00\"a b\"@defer.test\x00reason\x00connect to 127.0.0.1[127.0.0.1]:1: Connection refused\x00recipient\x00bob@defer.test\x00reason\x00connect to 127.0.0.1[127.0.0.1]:1: Connection refused\x00\x00\x00"

func TestTranscript(t *testing.T) {
	const why = "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"
	m := Message{Queue: "deferred", ID: "9222F9BC208", Time: 1795328752, Size: 344, Sender: "alice@example.test"}
	rcpts := []Recipient{{`"a b"@defer.test`, why}, {"bob@defer.test", why}}
	var b bytes.Buffer
	w := NewWriter(attr.NewWriter(&b, attr.Null))
	w.Begin()
	w.Message(m)
	for _, r := range rcpts {
		w.Recipient(r)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if b.String() != transcript {
		t.Errorf("got  %q\nwant %q", b.String(), transcript)
	}
	r := NewReader(attr.NewReader(&b, attr.Null, "x"))
	if err := r.Begin(); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Next(); got != m || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	for _, want := range rcpts {
		if got, more, err := r.Recipient(); got != want || !more || err != nil {
			t.Errorf("%+v %v %v", got, more, err)
		}
	}
	if _, more, err := r.Recipient(); more || err != nil {
		t.Error(more, err)
	}
	for range 2 {
		if _, err := r.Next(); err != io.EOF {
			t.Error(err)
		}
	}
}

func TestEmptyAndSkipped(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(attr.NewWriter(&b, attr.Null))
	w.Begin()
	w.End()
	if b.String() != "protocol\x00mail_queue_list_protocol\x00\x00\x00" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	w.Begin()
	for _, id := range []string{"A", "B"} {
		w.Message(Message{ID: id, ForcedExpire: id == "B"})
		w.Recipient(Recipient{Address: "x"})
	}
	w.End()
	r := NewReader(attr.NewReader(&b, attr.Null, "x"))
	r.Begin()
	r.Next()
	if m, err := r.Next(); m.ID != "B" || !m.ForcedExpire || err != nil {
		t.Error(m, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
}

func TestMalformed(t *testing.T) {
	for _, cut := range []int{60, 100, 200, len(transcript) - 1} {
		r := NewReader(attr.NewReader(strings.NewReader(transcript[:cut]), attr.Null, "x"))
		if err := r.Begin(); err != nil {
			t.Fatal(err)
		}
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if err == io.EOF {
			t.Errorf("cut at %d: not noticed", cut)
		}
	}
	r := NewReader(attr.NewReader(strings.NewReader("bogus\x00x\x00\x00"), attr.Null, "x"))
	if _, err := r.Next(); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in   string
		keep bool
		want string
	}{
		{"plain", true, "plain"}, {"a\x00b\x7f\n", true, "a?b??"}, {"é\xff", true, "é?"}, {"é", false, "??"},
	} {
		if got := Printable(c.in, c.keep); got != c.want {
			t.Errorf("%q: %q", c.in, got)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(transcript))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(attr.NewReader(bytes.NewReader(in), attr.Null, "fuzz"))
		err := r.Begin()
		for n := 0; err == nil; n++ {
			if n > len(in) {
				t.Fatal("more messages than bytes")
			}
			_, err = r.Next()
		}
	})
}
