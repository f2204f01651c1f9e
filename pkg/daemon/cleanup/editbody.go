package cleanup

import (
	"bytes"
	"io"

	"posthaste/pkg/spool/record"
)

// bodyEdit writes a new body over the old one, and on at the end of the file
// when that is full (queue.md §2.8).
type bodyEdit struct {
	s    *session
	line []byte // an unfinished line

	n    int            // which region
	out  *record.Writer // into a region that has an end
	size int64          // of the records
}

// ReplaceBody takes a part of a new body, with CR LF (or LF) at the end of its
// lines; nil is the end of the body.
func (e *editor) ReplaceBody(part []byte) error {
	s := e.s
	if e.body == nil {
		e.body = &bodyEdit{s: s}
		e.body.enter(0)
		if err := s.point(s.places.header.at, s.places.regions[0].start); err != nil {
			return err
		}
		// The empty line that ends the headers belongs to the body.
		e.body.put(record.TypeNormal, nil)
	}
	b := e.body
	if part != nil {
		b.text(part)
		return s.edited()
	}
	e.body = nil
	if len(b.line) > 0 {
		b.put(record.TypeNormal, b.line)
	}
	b.leave(s.places.extracted)
	if s.going() {
		s.size.ContentLength = s.places.header.next - s.size.DataOffset + b.size
	}
	return s.edited()
}

// text splits a part into records of at most line_length_limit bytes. A CR
// that no LF follows stays.
func (b *bodyEdit) text(part []byte) {
	limit := b.s.d.set.lineLimit
	for len(part) > 0 {
		piece, rest, ended := bytes.Cut(part, []byte{'\n'})
		part = rest
		b.line = append(b.line, piece...)
		if ended {
			b.line = bytes.TrimSuffix(b.line, []byte{'\r'})
		}
		for limit > 0 && len(b.line) > limit {
			b.put(record.TypeContinued, b.line[:limit])
			b.line = append(b.line[:0], b.line[limit:]...)
		}
		if ended {
			b.put(record.TypeNormal, b.line)
			b.line = b.line[:0]
		}
	}
}

func (b *bodyEdit) region() region { return b.s.places.regions[b.n] }

// open says whether the region is the end of the file.
func (b *bodyEdit) open() bool { return b.region().end == 0 }

// enter goes to a region.
func (b *bodyEdit) enter(n int) {
	b.n, b.out = n, nil
	if !b.open() {
		b.out = record.NewWriterAt(io.NewOffsetWriter(b.s.file, b.region().start), b.region().start)
	}
}

// offset is where the next record of the region goes.
func (b *bodyEdit) offset() int64 {
	if b.open() {
		return b.s.out.Offset()
	}
	return b.out.Offset()
}

// put writes a record, in the next region with enough room if this one has
// not.
func (b *bodyEdit) put(t record.Type, data []byte) {
	s, size := b.s, int64(record.Size(len(data)))
	if !s.going() {
		return
	}
	if !b.open() && b.offset()+size+pointerSize > b.region().end {
		next := b.n + 1
		for next < len(s.places.regions) && s.places.regions[next].end-s.places.regions[next].start < size+pointerSize {
			next++
		}
		if next == len(s.places.regions) {
			s.places.regions = append(s.places.regions, region{start: s.out.Offset()})
		}
		b.leave(s.places.regions[next].start)
		b.enter(next)
	}
	if b.open() {
		s.put(t, data)
	} else {
		s.wrote(b.out.Put(t, data))
	}
	b.size += size
}

// leave ends the region with a pointer.
func (b *bodyEdit) leave(target int64) {
	s := b.s
	if b.open() {
		s.putPointer(target)
		s.places.regions[b.n].end = s.out.Offset()
		return
	}
	s.wrote(b.out.Printf(record.TypePointer, "%*d", pointerWidth, target))
	s.wrote(b.out.Flush())
}
