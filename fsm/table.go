package fsm

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/tidwall/btree"
)

// lanes is a sum of SHA-256 hashes as four 64-bit lanes: adding and taking away objects in any order gives the same sum.
type lanes [4]uint64

func (l *lanes) add(h lanes) {
	for i := range l {
		l[i] += h[i]
	}
}

func (l *lanes) sub(h lanes) {
	for i := range l {
		l[i] -= h[i]
	}
}

func (l *lanes) append(b []byte) []byte {
	for _, v := range l {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// section names a table in hashes and snapshots. Values are never reused.
type section byte

// table is an ordered map of immutable objects with the sum of their hashes. Copies share what they have in common.
type table[K, V any] struct {
	section section
	tree    *btree.BTreeG[row[K, V]]
	sum     lanes
	buf     []byte // encoding of the object being hashed
}

type row[K, V any] struct {
	key  K
	cell *cell[V]
}

// cell is one object; it is replaced, never changed.
type cell[V any] struct {
	value V
	hash  lanes
}

// treeOptions: one goroutine writes, readers have their own copy.
var treeOptions = btree.Options{NoLocks: true}

func newTable[K, V any](sec section, compare func(a, b K) int) table[K, V] {
	less := func(a, b row[K, V]) bool { return compare(a.key, b.key) < 0 }
	return table[K, V]{section: sec, tree: btree.NewBTreeGOptions(less, treeOptions)}
}

func ordered[K cmp.Ordered, V any](sec section) table[K, V] {
	return newTable[K, V](sec, cmp.Compare[K])
}

// copy is a table that later changes of t do not touch, and the other way round.
func (t *table[K, V]) copy() table[K, V] {
	return table[K, V]{section: t.section, tree: t.tree.Copy(), sum: t.sum}
}

// get returns the object, which must not be changed, or nil.
func (t *table[K, V]) get(k K) *V {
	r, ok := t.tree.Get(row[K, V]{key: k})
	if !ok {
		return nil
	}
	return &r.cell.value
}

func (t *table[K, V]) len() int { return t.tree.Len() }

// set puts an object in the place of the one with this key, if any.
func (t *table[K, V]) set(k K, v V) {
	c := &cell[V]{value: v}
	t.buf = appendObject(append(t.buf[:0], byte(t.section)), &c.value)
	h := sha256.Sum256(t.buf)
	for i := range c.hash {
		c.hash[i] = binary.BigEndian.Uint64(h[8*i:])
	}
	if old, had := t.tree.Set(row[K, V]{key: k, cell: c}); had {
		t.sum.sub(old.cell.hash)
	}
	t.sum.add(c.hash)
}

func (t *table[K, V]) delete(k K) {
	if old, had := t.tree.Delete(row[K, V]{key: k}); had {
		t.sum.sub(old.cell.hash)
	}
}

// all walks the objects in key order; the table must not be changed meanwhile.
func (t *table[K, V]) all() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		t.tree.Scan(func(r row[K, V]) bool { return yield(&r.cell.value) })
	}
}

// appendObject writes an object as an array by position: what is hashed and what is in snapshots.
func appendObject(b []byte, v any) []byte {
	out, err := pack.AppendArray(b, v)
	if err != nil {
		panic(fmt.Sprintf("fsm: %T has no canonical form: %v", v, err)) // a defect of the type, found by any test that stores one
	}
	return out
}

// index is an ordered set of keys that are derived from the tables; it is not hashed and not in snapshots.
type index[K any] struct{ tree *btree.BTreeG[K] }

func newIndex[K any](compare func(a, b K) int) index[K] {
	return index[K]{tree: btree.NewBTreeGOptions(func(a, b K) bool { return compare(a, b) < 0 }, treeOptions)}
}

func (x index[K]) copy() index[K] { return index[K]{tree: x.tree.Copy()} }

func (x index[K]) add(k K)    { x.tree.Set(k) }
func (x index[K]) remove(k K) { x.tree.Delete(k) }

// from walks the keys at or behind k in order; the index must not be changed meanwhile.
func (x index[K]) from(k K) iter.Seq[K] {
	return func(yield func(K) bool) { x.tree.Ascend(k, yield) }
}

// keys is the whole index as a slice.
func (x index[K]) keys() []K { return slices.Clip(x.tree.Items()) }
