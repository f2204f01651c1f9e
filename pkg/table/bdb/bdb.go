// Package bdb reads and builds Berkeley DB 5.3 hash and btree files without
// the C library: single unnamed databases without duplicates, encryption or
// checksums verification, which is what Postfix tables are (config.md 3.17).
//
// A file of the wrong kind gives ErrFormat, an impossible page ErrCorrupt
// (wrapped with the page); read errors are returned as they are. Nothing is
// cached: the caller locks the file and decides when to look again.
package bdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"
)

// Kind is the access method of a file.
type Kind byte

// The kinds, by their metadata page type.
const (
	Hash  Kind = 8
	Btree Kind = 9
)

// Errors.
var (
	ErrFormat  = errors.New("unexpected file type or format")
	ErrCorrupt = errors.New("corrupt database page")
)

// Page types.
const (
	pageUnsortedHash = 2
	pageInternal     = 3
	pageLeaf         = 5
	pageOverflow     = 7
	pageHash         = 13
)

// Item types.
const (
	itemKeyData = 1
	itemOffPage = 3
)

const (
	hashMagic  = 0x061561
	btreeMagic = 0x053162
	version    = 9
	headerSize = 26
	metaSize   = 512
	maxDepth   = 64       // levels of a btree
	maxItem    = 64 << 20 // bytes of one key or value
)

// DB is an open file. It is safe for concurrent use as long as the reader is.
type DB struct {
	r        io.ReaderAt
	kind     Kind
	order    binary.ByteOrder
	pageSize uint32
	lastPage uint32

	maxBucket, highMask, lowMask uint32
	spares                       [32]uint32
	root                         uint32
	fileID                       [20]byte
}

// Open reads the metadata page.
func Open(r io.ReaderAt) (*DB, error) {
	meta := make([]byte, metaSize)
	if n, err := r.ReadAt(meta, 0); n < metaSize {
		if err == io.EOF || err == nil {
			err = ErrFormat
		}
		return nil, err
	}
	d := &DB{r: r, order: binary.LittleEndian}
	if m := binary.BigEndian.Uint32(meta[12:]); m == hashMagic || m == btreeMagic {
		d.order = binary.BigEndian
	}
	switch magic := d.order.Uint32(meta[12:]); {
	case magic == hashMagic && meta[25] == byte(Hash):
		d.kind = Hash
	case magic == btreeMagic && meta[25] == byte(Btree):
		d.kind = Btree
	default:
		return nil, ErrFormat
	}
	v := d.order.Uint32(meta[16:])
	if d.kind == Hash && (v < 7 || v > 9) || d.kind == Btree && (v < 8 || v > 9) || meta[24] != 0 {
		return nil, ErrFormat
	}
	d.pageSize = d.order.Uint32(meta[20:])
	if d.pageSize < 512 || d.pageSize > 65536 || d.pageSize&(d.pageSize-1) != 0 || meta[26]&1 != 0 {
		return nil, ErrFormat
	}
	d.lastPage = d.order.Uint32(meta[32:])
	copy(d.fileID[:], meta[52:72])
	if d.kind == Btree {
		d.root = d.order.Uint32(meta[88:])
		return d, nil
	}
	d.maxBucket = d.order.Uint32(meta[72:])
	d.highMask = d.order.Uint32(meta[76:])
	d.lowMask = d.order.Uint32(meta[80:])
	for i := range d.spares {
		d.spares[i] = d.order.Uint32(meta[96+4*i:])
	}
	return d, nil
}

// Kind tells the access method.
func (d *DB) Kind() Kind { return d.kind }

// PageSize is in bytes.
func (d *DB) PageSize() int { return int(d.pageSize) }

// FileID is the unique id in the metadata.
func (d *DB) FileID() [20]byte { return d.fileID }

// Get gives the value of key.
func (d *DB) Get(key []byte) (value []byte, found bool, err error) {
	if d.kind == Btree {
		return d.getBtree(key)
	}
	return d.getHash(key)
}

// All walks the pairs: of a hash file in bucket order, of a btree in key order. It ends
// after the first error. The slices may be kept.
func (d *DB) All() iter.Seq2[Pair, error] {
	if d.kind == Btree {
		return d.allBtree
	}
	return d.allHash
}

// Pair is a key with its value.
type Pair struct{ Key, Value []byte }

// HashOf is the hash function of hash files: FNV-1 with a zero basis.
func HashOf(key []byte) uint32 {
	var h uint32
	for _, c := range key {
		h = h*16777619 ^ uint32(c)
	}
	return h
}

func (d *DB) bucketPage(bucket uint32) uint32 {
	return bucket + d.spares[bits.Len32(bucket)]
}

func (d *DB) bucketOf(key []byte) uint32 {
	h := HashOf(key)
	if b := h & d.highMask; b <= d.maxBucket {
		return b
	}
	return h & d.lowMask
}

// page is the content of one page.
type page struct {
	d   *DB
	no  uint32
	buf []byte
}

func (d *DB) read(no uint32, kinds ...byte) (page, error) {
	p := page{d: d, no: no, buf: make([]byte, d.pageSize)}
	if no > d.lastPage || no == 0 {
		return p, p.corrupt("page number out of range")
	}
	n, err := d.r.ReadAt(p.buf, int64(no)*int64(d.pageSize))
	if n < len(p.buf) {
		if err == nil || err == io.EOF {
			err = p.corrupt("file is too short")
		}
		return p, err
	}
	for _, k := range kinds {
		if p.buf[25] == k {
			return p, nil
		}
	}
	return p, p.corrupt(fmt.Sprintf("unexpected page type %d", p.buf[25]))
}

func (p page) corrupt(text string) error {
	return fmt.Errorf("%w %d: %s", ErrCorrupt, p.no, text)
}

func (p page) u16(at int) int    { return int(p.d.order.Uint16(p.buf[at:])) }
func (p page) u32(at int) uint32 { return p.d.order.Uint32(p.buf[at:]) }
func (p page) next() uint32      { return p.u32(16) }

// entries is the number of items, at most what the offsets have room for.
func (p page) entries() int { return min(p.u16(20), (len(p.buf)-headerSize)/2) }

// hashItem gives the bytes of item i of a hash page.
func (p page) hashItem(i int) ([]byte, error) {
	end := len(p.buf)
	if i > 0 {
		end = p.u16(headerSize + 2*(i-1))
	}
	start := p.u16(headerSize + 2*i)
	if start < headerSize || start >= end || end > len(p.buf) {
		return nil, p.corrupt("bad item offset")
	}
	return p.buf[start:end], nil
}

// hashValue gives the content of item i of a hash page.
func (p page) hashValue(i int) ([]byte, error) {
	item, err := p.hashItem(i)
	if err != nil {
		return nil, err
	}
	switch {
	case item[0] == itemKeyData:
		return item[1:], nil
	case item[0] == itemOffPage && len(item) >= 12:
		return p.d.overflow(p.d.order.Uint32(item[4:]), p.d.order.Uint32(item[8:]))
	}
	return nil, p.corrupt(fmt.Sprintf("unsupported item type %d", item[0]))
}

// overflow reads a chain of overflow pages that holds length bytes.
func (d *DB) overflow(no, length uint32) ([]byte, error) {
	if length > maxItem {
		return nil, page{d: d, no: no}.corrupt("item too large")
	}
	var data []byte
	for uint32(len(data)) < length {
		p, err := d.read(no, pageOverflow)
		if err != nil {
			return nil, err
		}
		n := p.u16(22)
		if n == 0 || headerSize+n > len(p.buf) {
			return nil, p.corrupt("bad overflow length")
		}
		data = append(data, p.buf[headerSize:headerSize+n]...)
		no = p.next()
	}
	return data[:length], nil
}

func (d *DB) getHash(key []byte) ([]byte, bool, error) {
	no := d.bucketPage(d.bucketOf(key))
	for steps := uint32(0); no != 0; steps++ {
		p, err := d.readHash(no, steps)
		if err != nil {
			return nil, false, err
		}
		for i := 0; i+1 < p.entries(); i += 2 {
			item, err := p.hashItem(i)
			if err != nil {
				return nil, false, err
			}
			if item[0] == itemKeyData && string(item[1:]) != string(key) {
				continue
			}
			if item[0] == itemOffPage && len(item) >= 12 && d.order.Uint32(item[8:]) != uint32(len(key)) {
				continue
			}
			k, err := p.hashValue(i)
			if err != nil {
				return nil, false, err
			}
			if string(k) == string(key) {
				v, err := p.hashValue(i + 1)
				return v, err == nil, err
			}
		}
		no = p.next()
	}
	return nil, false, nil
}

// readHash reads a page of a bucket; steps guards against a chain that is a ring.
// A page of a new bucket that was never written is empty.
func (d *DB) readHash(no, steps uint32) (page, error) {
	if steps > d.lastPage {
		return page{}, page{d: d, no: no}.corrupt("endless chain")
	}
	return d.read(no, pageHash, pageUnsortedHash, 0)
}

func (d *DB) allHash(yield func(Pair, error) bool) {
	if d.maxBucket > d.lastPage {
		yield(Pair{}, page{d: d}.corrupt("too many buckets"))
		return
	}
	for bucket := uint32(0); bucket <= d.maxBucket; bucket++ {
		no := d.bucketPage(bucket)
		for steps := uint32(0); no != 0; steps++ {
			p, err := d.readHash(no, steps)
			if err != nil {
				yield(Pair{}, err)
				return
			}
			for i := 0; i+1 < p.entries(); i += 2 {
				k, err := p.hashValue(i)
				if err != nil {
					yield(Pair{}, err)
					return
				}
				v, err := p.hashValue(i + 1)
				if !yield(Pair{k, v}, err) || err != nil {
					return
				}
			}
			no = p.next()
		}
	}
}
