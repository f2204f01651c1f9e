package bdb

// align rounds up to the 4 bytes btree items are aligned to.
func align(n int) int { return (n + 3) &^ 3 }

// bigBtree tells that an item goes to overflow pages: two of any size must fit into a page.
func (w *builder) bigBtree(data []byte) bool {
	return len(data) > (w.pageSize-headerSize)/4-10
}

func (w *builder) leafItemSize(data []byte) int {
	if w.bigBtree(data) {
		return offPageSize
	}
	return align(leafHeader + len(data))
}

// child is a page of the level below with the least key in it.
type child struct {
	no  uint32
	key []byte
}

// btree fills leaves from left to right and puts levels of internal pages on top.
// The root is page 1, as libdb has it.
func (w *builder) btree(pairs []Pair) error {
	if _, err := w.add(pageLeaf, 1); err != nil {
		return err
	}
	level, err := w.leaves(pairs)
	if err != nil {
		return err
	}
	for height := byte(2); len(level) > 1; height++ {
		if level, err = w.internal(level, height); err != nil {
			return err
		}
	}
	if root := level[0].no; root != 1 {
		w.moveRoot(root)
	}
	m := w.image
	le.PutUint32(m[12:], btreeMagic)
	le.PutUint32(m[76:], 2)    // minkey
	le.PutUint32(m[84:], 0x20) // pad byte, meaningless here
	le.PutUint32(m[88:], 1)
	return nil
}

// leaves makes the leaf level. The first leaf is page 1 only if it is the only one.
func (w *builder) leaves(pairs []Pair) ([]child, error) {
	total := 0
	for _, p := range pairs {
		total += w.leafItemSize(p.Key) + w.leafItemSize(p.Value) + 4
	}
	room := w.pageSize - headerSize
	if total <= room {
		for _, p := range pairs {
			if err := w.putLeaf(1, p); err != nil {
				return nil, err
			}
		}
		return []child{{no: 1}}, nil
	}
	var level []child
	for _, p := range pairs {
		need := w.leafItemSize(p.Key) + w.leafItemSize(p.Value) + 4
		if len(level) == 0 || w.free(level[len(level)-1].no) < need {
			no, err := w.add(pageLeaf, 1)
			if err != nil {
				return nil, err
			}
			if len(level) > 0 {
				w.link(level[len(level)-1].no, no)
			}
			level = append(level, child{no, p.Key})
		}
		if err := w.putLeaf(level[len(level)-1].no, p); err != nil {
			return nil, err
		}
	}
	return level, nil
}

func (w *builder) putLeaf(no uint32, p Pair) error {
	for _, data := range [2][]byte{p.Key, p.Value} {
		if w.bigBtree(data) {
			first, err := w.overflow(data)
			if err != nil {
				return err
			}
			offPage(w.place(no, offPageSize), first, len(data))
			continue
		}
		item := w.place(no, w.leafItemSize(data))
		le.PutUint16(item, uint16(len(data)))
		item[2] = itemKeyData
		copy(item[leafHeader:], data)
	}
	return nil
}

func offPage(item []byte, first uint32, length int) {
	item[2] = itemOffPage
	le.PutUint32(item[4:], first)
	le.PutUint32(item[8:], uint32(length))
}

// internal makes the level above children. The least key of the whole level is
// never compared and stays empty.
func (w *builder) internal(children []child, height byte) ([]child, error) {
	var level []child
	for i, c := range children {
		key, big := c.key, w.bigBtree(c.key)
		if i == 0 {
			key, big = nil, false
		}
		size := align(internalHeader + len(key))
		if big {
			size = internalHeader + offPageSize
		}
		if len(level) == 0 || w.free(level[len(level)-1].no) < size+2 {
			no, err := w.add(pageInternal, height)
			if err != nil {
				return nil, err
			}
			level = append(level, child{no, c.key})
		}
		var first uint32
		if big {
			var err error
			if first, err = w.overflow(key); err != nil {
				return nil, err
			}
		}
		item := w.place(level[len(level)-1].no, size)
		le.PutUint32(item[4:], c.no)
		if big {
			le.PutUint16(item, offPageSize)
			item[2] = itemOffPage
			offPage(item[internalHeader:], first, len(key))
			continue
		}
		le.PutUint16(item, uint16(len(key)))
		item[2] = itemKeyData
		copy(item[internalHeader:], key)
	}
	return level, nil
}

// moveRoot copies the root to page 1 and drops its old page, which is the last one
// but for overflow pages of its keys; in that case the old page becomes the free list.
func (w *builder) moveRoot(root uint32) {
	p, old := w.page(1), w.page(root)
	copy(p, old)
	le.PutUint32(p[8:], 1)
	clear(old)
	if int(root+1)*w.pageSize == len(w.image) {
		w.image = w.image[:int(root)*w.pageSize]
		return
	}
	le.PutUint32(old[4:], 1)
	le.PutUint32(old[8:], root)
	le.PutUint32(w.image[28:], root)
}
