package record

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// maxReverseJumps bounds the pointers of one file that lead backwards, so
// that a loop of them ends (spec queue.md §2.8).
const maxReverseJumps = 10_000

// Reader reads records. On a file it follows pointer records, skips padding,
// and after the end record there is nothing but io.EOF; see Raw.
type Reader struct {
	// Path names the stream in error texts: "active/9222F9BC208", "stdin".
	Path string
	// Raw shows pointer and padding records instead of hiding them, and goes
	// on reading after an end record.
	Raw bool
	// Max is the longest record taken; 0 is 64 MiB, which no program of
	// Postfix's comes near.
	Max int

	src        source
	seeker     io.Seeker // nil: not a file
	buf        *bufio.Reader
	raw        io.Reader
	data       []byte
	start      int64 // where the last Next began to read
	offset     int64 // of the record last returned
	next       int64 // where the next one starts
	lastTarget int64
	jumps      int
	done       bool
}

type source interface {
	io.Reader
	io.ByteReader
}

// NewReader returns a Reader on r. When r can seek (a queue file), offsets
// count from the start of the file and reading starts at the current
// position. When r is an io.ByteReader (a *bufio.Reader that attribute lists
// are read from, too) it is read without a buffer in between, so that nothing
// behind the last record is swallowed.
func NewReader(r io.Reader) *Reader {
	reader := &Reader{raw: r}
	if s, ok := r.(io.Seeker); ok {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			reader.seeker, reader.next = s, at
		}
	}
	if b, ok := r.(source); ok && reader.seeker == nil {
		reader.src = b
		return reader
	}
	reader.buf = bufio.NewReaderSize(r, 8192)
	reader.src = reader.buf
	return reader
}

// Reset makes a Reader, which was made for a file, read another file from its
// beginning with the same buffers. Path has to be set anew, too.
func (r *Reader) Reset(f io.ReadSeeker) {
	r.buf.Reset(f)
	*r = Reader{Path: r.Path, Raw: r.Raw, Max: r.Max, src: r.buf, seeker: f, buf: r.buf, raw: f, data: r.data[:0]}
}

// Offset is the file offset of the type byte of the record that Next
// returned last, after any pointer that led to it.
func (r *Reader) Offset() int64 { return r.offset }

// Start is the offset at which the last Next began to read: that of a
// pointer, if one was followed.
func (r *Reader) Start() int64 { return r.start }

// Tell is the offset just behind the last record.
func (r *Reader) Tell() int64 { return r.next }

// SeekTo goes on reading at that offset. It fails when the input is not a
// file.
func (r *Reader) SeekTo(offset int64) error {
	if r.seeker == nil {
		return &Error{fmt.Sprintf("%s: input is not seekable", r.Path)}
	}
	r.done = false
	if ahead := offset - r.next; ahead >= 0 && ahead <= int64(r.buf.Buffered()) {
		r.buf.Discard(int(ahead))
		r.next = offset
		return nil
	}
	if _, err := r.seeker.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	r.buf.Reset(r.raw)
	r.next = offset
	return nil
}

// Next returns the next record; the data is good until the next call.
func (r *Reader) Next() (Type, []byte, error) {
	r.start = r.next
	for {
		if r.done {
			return 0, nil, io.EOF
		}
		t, data, err := r.read()
		if err != nil || r.Raw {
			return t, data, err
		}
		switch t {
		case TypePadding:
		case TypePointer:
			if err := r.FollowPointer(data); err != nil {
				return 0, nil, err
			}
		case TypeEnd:
			r.done = true
			return t, data, nil
		default:
			return t, data, nil
		}
	}
}

// FollowPointer goes where a pointer record's data says, for callers that
// read raw.
func (r *Reader) FollowPointer(data []byte) error {
	target, err := ParsePointer(data)
	if err != nil {
		return &Error{fmt.Sprintf("%s: malformed pointer record value: %s", r.Path, data)}
	}
	if target == 0 {
		return nil
	}
	if target <= r.lastTarget {
		if r.jumps++; r.jumps > maxReverseJumps {
			return &Error{fmt.Sprintf("%s: too many reverse jump records", r.Path)}
		}
	}
	r.lastTarget = target
	if err := r.SeekTo(target); err != nil {
		return &Error{fmt.Sprintf("%s: seek error after pointer record: %v", r.Path, err)}
	}
	return nil
}

// ParsePointer reads the data of a pointer record: blanks, then decimal
// digits. 0 means "no jump".
func ParsePointer(data []byte) (int64, error) {
	i := 0
	for i < len(data) && (data[i] == ' ' || data[i] == '\t') {
		i++
	}
	for _, c := range data[i:] {
		if c < '0' || c > '9' {
			return 0, ErrMalformed
		}
	}
	return strconv.ParseInt(string(data[i:]), 10, 64)
}

// read reads one record as it stands.
func (r *Reader) read() (Type, []byte, error) {
	c, err := r.src.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	t := Type(c)
	r.offset = r.next
	r.next++
	length, err := r.length(t)
	if err != nil {
		return t, nil, err
	}
	limit := r.Max
	if limit <= 0 {
		limit = defaultMaxRecord
	}
	if length > uint64(limit) {
		return t, nil, r.tooLong(t, length)
	}
	if err := r.fill(int(length)); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = &Error{fmt.Sprintf("%s: unexpected EOF in data, record type %d length %d", r.Path, t, length)}
		}
		return t, nil, err
	}
	r.next += int64(length)
	return t, r.data, nil
}

func (r *Reader) length(t Type) (uint64, error) {
	var length uint64
	for n := 0; n < maxLengthBytes; n++ {
		c, err := r.src.ReadByte()
		if err == io.EOF {
			return 0, &Error{fmt.Sprintf("%s: unexpected EOF reading length, record type %d", r.Path, t)}
		}
		if err != nil {
			return 0, err
		}
		r.next++
		length |= uint64(c&0x7f) << (7 * n)
		if c < 0x80 {
			return length, nil
		}
	}
	return 0, &Error{fmt.Sprintf("%s: too many length bits, record type %d", r.Path, t)}
}

// tooLong skips the data of an oversize record, as far as there is any, so
// that the caller can go on with the next.
func (r *Reader) tooLong(t Type, length uint64) error {
	n, err := io.CopyN(io.Discard, r.src, int64(length))
	r.next += n
	if err != nil && err != io.EOF {
		return err
	}
	return &Error{fmt.Sprintf("%s: illegal length %d, record type %d", r.Path, int32(length), t)}
}

// fill reads n bytes into r.data. Memory grows with what is really there, not
// with what the length claims.
func (r *Reader) fill(n int) error {
	const step = 64 << 10
	r.data = r.data[:0]
	for n > 0 {
		part := min(n, step)
		have := len(r.data)
		r.data = append(r.data, make([]byte, part)...)
		if _, err := io.ReadFull(r.src, r.data[have:]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}
