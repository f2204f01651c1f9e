package record

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Writer writes records. The first error sticks: every later call returns it.
type Writer struct {
	w      *bufio.Writer
	offset int64
	err    error
	head   [1 + binary.MaxVarintLen64]byte
}

// NewWriter returns a Writer on w, which is taken to be at offset 0; a
// *bufio.Writer is used as it is, so that records and attribute lists can
// share one stream.
func NewWriter(w io.Writer) *Writer { return NewWriterAt(w, 0) }

// NewWriterAt returns a Writer whose first record goes to that file offset.
func NewWriterAt(w io.Writer, offset int64) *Writer {
	b, ok := w.(*bufio.Writer)
	if !ok {
		b = bufio.NewWriterSize(w, 8192)
	}
	return &Writer{w: b, offset: offset}
}

// Put writes one record.
func (w *Writer) Put(t Type, data []byte) error {
	if w.err != nil {
		return w.err
	}
	w.start(t, len(data))
	if _, err := w.w.Write(data); err != nil {
		w.err = err
	}
	return w.err
}

// PutString writes one record.
func (w *Writer) PutString(t Type, data string) error {
	if w.err != nil {
		return w.err
	}
	w.start(t, len(data))
	if _, err := w.w.WriteString(data); err != nil {
		w.err = err
	}
	return w.err
}

func (w *Writer) start(t Type, length int) {
	head := binary.AppendUvarint(append(w.head[:0], byte(t)), uint64(length))
	w.offset += int64(len(head) + length)
	if _, err := w.w.Write(head); err != nil {
		w.err = err
	}
}

// Printf writes one record of formatted text.
func (w *Writer) Printf(t Type, format string, args ...any) error {
	return w.PutString(t, fmt.Sprintf(format, args...))
}

// PutAttr writes an attribute record, name=value.
func (w *Writer) PutAttr(name, value string) error {
	return w.PutString(TypeAttr, name+"="+value)
}

// PutText writes content: one line, without its newline, as one 'N' record,
// or as 'L' records of limit bytes and a last 'N' when it is longer. A limit
// of 0 is none.
func (w *Writer) PutText(line []byte, limit int) error {
	if limit > 0 && len(line) > limit {
		chunks := slices.Collect(slices.Chunk(line, limit))
		for _, c := range chunks[:len(chunks)-1] {
			w.Put(TypeContinued, c)
		}
		line = chunks[len(chunks)-1]
	}
	return w.Put(TypeNormal, line)
}

// Offset is where the next record will start.
func (w *Writer) Offset() int64 { return w.offset }

// Flush hands everything to the underlying writer.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}
