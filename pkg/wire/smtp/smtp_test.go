package smtp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// peer returns a Conn whose other side sends input in chunks of n bytes.
func peer(t testing.TB, input string, n int) *Conn {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	go func() {
		for len(input) > 0 {
			k := min(n, len(input))
			if _, err := b.Write([]byte(input[:k])); err != nil {
				return
			}
			input = input[k:]
		}
		b.Close()
	}()
	return NewConn(a, 5*time.Second)
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 20000)
	for _, chunk := range []int{1, 7, 4096, 100000} {
		c := peer(t, "a b\r\nbare\n\r\r\n"+long+"\r\n12345678\r\n123456789\r\nend\r\npartial", chunk)
		for _, want := range []Line{
			{Text: []byte("a b")}, {Text: []byte("bare"), Bare: true}, {Text: []byte("\r")},
			{Text: []byte("xxxxxxxx"), Long: true}, {Text: []byte("12345678")},
			{Text: []byte("12345678"), Long: true}, {Text: []byte("end")},
		} {
			got, err := c.ReadLine(8, OneCR)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("chunk %d: got %+v %v, want %+v", chunk, got, err, want)
			}
		}
		if _, err := c.ReadLine(8, OneCR); err != io.EOF {
			t.Fatal(err)
		}
	}
}

// Lines at every distance from buffer and limit come back whole.
func TestReadPieceBoundaries(t *testing.T) {
	for _, limit := range []int{5, bulkBuffer - 2, bulkBuffer - 1, bulkBuffer, bulkBuffer + 1, 2*bulkBuffer + 3} {
		for d := -3; d <= 3; d++ {
			body := strings.Repeat("ab", (limit+d)/2+1)[:max(limit+d, 1)]
			c := peer(t, body+"\r\n"+body+"\n", 3000)
			for i := range 2 {
				var got []byte
				pieces := 0
				for {
					l, err := c.ReadPiece(limit, OneCR)
					if err != nil {
						t.Fatal(limit, d, err)
					}
					if len(l.Text) > limit {
						t.Fatal("piece too long")
					}
					got = append(got, l.Text...)
					pieces++
					if !l.Long {
						if l.Bare != (i == 1) {
							t.Error("bare flag wrong")
						}
						break
					}
				}
				if string(got) != body {
					t.Fatalf("limit %d d %d line %d: got %d bytes", limit, d, i, len(got))
				}
				if want := (len(body) + limit - 1) / limit; pieces != want {
					t.Errorf("limit %d, %d bytes: %d pieces, want %d", limit, len(body), pieces, want)
				}
			}
		}
	}
}

func readAll(d *DataReader) (string, error) {
	var b strings.Builder
	for {
		l, err := d.Next()
		if err == io.EOF {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
		b.Write(l.Text)
		if !l.Long {
			b.WriteString("|")
		}
	}
}

func TestDataReader(t *testing.T) {
	for _, c := range []struct {
		in     string
		policy BareNewline
		want   string
		bare   bool
		rest   string
	}{
		{"a\r\n..b\r\n.\r\nQUIT\r\n", BareNormalize, "a|.b|", false, "QUIT"},
		{"a\r\n.\nMAIL\r\n.\r\nQUIT\r\n", BareNormalize, "a|MAIL|", true, "QUIT"},
		{"a\n.\r\nMAIL\r\n.\r\nQUIT\r\n", BareNormalize, "a|MAIL|", true, "QUIT"},
		{"a\n.\r\nMAIL\r\n", BareAllow, "a|", true, "MAIL"},
		{"a\r\n.\r\r\nb\r\n.\r\nQUIT\r\n", BareNormalize, "a|\r|b|", false, "QUIT"},
		{"a\r\n.\r\r\nQUIT\r\n", BareAllow, "a|", false, "QUIT"},
		{"1234567890.\r\n.x234567890123456\r\n.\r\nQUIT\r\n", BareNormalize, "1234567890.|x234567890123456|", false, "QUIT"},
	} {
		for _, chunk := range []int{1, 1000} {
			conn := peer(t, c.in, chunk)
			d := NewDataReader(conn, 10, c.policy, false)
			got, err := readAll(d)
			if err != nil || got != c.want || d.SawBare != c.bare {
				t.Errorf("%q: got %q bare %v %v", c.in, got, d.SawBare, err)
				continue
			}
			if l, err := conn.ReadLine(100, OneCR); err != nil || string(l.Text) != c.rest {
				t.Errorf("%q: then %q %v", c.in, l.Text, err)
			}
		}
	}
	if _, err := readAll(NewDataReader(peer(t, "a\r\n.", 9), 10, BareNormalize, false)); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

func TestTokenize(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"MAIL FROM:<a>", "MAIL|FROM:|<a>"},
		{" mail  from:a", "mail|from:|a"},
		{"MAIL FROM: <a> SIZE=1", "MAIL|FROM:|<a>|SIZE=1"},
		{"MAIL FROM <a>", "MAIL|FROM|<a>"},
		{`RCPT TO:<"a b>"@c> x`, `RCPT|TO:|<"a b>"@c>|x`},
		{`RCPT TO:<a <b> c>x"y z" q`, `RCPT|TO:|<a <b> c>x"y z"|q`},
		{"RCPT TO:<a b", "RCPT|TO:|<a b!"},
		{`a\ b c`, `a\ b|c`},
		{"", ""}, {" \t", ""}, {"A\x00B C", "A"},
	} {
		var parts []string
		for _, tok := range Tokenize(c.in) {
			if tok.Bad {
				tok.Text += "!"
			}
			parts = append(parts, tok.Text)
		}
		if got := strings.Join(parts, "|"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestReply(t *testing.T) {
	c := peer(t, "220 x\r\ngarbage\r\n250-a\r\n250-b\r\n250 5.1.1 c\r\n354\r\n550-5.7.1 a\r\n550 5.7.1 b\xff\r\n", 3)
	for _, want := range []struct {
		code      int
		dsn, text string
		garbage   int
	}{{220, "2.0.0", "220 x", 0}, {250, "2.0.0", "250-a\n250-b\n250 5.1.1 c", 1}, {354, "5.5.0", "354", 0}, {550, "5.7.1", "550-5.7.1 a\n550 5.7.1 b?", 0}} {
		r, err := c.ReadReply(2048, nil)
		if err != nil || r.Code != want.code || r.DSN != want.dsn || r.Text != want.text || len(r.Garbage) != want.garbage {
			t.Errorf("got %+v %v, want %+v", r, err, want)
		}
	}
	if got := FormatReply("452 4.3.1 a\r\n452 4.3.1 b"); got != "452-4.3.1 a\r\n452 4.3.1 b\r\n" {
		t.Errorf("%q", got)
	}
}

func TestTimeoutAndPeek(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			fmt.Fprint(c, "hello\r\nmore")
			time.Sleep(time.Second)
			c.Close()
		}
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := NewConn(nc, 100*time.Millisecond)
	for range 50 {
		if len(c.Peek(100)) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if got := c.Peek(5); string(got) != "hello" {
		t.Errorf("peek %q", got)
	}
	if l, err := c.ReadLine(100, OneCR); err != nil || string(l.Text) != "hello" {
		t.Error(l, err)
	}
	if got := c.Peek(100); string(got) != "more" {
		t.Errorf("peek %q", got)
	}
	if _, err := c.ReadLine(100, OneCR); err != ErrTimeout {
		t.Error(err)
	}
}

func FuzzTokenize(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a>", `RCPT TO:<"a\"b"@c> ORCPT=x`, "a<b<c", "to:to:x", "\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rest := s
		for _, tok := range Tokenize(s) {
			i := strings.Index(rest, tok.Text)
			if tok.Text == "" || i < 0 {
				t.Fatalf("%q: token %q", s, tok.Text)
			}
			if strings.Trim(rest[:i], spaces) != "" {
				t.Fatalf("%q: lost %q", s, rest[:i])
			}
			rest = rest[i+len(tok.Text):]
		}
	})
}

// What DotWriter writes DataReader reads back, and nothing more.
func FuzzDots(f *testing.F) {
	f.Add([]byte(".\n..\nx\n.x"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		in = bytes.ReplaceAll(in, []byte("\r"), nil)
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		go func() {
			c := NewConn(b, time.Second)
			w := NewDotWriter(c)
			for _, line := range bytes.Split(in, []byte("\n")) {
				for len(line) > int(chunk)+1 {
					w.WriteLine(line[:chunk+1], true)
					line = line[chunk+1:]
				}
				w.WriteLine(line, false)
			}
			w.Close()
			c.Flush()
		}()
		got, err := readAll(NewDataReader(NewConn(a, time.Second), 100, BareReject, false))
		if want := strings.ReplaceAll(string(in), "\n", "|") + "|"; err != nil || got != want {
			t.Fatalf("got %q %v, want %q", got, err, want)
		}
	})
}
