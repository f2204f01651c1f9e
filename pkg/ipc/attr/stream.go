package attr

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// Writer builds attribute lists into a buffer. Its methods chain; the first
// error sticks and is returned by Flush.
type Writer struct {
	w     *bufio.Writer
	codec Codec
	err   error
}

// NewWriter returns a Writer on w; a *bufio.Writer is used as it is, so that
// lists and other data can share one stream.
func NewWriter(w io.Writer, codec Codec) *Writer {
	b, ok := w.(*bufio.Writer)
	if !ok {
		b = bufio.NewWriterSize(w, 1024)
	}
	return &Writer{w: b, codec: codec}
}

// Str adds a string. A value that the coding cannot carry is an error.
func (w *Writer) Str(name, value string) *Writer {
	separator, end := byte(0), byte(0)
	if w.codec == Plain {
		separator, end = '=', '\n'
	}
	if w.err == nil && (strings.IndexByte(value, end) >= 0 || strings.IndexByte(name, separator) >= 0 || strings.IndexByte(name, end) >= 0) {
		w.err = fmt.Errorf("attribute %q: value cannot be encoded: %.100q", name, value)
	}
	if w.err != nil {
		return w
	}
	w.w.WriteString(name)
	w.w.WriteByte(separator)
	w.w.WriteString(value)
	w.w.WriteByte(end)
	return w
}

// Int adds a 32-bit number.
func (w *Writer) Int(name string, n int) *Writer { return w.Str(name, FormatInt(n)) }

// Long adds a 64-bit number.
func (w *Writer) Long(name string, n int64) *Writer { return w.Str(name, FormatLong(n)) }

// Data adds bytes, base64-coded.
func (w *Writer) Data(name string, data []byte) *Writer {
	return w.Str(name, base64.StdEncoding.EncodeToString(data))
}

// Hash adds a string table (Null coding only).
func (w *Writer) Hash(entries []Attr) *Writer {
	if w.codec != Null && w.err == nil {
		w.err = errors.New("string tables exist in the null coding only")
	}
	if w.err != nil {
		return w
	}
	w.w.WriteString("{\x00")
	for _, e := range entries {
		w.Str(e.Name, e.Value)
	}
	w.w.WriteString("}\x00")
	return w
}

// End ends the list without sending it yet.
func (w *Writer) End() *Writer {
	if w.err == nil {
		end := byte(0)
		if w.codec == Plain {
			end = '\n'
		}
		w.err = w.w.WriteByte(end) // that of the stream, if something could not be sent
	}
	return w
}

// Err is the first error, for callers that leave Flush to someone else.
func (w *Writer) Err() error { return w.err }

// Flush sends what was added and returns the first error.
func (w *Writer) Flush() error {
	if w.err != nil {
		return w.err
	}
	w.err = w.w.Flush()
	return w.err
}

// Send ends the list and sends it.
func (w *Writer) Send() error { return w.End().Flush() }

// Reader takes attribute lists from a stream.
type Reader struct {
	r     *bufio.Reader
	codec Codec
	from  string // the stream's name in error texts
}

// NewReader returns a Reader on r; a *bufio.Reader is used as it is. The name
// of the stream ("private/bounce socket") appears in error texts.
func NewReader(r io.Reader, codec Codec, from string) *Reader {
	b, ok := r.(*bufio.Reader)
	if !ok {
		b = bufio.NewReaderSize(r, 1024)
	}
	return &Reader{r: b, codec: codec, from: from}
}

// From is the name of the stream.
func (r *Reader) From() string { return r.from }

// Buffered is the underlying buffer, for what follows a list on the stream.
func (r *Reader) Buffered() *bufio.Reader { return r.r }

// Next returns the next attribute; more is false at the end of the list.
func (r *Reader) Next() (a Attr, more bool, err error) {
	if r.codec == Plain {
		return r.nextPlain()
	}
	a.Name, err = r.until(0, "name", true)
	if err != nil || a.Name == "" {
		return Attr{}, false, err
	}
	if a.Name == "{" {
		a.Hash, err = r.hash()
		return a, err == nil, err
	}
	a.Value, err = r.until(0, "value", false)
	return a, err == nil, err
}

// Has takes some attributes at once if they are complete in the buffer and are
// the next ones, of the Null coding, with just these names, and good says so, if
// it is not nil. The values are as many as the names and hold until the next call
// of any method. Otherwise nothing is taken.
func (r *Reader) Has(values [][]byte, names []string, good func(values [][]byte) bool) bool {
	if r.codec != Null {
		return false
	}
	have, _ := r.r.Peek(r.r.Buffered())
	rest := have
	for i, name := range names {
		n := len(name)
		if len(rest) <= n || string(rest[:n]) != name || rest[n] != 0 {
			return false
		}
		end := bytes.IndexByte(rest[n+1:], 0)
		if end < 0 {
			return false
		}
		values[i] = rest[n+1 : n+1+end]
		rest = rest[n+1+end+1:]
	}
	if good != nil && !good(values) {
		return false
	}
	r.r.Discard(len(have) - len(rest))
	return true
}

func (r *Reader) nextPlain() (Attr, bool, error) {
	line, err := r.until('\n', "name", true)
	if err != nil || line == "" {
		return Attr{}, false, err
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return Attr{}, false, &Error{Text: fmt.Sprintf("missing value for string attribute %.100s from %s", name, r.from)}
	}
	return Attr{Name: name, Value: value}, true, nil
}

func (r *Reader) hash() ([]Attr, error) {
	table, seen := []Attr{}, map[string]bool{}
	for {
		name, err := r.until(0, "name", false)
		if err != nil {
			return nil, err
		}
		if name == "}" {
			return table, nil
		}
		if seen[name] {
			return nil, &Error{Text: fmt.Sprintf("duplicate attribute %.100s in input from %s", name, r.from)}
		}
		if len(table) == MaxEntries {
			return nil, &Error{Text: fmt.Sprintf("attribute count exceeds limit %d in input from %s", MaxEntries, r.from)}
		}
		value, err := r.until(0, "value", false)
		if err != nil {
			return nil, err
		}
		seen[name] = true
		table = append(table, Attr{Name: name, Value: value})
	}
}

// until reads up to the end byte. EOF before the first byte is io.EOF when
// clean is set.
func (r *Reader) until(end byte, what string, clean bool) (string, error) {
	var long []byte
	for {
		part, err := r.r.ReadSlice(end)
		switch {
		case err == nil && long == nil:
			return string(part[:len(part)-1]), nil
		case err == nil:
			long = append(long, part[:len(part)-1]...)
			return string(long), nil
		case err == bufio.ErrBufferFull && len(long)+len(part) <= MaxValue:
			long = append(long, part...)
		case err == bufio.ErrBufferFull:
			return "", &Error{Text: fmt.Sprintf("input attribute %s from %s exceeds %d bytes", what, r.from, MaxValue)}
		case (err == io.EOF || errors.Is(err, syscall.ECONNRESET)) && clean && len(part)+len(long) == 0:
			return "", io.EOF
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "", &Error{Text: fmt.Sprintf("timeout on %s while reading input attribute %s", r.from, what), Err: err}
		case err == io.EOF, errors.Is(err, syscall.ECONNRESET):
			return "", &Error{Text: fmt.Sprintf("unexpected end-of-input from %s while reading input attribute %s", r.from, what), Err: io.ErrUnexpectedEOF}
		default:
			return "", &Error{Text: fmt.Sprintf("%v on %s while reading input attribute %s", err, r.from, what), Err: err}
		}
	}
}

// List reads one list to its end. EOF in its midst is an *Error, before its
// first byte io.EOF.
func (r *Reader) List() (List, error) {
	list := make(List, 0, 8)
	for size := 0; ; {
		a, more, err := r.Next()
		if err == io.EOF && len(list) > 0 {
			return list, &Error{Text: fmt.Sprintf("premature end-of-input on %s while reading input attribute name", r.from), Err: io.ErrUnexpectedEOF}
		}
		if err != nil || !more {
			return list, err
		}
		size += len(a.Name) + len(a.Value)
		if len(list) == MaxCount || size > 16*MaxValue {
			return list, &Error{Text: fmt.Sprintf("attribute count exceeds limit %d in input from %s", MaxCount, r.from)}
		}
		list = append(list, a)
	}
}

// Scan reads one list and takes the wanted fields out of it: see List.Scan.
func (r *Reader) Scan(fields ...Field) error {
	list, err := r.List()
	if err != nil {
		return err
	}
	_, err = list.Scan(r.from, fields...)
	return err
}

// Announce adds and sends the protocol announcement of a server (spec ipc.md
// §1.2), with further attributes if there are any.
func Announce(w *Writer, protocol string, more ...Attr) error {
	w.Str("protocol", protocol)
	for _, a := range more {
		w.Str(a.Name, a.Value)
	}
	return w.Send()
}

// Expect reads a server's announcement and verifies it.
func Expect(r *Reader, protocol string, more ...Field) error {
	list, err := r.List()
	if err == io.EOF {
		err = &Error{Text: fmt.Sprintf("premature end-of-input on %s while reading input attribute name", r.from), Err: io.ErrUnexpectedEOF}
	}
	if err != nil {
		return err
	}
	if len(list) == 0 || list[0].Name != "protocol" {
		name := "(list terminator)"
		if len(list) > 0 {
			name = list[0].Name
		}
		return &Error{Text: fmt.Sprintf("unexpected attribute %.100s from %s (expecting: protocol)", name, r.from)}
	}
	if list[0].Value != protocol {
		return &Error{Text: fmt.Sprintf("unexpected protocol %.100s from %s (expected: %s)", list[0].Value, r.from, protocol)}
	}
	_, err = list[1:].Scan(r.from, more...)
	return err
}
