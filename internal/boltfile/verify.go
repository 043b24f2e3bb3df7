package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// bbolt's format: pages of a header (id 8, flags 2, count 2, overflow 4 bytes) and
// elements of 16 bytes, in the machine's byte order, which is little-endian
// wherever Longshore runs. Positions of keys count from their element.
const (
	headerSize  = 16
	elementSize = 16
	metaSize    = 64
	bucketSize  = 16

	flagBranch, flagLeaf, flagMeta = 0x01, 0x02, 0x04

	magic       = 0xED0CDAED
	version     = 2
	leafBucket  = 0x01
	minPageSize = 512
	maxPageSize = 64 << 10
	// maxDepth is far beyond what any tree of a checked size has.
	maxDepth = 64
)

var order = binary.LittleEndian

// meta is what the first two pages say; the valid one of the later transaction counts.
type meta struct {
	pageSize, root, pages, tx uint64
}

func readMeta(page []byte) (m meta, ok bool) {
	if len(page) < headerSize+metaSize {
		return m, false
	}
	b := page[headerSize:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if order.Uint32(b) != magic || order.Uint32(b[4:]) != version || order.Uint64(b[56:]) != sum.Sum64() {
		return m, false
	}
	return meta{pageSize: uint64(order.Uint32(b[8:])), root: order.Uint64(b[16:]), pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}, true
}

// findMeta returns the meta page that bbolt would use. Where the first is torn, the
// size of a page, and so the place of the second, has to be found.
func findMeta(data []byte) (best meta, err error) {
	found := false
	take := func(at uint64) {
		if at >= uint64(len(data)) {
			return
		}
		if m, ok := readMeta(data[at:]); ok && (!found || m.tx > best.tx) {
			best, found = m, true
		}
	}
	if take(0); found {
		take(best.pageSize)
	} else {
		for size := uint64(minPageSize); size <= maxPageSize && !found; size *= 2 {
			take(size)
		}
	}
	if !found {
		return best, errors.New("neither of its first pages says what it is")
	}
	if best.pageSize < minPageSize || best.pageSize > maxPageSize || best.pageSize&(best.pageSize-1) != 0 {
		return best, fmt.Errorf("its pages would have %d bytes", best.pageSize)
	}
	return best, nil
}

// walk is one look at all pages in use.
type walk struct {
	data []byte
	meta meta
	used map[uint64]bool
}

// verify tells what is wrong with a database's bytes.
func verify(data []byte) error {
	m, err := findMeta(data)
	if err != nil {
		return err
	}
	if missing := m.pages*m.pageSize - uint64(len(data)); m.pages > checkedBytes/minPageSize || m.pages*m.pageSize > uint64(len(data)) {
		return fmt.Errorf("%d of its bytes are missing", missing)
	}
	w := &walk{data: data, meta: m, used: map[uint64]bool{0: true, 1: true}}
	return w.tree(m.root, 0, nil, nil)
}

// tree follows the page id and all below it, whose keys are at least low and
// below high; nil is no bound.
func (w *walk) tree(id uint64, depth int, low, high []byte) error {
	page, err := w.page(id)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("page %d is too deep", id)
	}
	return w.elements(fmt.Sprint("page ", id), page, depth, low, high)
}

// page returns a page with what overflows from it, and marks it used.
func (w *walk) page(id uint64) ([]byte, error) {
	size := w.meta.pageSize
	if id >= w.meta.pages {
		return nil, fmt.Errorf("page %d is beyond its end", id)
	}
	head := w.data[id*size:]
	if order.Uint64(head) != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, order.Uint64(head))
	}
	overflow := uint64(order.Uint32(head[12:]))
	if overflow >= w.meta.pages-id {
		return nil, fmt.Errorf("page %d ends beyond the file", id)
	}
	for i := id; i <= id+overflow; i++ {
		if w.used[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		w.used[i] = true
	}
	return w.data[id*size : (id+overflow+1)*size], nil
}

// elements checks a branch's or leaf's, and follows them.
func (w *walk) elements(name string, page []byte, depth int, low, high []byte) error {
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("%s is of the kind %#x", name, flags)
	}
	if headerSize+count*elementSize > len(page) {
		return fmt.Errorf("%s has %d elements", name, count)
	}
	if flags == flagBranch && count == 0 {
		return fmt.Errorf("%s is a branch of nothing", name)
	}
	keys, err := keysOf(page, count, flags == flagBranch)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for i, key := range keys {
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 || low != nil && bytes.Compare(low, key) > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("%s has keys out of order", name)
		}
		next := high
		if i+1 < count {
			next = keys[i+1]
		}
		at := headerSize + i*elementSize
		if flags == flagBranch {
			err = w.tree(order.Uint64(page[at+8:]), depth+1, key, next)
		} else {
			err = w.leaf(page, at, key, depth)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func keysOf(page []byte, count int, branch bool) ([][]byte, error) {
	keys := make([][]byte, count)
	for i := range keys {
		at := headerSize + i*elementSize
		position, size := order.Uint32(page[at:]), order.Uint32(page[at+4:])
		if !branch {
			position, size = size, order.Uint32(page[at+8:])
		}
		var err error
		if keys[i], err = within(page, at, position, size); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// leaf checks a leaf's value, and follows it where it is a bucket.
func (w *walk) leaf(page []byte, at int, key []byte, depth int) error {
	e := page[at:]
	value, err := within(page, at+len(key), order.Uint32(e[4:]), order.Uint32(e[12:]))
	if err != nil || order.Uint32(e)&leafBucket == 0 {
		return err
	}
	if len(value) < bucketSize {
		return fmt.Errorf("a bucket of %d bytes", len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return w.tree(root, depth+1, nil, nil)
	}
	if len(value) < bucketSize+headerSize || order.Uint16(value[bucketSize+8:]) != flagLeaf {
		return errors.New("a small bucket that is none")
	}
	if depth > maxDepth {
		return errors.New("buckets too deep")
	}
	return w.elements("a small bucket", value[bucketSize:], depth+1, nil, nil)
}

func within(page []byte, at int, position, size uint32) ([]byte, error) {
	begin := uint64(at) + uint64(position)
	if end := begin + uint64(size); end <= uint64(len(page)) {
		return page[begin:end], nil
	}
	return nil, errors.New("an element beyond its page's end")
}
