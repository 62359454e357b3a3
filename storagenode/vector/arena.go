package vector

import (
	"slices"
	"sync"
	"sync/atomic"
)

// none is no slot.
const none = ^uint32(0)

// chunkSlots is how many slots are allocated at once: 400 KB at 768 dimensions, so a small shard stays small.
const chunkSlots = 256

// chunk holds what belongs to chunkSlots slots, in flat arrays.
type chunk struct {
	codes []int16  // stride each; written before the slot is live, then never until the slot is given again
	base  []uint32 // layer 0: a list each
	upper [chunkSlots][]uint32
	ids   [chunkSlots]string
	live  [chunkSlots]atomic.Bool // a result may be this slot

	// The parent in layer 0's spanning tree; none for the root and for what is not in the graph. Guarded by Index.write.
	parent [chunkSlots]uint32
}

// A list is the neighbours of a slot in one layer: their number, then their slots. Its one writer and its readers use
// atomic words and no lock. A reader that meets a write may see some neighbours of before and some of after it, and one
// of them twice: each is a slot whose code and lists are complete.
type list []uint32

func (l list) len() int        { return int(atomic.LoadUint32(&l[0])) }
func (l list) at(i int) uint32 { return atomic.LoadUint32(&l[1+i]) }
func (l list) full() bool      { return l.len() == len(l)-1 }

func (l list) add(s uint32) {
	n := l.len()
	atomic.StoreUint32(&l[1+n], s)
	atomic.StoreUint32(&l[0], uint32(n+1))
}

func (l list) index(s uint32) int { return slices.Index(l[1:1+l[0]], s) } // of the writer only
func (l list) has(s uint32) bool  { return l.index(s) >= 0 }

// remove takes s out, if it is in.
func (l list) remove(s uint32) {
	i := l.index(s)
	if i < 0 {
		return
	}
	last := l.len() - 1
	atomic.StoreUint32(&l[1+i], l[1+last])
	atomic.StoreUint32(&l[0], uint32(last))
}

// set replaces the neighbours.
func (l list) set(slots []uint32) {
	for i, s := range slots {
		atomic.StoreUint32(&l[1+i], s)
	}
	atomic.StoreUint32(&l[0], uint32(len(slots)))
}

// arena hands out slots, dense numbers from 0. A slot that was released may still be seen by searches that began before:
// it is given again when they have ended.
type arena struct {
	codeLen        int
	baseLen, upLen int // of lists, the number included

	chunks atomic.Pointer[[]*chunk] // grows only, by copying

	// searching is held for reading by every search, and for writing only for the moment in which released becomes free: then
	// no search is running that began before.
	searching sync.RWMutex
	used      uint32   // slots ever given; guarded, with the following, by Index.write
	free      []uint32 // to be given again
	released  []uint32
}

// maxReleased is how many released slots may pile up before their release waits for running searches.
const maxReleased = 1024

func (a *arena) init(codeLen, m int) {
	a.codeLen, a.baseLen, a.upLen = codeLen, 1+2*m, 1+m
	a.chunks.Store(new([]*chunk))
}

func (a *arena) chunk(s uint32) *chunk { return (*a.chunks.Load())[s/chunkSlots] }

func (a *arena) code(s uint32) []int16 { return a.chunk(s).code(s, a.codeLen) }

func (c *chunk) code(s uint32, n int) []int16 {
	i := int(s%chunkSlots) * n
	return c.codes[i : i+n : i+n]
}

func (a *arena) list(s uint32, level int) list { return a.chunk(s).list(s, level, a) }

func (c *chunk) list(s uint32, level int, a *arena) list {
	i := int(s % chunkSlots)
	if level == 0 {
		return c.base[i*a.baseLen : (i+1)*a.baseLen]
	}
	return c.upper[i][(level-1)*a.upLen : level*a.upLen]
}

// level is the highest layer that s is in.
func (a *arena) level(s uint32) int { return len(a.chunk(s).upper[s%chunkSlots]) / a.upLen }

func (a *arena) id(s uint32) string           { return a.chunk(s).ids[s%chunkSlots] }
func (a *arena) live(s uint32) bool           { return a.chunk(s).live[s%chunkSlots].Load() }
func (a *arena) setLive(s uint32, live bool)  { a.chunk(s).live[s%chunkSlots].Store(live) }
func (a *arena) parent(s uint32) uint32       { return a.chunk(s).parent[s%chunkSlots] }
func (a *arena) setParent(s uint32, p uint32) { a.chunk(s).parent[s%chunkSlots] = p }

// give answers a slot with empty lists for layers 0 to level. Its code has zeros in the padding.
func (a *arena) give(id string, level int) uint32 {
	if len(a.free) == 0 {
		a.reclaim()
	}
	var s uint32
	if n := len(a.free); n > 0 {
		s, a.free = a.free[n-1], a.free[:n-1]
	} else {
		s = a.used
		a.used++
		a.grow()
	}
	c, i := a.chunk(s), s%chunkSlots
	c.ids[i], c.parent[i] = id, none
	c.upper[i] = make([]uint32, level*a.upLen)
	c.list(s, 0, a).set(nil)
	return s
}

// grow makes the chunk of the newest slot, if it is the first of one.
func (a *arena) grow() {
	old := *a.chunks.Load()
	if int(a.used) <= len(old)*chunkSlots {
		return
	}
	chunks := append(slices.Clip(old), &chunk{codes: make([]int16, chunkSlots*a.codeLen), base: make([]uint32, chunkSlots*a.baseLen)})
	a.chunks.Store(&chunks)
}

// release takes back a slot that no list names any more. Its own lists stay, for searches that stand on it.
func (a *arena) release(s uint32) {
	a.setParent(s, none)
	a.released = append(a.released, s)
}

// reclaim frees what was released, unless searches are running; when much has piled up it waits for them.
func (a *arena) reclaim() {
	if len(a.released) == 0 {
		return
	}
	if len(a.released) >= maxReleased {
		a.searching.Lock()
	} else if !a.searching.TryLock() {
		return
	}
	a.searching.Unlock()
	a.free = append(a.free, a.released...)
	a.released = a.released[:0]
}
