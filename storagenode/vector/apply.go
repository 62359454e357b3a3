package vector

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/transport"
)

// batchVectors is how many new vectors are planned side by side. They are compared with each other one by one, which
// costs a fraction of the walks: 128 dot products each, where a walk takes over a thousand.
const batchVectors = 256

// Apply brings the index from its applied index to applied, which is not lower: changes are all rows whose vector changed
// after the index's applied index, up to applied, with the vectors they have now; they may be more than that, in any
// order, and repeated (the last one of an id counts), so changes can be replayed. Changes that Validate refuses are refused,
// and then nothing was changed. Searches go on meanwhile.
func (x *Index) Apply(applied uint64, changes []Change) error {
	x.write.Lock()
	defer x.write.Unlock()
	if now := x.applied.Load(); applied < now {
		return fmt.Errorf("apply changes through %d to a vector index that is complete to %d", applied, now)
	}
	last := make(map[string]int, len(changes))
	for i, c := range changes {
		if err := x.validate(c); err != nil {
			return fmt.Errorf("change of %q: %w", c.ID, err)
		}
		last[c.ID] = i
	}
	var b batch
	for i, c := range changes {
		if last[c.ID] != i {
			continue
		}
		x.collect(&b, c)
		if len(b.vectors) == batchVectors || len(b.leaving) >= batchVectors {
			x.apply(&b)
		}
	}
	x.apply(&b)
	x.applied.Store(applied)
	return nil
}

func (x *Index) validate(c Change) error {
	if len(c.ID) == 0 || len(c.ID) > transport.MaxID {
		return invalid("id has %d bytes: it must be 1 to %d", len(c.ID), transport.MaxID)
	}
	if c.Vector == nil {
		return nil
	}
	return Validate(c.Vector, x.o.Dimension)
}

// batch is a group of changes that are made together.
type batch struct {
	vectors []newVector
	leaving []uint32 // slots of removed ids and of former vectors
}

// newVector is a vector on its way into the graph.
type newVector struct {
	slot   uint32
	level  int
	near   []scored   // in layer 0, nearest first
	chosen [][]uint32 // by layer: its neighbours
}

// collect takes a change into the batch. A vector with the code that the index already has changes nothing.
func (x *Index) collect(b *batch, c Change) {
	old, had := x.slot(c.ID)
	if c.Vector == nil {
		if had {
			b.leaving = append(b.leaving, old)
		}
		return
	}
	code := make([]int16, x.stride)
	encode(code, c.Vector)
	if had {
		if slices.Equal(code, x.code(old)) {
			return
		}
		b.leaving = append(b.leaving, old)
	}
	v := newVector{level: x.drawLevel(c.ID)}
	v.slot = x.give(c.ID, v.level)
	copy(x.code(v.slot), code)
	b.vectors = append(b.vectors, v)
}

// apply makes the batch's changes and empties it. A former vector leaves after the new one can be found.
func (x *Index) apply(b *batch) {
	x.plan(b)
	for i := range b.vectors {
		v := &b.vectors[i]
		x.setLive(v.slot, true)
		x.link(v)
		x.rename(v.slot)
		if e := x.entryPoint(); e.slot == none || v.level > e.level {
			x.entry.Store(entryPoint{v.slot, v.level}.pack())
		}
	}
	for _, s := range b.leaving {
		x.remove(s)
	}
	b.vectors, b.leaving = b.vectors[:0], b.leaving[:0]
}

// rename makes s the slot of its id. What was that before can be found until it is removed: searches take an id once.
func (x *Index) rename(s uint32) {
	x.names.Lock()
	defer x.names.Unlock()
	x.slots[x.id(s)] = s
}

// topLevel bounds the layers; by chance alone a vector would reach it once in 16¹⁵.
const topLevel = 15

// drawLevel is the highest layer of an id's vector, geometric as the paper has it, from id and seed.
func (x *Index) drawLevel(id string) int {
	h := x.o.Seed ^ 0xcbf29ce484222325
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 0x100000001b3
	}
	hi, lo := bits.Mul64(h^h>>32^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	hi, lo = bits.Mul64(hi^lo^x.o.Seed, 0xa0761d6478bd642f)
	u := (float64((hi^lo)>>11) + 1) / (1 << 53) // above 0, at most 1
	return min(int(-math.Log(u)/math.Log(float64(x.o.M))), topLevel)
}

// plan chooses the neighbours of the batch's vectors, from the graph as it is and from each other. It changes nothing, so any
// number of goroutines can share it.
func (x *Index) plan(b *batch) {
	if len(b.vectors) == 0 {
		return
	}
	leaving := make(map[uint32]struct{}, len(b.leaving))
	for _, s := range b.leaving {
		leaving[s] = struct{}{}
	}
	stays := func(s uint32) bool { _, ok := leaving[s]; return !ok }
	workers := min(x.o.Workers, len(b.vectors))
	for len(x.worker) < workers {
		x.worker = append(x.worker, x.walkers.New().(*walker))
	}
	var next atomic.Int64
	var done sync.WaitGroup
	for _, w := range x.worker[:workers] {
		done.Go(func() {
			entry := w.begin()
			for i := int(next.Add(1)) - 1; i < len(b.vectors); i = int(next.Add(1)) - 1 {
				w.plan(b, i, entry, stays)
			}
		})
	}
	done.Wait()
}

// plan chooses the neighbours of the batch's vector i among those that stay.
func (w *walker) plan(b *batch, i int, entry entryPoint, stays func(uint32) bool) {
	v := &b.vectors[i]
	copy(w.q, w.x.code(v.slot))
	beside := make([]scored, 0, len(b.vectors))
	for j := range b.vectors {
		if j != i {
			beside = append(beside, w.score(b.vectors[j].slot))
		}
	}
	top := -1 // of the graph as it is
	var from []scored
	if entry.slot != none {
		top = entry.level
		from = []scored{w.descend(entry, min(v.level, top))}
	}
	v.chosen = make([][]uint32, v.level+1)
	for level := v.level; level >= 0; level-- {
		var near []scored
		if level <= top {
			near, _ = w.layer(from, aim{level: level, ef: w.x.o.EFConstruction, ok: stays}) // no context, no error
			if len(near) > 0 {
				from = append(from[:0], near...)
			}
		}
		near = w.merge(near, beside, level)
		v.chosen[level] = w.x.choose(nil, near, w.x.o.M)
		if level == 0 {
			v.near = near
		}
	}
}

// merge joins what a walk found with the batch's other vectors that are in the layer.
func (w *walker) merge(near, beside []scored, level int) []scored {
	near = slices.Clone(near)
	for _, s := range beside {
		if level == 0 || w.x.level(s.slot()) >= level {
			near = append(near, s)
		}
	}
	slices.Sort(near)
	slices.Reverse(near)
	return near[:min(len(near), w.x.o.EFConstruction)]
}

// choose appends to kept, up to m in all, those candidates (nearest first) that are nearer to the query than to any that
// is already kept: neighbours in different directions (the paper's algorithm 4).
func (x *Index) choose(kept []uint32, candidates []scored, m int) []uint32 {
	for _, c := range candidates {
		if len(kept) >= m {
			break
		}
		if x.apart(kept, c) {
			kept = append(kept, c.slot())
		}
	}
	return kept
}

// apart tells whether c is nearer to the query than to any of the kept.
func (x *Index) apart(kept []uint32, c scored) bool {
	code := x.code(c.slot())
	for _, k := range kept {
		if x.dot(code, x.code(k)) >= c.dot() {
			return false
		}
	}
	return true
}
