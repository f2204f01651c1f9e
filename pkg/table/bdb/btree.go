package bdb

import (
	"bytes"
	"fmt"
)

// A leaf item is: length u16, type u8 (high bit: deleted), data; an off-page
// item: type at 2, page u32 at 4, length u32 at 8. An internal entry is:
// length u16, type u8, unused u8, child page u32, count u32, key.
const (
	leafHeader     = 3
	offPageSize    = 12
	internalHeader = 12
	deleted        = 0x80
)

// leafValue gives item i of a leaf; ok is false for a deleted one.
func (p page) leafValue(i int) (data []byte, ok bool, err error) {
	at := p.u16(headerSize + 2*i)
	if at < headerSize || at+offPageSize > len(p.buf) && at+leafHeader > len(p.buf) {
		return nil, false, p.corrupt("bad item offset")
	}
	switch kind := p.buf[at+2]; {
	case kind&deleted != 0:
		return nil, false, nil
	case kind == itemKeyData:
		n := p.u16(at)
		if at+leafHeader+n > len(p.buf) {
			return nil, false, p.corrupt("item beyond the page")
		}
		return p.buf[at+leafHeader : at+leafHeader+n], true, nil
	case kind == itemOffPage && at+offPageSize <= len(p.buf):
		data, err := p.d.overflow(p.u32(at+4), p.u32(at+8))
		return data, err == nil, err
	default:
		return nil, false, p.corrupt(fmt.Sprintf("unsupported item type %d", kind))
	}
}

// internalEntry gives the key and child of entry i of an internal page.
func (p page) internalEntry(i int) (key []byte, child uint32, err error) {
	at := p.u16(headerSize + 2*i)
	if at < headerSize || at+internalHeader > len(p.buf) {
		return nil, 0, p.corrupt("bad item offset")
	}
	child = p.u32(at + 4)
	if i == 0 { // minus infinity, whatever it holds
		return nil, child, nil
	}
	n := p.u16(at)
	if at+internalHeader+n > len(p.buf) {
		return nil, 0, p.corrupt("item beyond the page")
	}
	data := p.buf[at+internalHeader : at+internalHeader+n]
	switch kind := p.buf[at+2] &^ deleted; {
	case kind == itemKeyData:
		return data, child, nil
	case kind == itemOffPage && n >= offPageSize:
		key, err = p.d.overflow(p.d.order.Uint32(data[4:]), p.d.order.Uint32(data[8:]))
		return key, child, err
	default:
		return nil, 0, p.corrupt(fmt.Sprintf("unsupported item type %d", kind))
	}
}

// leaf descends to the leaf that would hold key; nil asks for the first leaf.
func (d *DB) leaf(key []byte) (page, error) {
	no := d.root
	for range maxDepth {
		p, err := d.read(no, pageInternal, pageLeaf)
		if err != nil || p.buf[25] == pageLeaf {
			return p, err
		}
		if p.entries() == 0 {
			return p, p.corrupt("empty internal page")
		}
		low, high := 0, p.entries()
		if key == nil {
			high = 1
		}
		for high-low > 1 { // invariant: key of low ≤ wanted < key of high
			mid := (low + high) / 2
			k, _, err := p.internalEntry(mid)
			if err != nil {
				return p, err
			}
			if bytes.Compare(k, key) <= 0 {
				low = mid
			} else {
				high = mid
			}
		}
		if _, no, err = p.internalEntry(low); err != nil {
			return p, err
		}
	}
	return page{}, page{d: d, no: no}.corrupt("tree too deep")
}

func (d *DB) getBtree(key []byte) ([]byte, bool, error) {
	if key == nil {
		key = []byte{}
	}
	p, err := d.leaf(key)
	if err != nil {
		return nil, false, err
	}
	low, high := 0, p.entries()/2
	for low < high {
		mid := (low + high) / 2
		// A deleted pair keeps its key's place in the order only by its
		// neighbours: fall back to a scan.
		k, ok, err := p.leafValue(2 * mid)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			return p.scan(key)
		}
		switch c := bytes.Compare(k, key); {
		case c == 0:
			v, ok, err := p.leafValue(2*mid + 1)
			return v, ok, err
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return nil, false, nil
}

func (p page) scan(key []byte) ([]byte, bool, error) {
	for i := 0; i+1 < p.entries(); i += 2 {
		k, ok, err := p.leafValue(i)
		if err != nil {
			return nil, false, err
		}
		if ok && bytes.Equal(k, key) {
			if v, ok, err := p.leafValue(i + 1); ok || err != nil {
				return v, ok, err
			}
		}
	}
	return nil, false, nil
}

func (d *DB) allBtree(yield func(Pair, error) bool) {
	p, err := d.leaf(nil)
	for steps := uint32(0); ; steps++ {
		if err == nil && steps > d.lastPage {
			err = p.corrupt("endless chain")
		}
		if err != nil {
			yield(Pair{}, err)
			return
		}
		for i := 0; i+1 < p.entries(); i += 2 {
			k, okKey, err := p.leafValue(i)
			var v []byte
			okValue := false
			if err == nil && okKey {
				v, okValue, err = p.leafValue(i + 1)
			}
			if err != nil {
				yield(Pair{}, err)
				return
			}
			if okKey && okValue && !yield(Pair{k, v}, nil) {
				return
			}
		}
		no := p.next()
		if no == 0 {
			return
		}
		p, err = d.read(no, pageLeaf)
	}
}
