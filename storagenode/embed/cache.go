package embed

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
)

// key stands for a text: contents are large, and a hash of 256 bits does not collide.
type key [sha256.Size]byte

// entryOverhead is about what an entry takes beside its vector: key, list element, map slot.
const entryOverhead = 160

// cache keeps the vectors used last, in at most limit bytes. Safe for concurrent use.
type cache struct {
	limit int64

	mu      sync.Mutex
	size    int64                 // of all entries; at most limit
	entries map[key]*list.Element // of used, each with a *cached
	used    *list.List            // the one used last in front
}

type cached struct {
	key    key
	vector []float32
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, entries: map[key]*list.Element{}, used: list.New()}
}

// get gives a copy.
func (c *cache) get(k key) ([]float32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	if !ok {
		return nil, false
	}
	c.used.MoveToFront(e)
	return slices.Clone(e.Value.(*cached).vector), true
}

// put keeps the vector itself: nobody changes it afterwards.
func (c *cache) put(k key, vector []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[k]; ok || entrySize(vector) > c.limit {
		return
	}
	c.entries[k] = c.used.PushFront(&cached{k, vector})
	c.size += entrySize(vector)
	for c.size > c.limit {
		last := c.used.Back()
		gone := c.used.Remove(last).(*cached)
		delete(c.entries, gone.key)
		c.size -= entrySize(gone.vector)
	}
}

func entrySize(vector []float32) int64 { return int64(4*len(vector)) + entryOverhead }
