package cleanup

import (
	"fmt"
	"io"

	"posthaste/pkg/spool/record"
)

// A queue file that Milters may change is prepared for it while it is written
// (queue.md §2.8): every record that a change overwrites has room for a
// pointer, and pointers that do not point yet stand where something may be
// added. Changes go to the end of the file; only then a pointer in the old
// place makes them count. The whole file becomes a message when it is
// committed, so that a process that dies in the midst leaves nothing behind.

const (
	pointerWidth = 15
	pointerSize  = 2 + pointerWidth // of a pointer record
	noPlace      = -1
)

// places are where things stand in a prepared queue file.
type places struct {
	sender, senderNext int64 // the S record, and the record after it and its filler
	recipient          gap   // after the last recipient
	meta               gap   // where the extracted segment says FILTER and REDIRECT
	header             gap   // after the last header
	extracted          int64 // the X record
	regions            []region
}

// gap is a pointer record that leads to the next record; things are inserted
// there.
type gap struct{ at, next int64 }

// region is a part of the file that holds body text and a pointer.
type region struct{ start, end int64 }

// prepares reports whether Milters may look at this message.
func (s *session) prepares() bool { return s.miltersSent || s.d.set.milters != "" }

// putGap writes a pointer that does not point yet.
func (s *session) putGap(g *gap) {
	if !s.prepares() || !s.going() {
		return
	}
	g.at = s.out.Offset()
	s.putString(record.TypePointer, fmt.Sprintf("%*d", pointerWidth, 0))
	g.next = s.out.Offset()
}

// putFiller makes room for a pointer behind a short record of n bytes.
func (s *session) putFiller(t record.Type, n int) {
	if s.prepares() && n < pointerWidth {
		s.putString(t, fmt.Sprintf("%*d", max(1, pointerWidth-2-n), 0))
	}
}

// putPointer appends a pointer.
func (s *session) putPointer(target int64) {
	s.putString(record.TypePointer, fmt.Sprintf("%*d", pointerWidth, target))
}

// point overwrites what is at an offset by a pointer. What it points to is in
// the file by then.
func (s *session) point(at, target int64) error {
	if !s.going() {
		return errEdit
	}
	if err := s.out.Flush(); err != nil {
		s.writeError(err)
		return errEdit
	}
	if err := record.PutAt(s.file, at, record.TypePointer, fmt.Sprintf("%*d", pointerWidth, target)); err != nil {
		s.writeError(err)
		return errEdit
	}
	return nil
}

// fill inserts what write writes at a gap, behind what was inserted before.
func (s *session) fill(g *gap, write func()) error {
	start := s.out.Offset()
	write()
	next := s.out.Offset()
	if next == start { // nothing to say
		return s.edited()
	}
	s.putPointer(g.next)
	if err := s.point(g.at, start); err != nil {
		return err
	}
	g.at = next
	return nil
}

// edited is the error of an edit that has just ended.
func (s *session) edited() error {
	if !s.going() {
		return errEdit
	}
	return nil
}

// fileReader reads the file from an offset.
func (s *session) fileReader(offset int64) (*record.Reader, error) {
	if err := s.out.Flush(); err != nil {
		s.writeError(err)
		return nil, errEdit
	}
	file := io.NewSectionReader(s.file, 0, s.out.Offset())
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	r := record.NewReader(file)
	r.Path = s.file.Path()
	return r, nil
}

// placed is a header in the file.
type placed struct {
	at      int64       // its first record
	first   record.Type // and that record
	data    []byte
	size    int64  // bytes of the first record
	nextRec int64  // the record after the first one and its filler
	pointer int64  // the last pointer on the way to it, or noPlace
	target  int64  // where that leads
	end     int64  // where the next header begins, or the gap behind all
	text    []byte // all its lines, separated by \n
	own     bool   // the Received: header of this system
}

// headerScan reads the primary headers one after another. Their text is cut
// at header_size_limit.
type headerScan struct {
	s       *session
	r       *record.Reader
	limit   int
	pending *placed
	pointer int64
	target  int64
	owned   bool
	done    bool
}

func (s *session) scanHeaders() (*headerScan, error) {
	r, err := s.fileReader(s.size.DataOffset)
	if err != nil {
		return nil, err
	}
	r.Raw = true
	return &headerScan{s: s, r: r, limit: s.headerLimit(), pointer: noPlace}, nil
}

// next returns the next header, nil behind the last.
func (h *headerScan) next() (*placed, error) {
	cur := h.pending
	h.pending = nil
	lineEnded := true
	if cur != nil {
		lineEnded = cur.first == record.TypeNormal
	}
	for !h.done {
		t, data, err := h.r.Next()
		if err != nil {
			return nil, err
		}
		at := h.r.Offset()
		if at == h.s.places.header.at {
			h.done = true
			if cur != nil {
				cur.end = at
			}
			break
		}
		switch t {
		case record.TypePointer:
			if cur != nil && cur.nextRec == 0 {
				cur.nextRec = at
			}
			target, err := record.ParsePointer(data)
			if err != nil {
				return nil, err
			}
			if target != 0 {
				h.pointer, h.target = at, target
			}
			if err := h.r.FollowPointer(data); err != nil {
				return nil, err
			}
		case record.TypePadding:
		case record.TypeNormal, record.TypeContinued:
			if cur != nil && cur.nextRec == 0 {
				cur.nextRec = at
			}
			folded := len(data) > 0 && (data[0] == ' ' || data[0] == '\t')
			if cur != nil && (!lineEnded || folded) {
				if len(cur.text) < h.limit {
					if lineEnded {
						cur.text = append(cur.text, '\n')
					}
					cur.text = append(cur.text, data...)
				}
				lineEnded = t == record.TypeNormal
				h.pointer = noPlace
				continue
			}
			found := &placed{at: at, first: t, data: append([]byte(nil), data...), text: append([]byte(nil), data...),
				size: h.r.Tell() - at, pointer: h.pointer, target: h.target}
			h.pointer = noPlace
			if cur == nil {
				cur = found
				lineEnded = t == record.TypeNormal
				continue
			}
			cur.end = at
			h.pending = found
			return h.mark(cur), nil
		default:
			return nil, fmt.Errorf("unexpected record type %d in message headers", t)
		}
	}
	return h.mark(cur), nil
}

// mark notes the first Received: header, which is our own and which Milters do
// not see.
func (h *headerScan) mark(p *placed) *placed {
	if p == nil {
		return nil
	}
	if p.nextRec == 0 {
		p.nextRec = p.end
	}
	if !h.owned && hasName(p.text, "Received") {
		h.owned, p.own = true, true
	}
	return p
}

// body notes the first region for a new body: that of the old one.
func (p *places) body(s *session) {
	var g gap
	s.putGap(&g)
	if s.prepares() {
		p.regions = append(p.regions[:0], region{p.header.next, s.out.Offset()})
	}
}

// milterHeaderLimit keeps headers short enough for a Milter's packets.
const milterHeaderLimit = 60000

// headerLimit is header_size_limit, lower when Milters look on.
func (s *session) headerLimit() int {
	if limit := s.d.set.headerLimit; !s.prepares() || limit < milterHeaderLimit {
		return limit
	}
	return milterHeaderLimit
}
