package bdb

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

// ErrTooLarge is returned for more data than a file can address.
var ErrTooLarge = errors.New("database too large")

// DefaultPageSize is what libdb takes on file systems with 4096-byte blocks.
const DefaultPageSize = 4096

// Build makes the image of a file that holds the pairs, as little-endian machines write it.
// Keys must be distinct. The order of pairs does not matter; the slice is sorted in place.
// A zero fileID means a random one.
func Build(kind Kind, pairs []Pair, pageSize int, fileID [20]byte) ([]byte, error) {
	if fileID == ([20]byte{}) {
		if _, err := rand.Read(fileID[:]); err != nil {
			return nil, err
		}
	}
	w := &builder{pageSize: pageSize}
	w.image = make([]byte, pageSize) // metadata, filled in last
	slices.SortFunc(pairs, func(a, b Pair) int { return bytes.Compare(a.Key, b.Key) })
	var err error
	if kind == Btree {
		err = w.btree(pairs)
	} else {
		err = w.hash(pairs)
	}
	if err != nil {
		return nil, err
	}
	m := w.image
	le.PutUint32(m[4:], 1) // log sequence number of a file outside a transaction
	le.PutUint32(m[16:], version)
	le.PutUint32(m[20:], uint32(pageSize))
	m[25] = byte(kind)
	le.PutUint32(m[32:], uint32(len(m)/pageSize-1))
	copy(m[52:], fileID[:])
	return m, nil
}

var le = binary.LittleEndian

type builder struct {
	pageSize int
	image    []byte
}

// add appends an empty page.
func (w *builder) add(kind, level byte) (no uint32, err error) {
	n := len(w.image) / w.pageSize
	if n >= 1<<31 {
		return 0, ErrTooLarge
	}
	w.image = append(w.image, make([]byte, w.pageSize)...)
	p := w.page(uint32(n))
	le.PutUint32(p[4:], 1)
	le.PutUint32(p[8:], uint32(n))
	le.PutUint16(p[22:], uint16(w.pageSize)) // 65536 wraps to 0, as libdb has it
	p[24], p[25] = level, kind
	return uint32(n), nil
}

func (w *builder) page(no uint32) []byte {
	return w.image[int(no)*w.pageSize : (int(no)+1)*w.pageSize]
}

// link chains page after behind before.
func (w *builder) link(before, after uint32) {
	le.PutUint32(w.page(before)[16:], after)
	le.PutUint32(w.page(after)[12:], before)
}

// overflow stores data on a chain of pages of its own.
func (w *builder) overflow(data []byte) (first uint32, err error) {
	room := w.pageSize - headerSize
	var last uint32
	for len(data) > 0 {
		no, err := w.add(pageOverflow, 0)
		if err != nil {
			return 0, err
		}
		n := min(len(data), room)
		p := w.page(no)
		le.PutUint16(p[20:], 1) // reference count
		le.PutUint16(p[22:], uint16(n))
		copy(p[headerSize:], data[:n])
		data = data[n:]
		if last == 0 {
			first = no
		} else {
			w.link(last, no)
		}
		last = no
	}
	return first, nil
}

// hashItemSize is the room an item takes in a page, without its offset.
func (w *builder) hashItemSize(data []byte) int {
	if w.bigHash(data) {
		return offPageSize
	}
	return 1 + len(data)
}

func (w *builder) bigHash(data []byte) bool { return len(data) > w.pageSize/4 }

// hash lays pairs out in 2^n buckets, which start out as pages 1, 2, ..., so
// that the pages of the next doubling can follow at the end of the file.
func (w *builder) hash(pairs []Pair) error {
	total := 0
	for _, p := range pairs {
		total += w.hashItemSize(p.Key) + w.hashItemSize(p.Value) + 4
	}
	// Half full pages on average at most: chains stay rare.
	want := total / ((w.pageSize - headerSize) / 2)
	doublings := max(1, bits.Len(uint(want)))
	buckets := uint32(1) << doublings
	for range buckets {
		if _, err := w.add(pageHash, 0); err != nil {
			return err
		}
	}
	last := make([]uint32, buckets) // last page of each bucket's chain
	for i := range last {
		last[i] = uint32(i) + 1
	}
	for _, p := range pairs {
		b := HashOf(p.Key) & (buckets - 1)
		need := w.hashItemSize(p.Key) + w.hashItemSize(p.Value) + 4
		if w.free(last[b]) < need {
			no, err := w.add(pageHash, 0)
			if err != nil {
				return err
			}
			w.link(last[b], no)
			last[b] = no
		}
		for _, data := range [2][]byte{p.Key, p.Value} {
			if err := w.putHash(last[b], data); err != nil {
				return err
			}
		}
	}
	m := w.image
	le.PutUint32(m[12:], hashMagic)
	le.PutUint32(m[72:], buckets-1)
	le.PutUint32(m[76:], buckets-1)
	le.PutUint32(m[80:], buckets/2-1)
	le.PutUint32(m[88:], uint32(4096+len(pairs)))
	le.PutUint32(m[92:], HashOf([]byte("%$sniglet^&\x00")))
	for i := 0; i <= doublings; i++ {
		le.PutUint32(m[96+4*i:], 1)
	}
	return nil
}

// free is the room between the offsets and the items of a page.
func (w *builder) free(no uint32) int {
	p := w.page(no)
	return w.high(p) - headerSize - 2*int(le.Uint16(p[20:]))
}

// high is the offset of the lowest item of a page.
func (w *builder) high(p []byte) int {
	if h := int(le.Uint16(p[22:])); h != 0 {
		return h
	}
	return w.pageSize
}

// place makes room for an item of n bytes and enters its offset.
func (w *builder) place(no uint32, n int) []byte {
	p := w.page(no)
	count := int(le.Uint16(p[20:]))
	at := w.high(p) - n
	le.PutUint16(p[headerSize+2*count:], uint16(at))
	le.PutUint16(p[20:], uint16(count+1))
	le.PutUint16(p[22:], uint16(at))
	return p[at : at+n]
}

func (w *builder) putHash(no uint32, data []byte) error {
	if !w.bigHash(data) {
		item := w.place(no, 1+len(data))
		item[0] = itemKeyData
		copy(item[1:], data)
		return nil
	}
	first, err := w.overflow(data)
	if err != nil {
		return err
	}
	item := w.place(no, offPageSize)
	item[0] = itemOffPage
	le.PutUint32(item[4:], first)
	le.PutUint32(item[8:], uint32(len(data)))
	return nil
}
