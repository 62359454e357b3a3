package raftgroup

import (
	"encoding/binary"
	"fmt"
	"os"
)

const boltFreelist = 0x10 // flag of the page that lists the free ones

// checkPages walks every page of a bbolt file that is in use, without the library, so that the library can then read the file.
//
// A damaged meta page is refused, although the library would take the other one: that is the transaction before, which may not know
// the last vote, or the last entry. No crash leaves it: a meta page is written within one sector.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	l := &boltLog{path: path, f: f, size: stat.Size()}
	err = l.newestMeta()
	if err == nil && l.torn != nil {
		err = fmt.Errorf("the meta page at offset %d: %w: the last transaction may be lost", l.tornAt, l.torn)
	}
	if err == nil && int64(l.meta.end) > l.size/l.meta.pageSize {
		err = fmt.Errorf("%w: the file is cut, it has %d bytes of %d", errBoltPage, l.size, int64(l.meta.end)*l.meta.pageSize)
	}
	if err == nil {
		err = l.checkFreelist()
	}
	if err == nil {
		err = l.checkBuckets()
	}
	if err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

// checkFreelist holds the list, if there is one, to its page.
func (l *boltLog) checkFreelist() error {
	if l.meta.freelist == boltNoFreelist {
		return nil
	}
	if l.meta.freelist >= l.meta.end {
		return fmt.Errorf("%w: the list of free pages is at page %d", errBoltPage, l.meta.freelist)
	}
	at := int64(l.meta.freelist) * l.meta.pageSize
	head := make([]byte, boltPageHeader+8)
	if err := l.read(head, at); err != nil {
		return err
	}
	count, room := int64(binary.LittleEndian.Uint16(head[10:])), int64(binary.LittleEndian.Uint32(head[12:])+1)*l.meta.pageSize-boltPageHeader
	if count == 0xffff { // then the first number is the count
		count = int64(binary.LittleEndian.Uint64(head[boltPageHeader:])) + 1
	}
	if binary.LittleEndian.Uint64(head) != l.meta.freelist || binary.LittleEndian.Uint16(head[8:]) != boltFreelist ||
		count < 0 || count > room/8 || at+room > l.size {
		return fmt.Errorf("%w: page %d is no list of free pages", errBoltPage, l.meta.freelist)
	}
	return nil
}

// checkBuckets walks the file's buckets, which hold no other buckets.
func (l *boltLog) checkBuckets() error {
	var bad error
	fail := func(at int64, err error) bool {
		bad = fmt.Errorf("offset %d: %w", at, err)
		return false
	}
	w := boltWalk{log: l, seen: map[uint64]bool{}, bad: fail}
	value := func(e boltItem) bool {
		return e.flags == 0 || fail(e.value, fmt.Errorf("%w: key %q has flags %#x", errBoltPage, e.key, e.flags))
	}
	w.leaf = func(e boltItem) bool {
		if e.flags != 1 || e.valueSize < 16 {
			return fail(e.value, fmt.Errorf("%w: %q is no bucket", errBoltPage, e.key))
		}
		var b [8]byte
		if err := l.read(b[:], e.value); err != nil {
			return fail(e.value, err)
		}
		bucket := boltWalk{log: l, seen: w.seen, leaf: value, bad: fail}
		if root := binary.LittleEndian.Uint64(b[:]); root != 0 {
			return bucket.page(boltLink{to: root, from: e.value})
		}
		p, err := l.elements(e.value+16, 0)
		if err == nil && (!p.leaf || p.used != e.valueSize-16) {
			err = fmt.Errorf("%w: bucket %q has %d bytes of %d", errBoltPage, e.key, p.used, e.valueSize-16)
		}
		if err != nil {
			return fail(e.value, err)
		}
		for _, item := range p.items {
			if !value(item) {
				return false
			}
		}
		return true
	}
	w.page(boltLink{to: l.meta.root})
	return bad
}
