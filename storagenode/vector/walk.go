package vector

import (
	"context"
	"slices"
)

// walker is the memory of one walk over the graph, reused: heaps of at most ef elements and what the frontier holds, and a
// bit for every slot.
type walker struct {
	x      *Index
	chunks []*chunk // as they were when the walk began; slots beyond them are newer than the walk and not entered
	q      []int16  // the query's code

	seen    []uint64
	touched []uint32 // words of seen that are not zero
	front   heap     // complements: the nearest first
	best    heap     // the farthest of the found first
	found   []scored // what layer answers

	dots int // codes compared, over all walks
}

// begin makes the walker see the index as large as it is now, and answers where to begin. The entry point is read first, so
// that its chunk is among those seen.
func (w *walker) begin() entryPoint {
	e := w.x.entryPoint()
	w.chunks = *w.x.chunks.Load()
	if n := len(w.chunks) * chunkSlots / 64; n > len(w.seen) {
		w.seen = make([]uint64, n)
		w.touched = w.touched[:0]
	}
	return e
}

// visit tells whether s is new to this layer's walk.
func (w *walker) visit(s uint32) bool {
	word, bit := s/64, uint64(1)<<(s%64)
	if int(s/chunkSlots) >= len(w.chunks) || w.seen[word]&bit != 0 {
		return false
	}
	if w.seen[word] == 0 {
		w.touched = append(w.touched, word)
	}
	w.seen[word] |= bit
	return true
}

func (w *walker) forget() {
	for _, word := range w.touched {
		w.seen[word] = 0
	}
	w.touched = w.touched[:0]
}

func (w *walker) score(s uint32) scored {
	w.dots++
	return score(w.x.dot(w.q, w.chunks[s/chunkSlots].code(s, w.x.codeLen)), s)
}

// descend goes from the entry point towards the query down to a layer, without looking back.
func (w *walker) descend(e entryPoint, level int) scored {
	nearest := w.score(e.slot)
	for l := e.level; l > level; l-- {
		for moved := true; moved; {
			moved = false
			links := w.chunks[nearest.slot()/chunkSlots].list(nearest.slot(), l, &w.x.arena)
			for i := range links.len() {
				s := links.at(i)
				if int(s/chunkSlots) >= len(w.chunks) {
					continue
				}
				if c := w.score(s); c > nearest {
					nearest, moved = c, true
				}
			}
		}
	}
	return nearest
}

// aim is what a walk over a layer looks for.
type aim struct {
	level int
	ef    int               // how many to find
	ok    func(uint32) bool // which slots may be found; all are walked over
	ctx   context.Context   // nil: not to be cancelled
}

// looks between two looks at the context.
const looks = 64

// layer answers the nearest that it finds, nearest first, from starting points on. The answer is valid until the next call.
func (w *walker) layer(from []scored, a aim) ([]scored, error) {
	w.front, w.best = w.front[:0], w.best[:0]
	defer w.forget()
	for _, s := range from {
		if w.visit(s.slot()) {
			w.front.push(^s)
			w.keep(s, a)
		}
	}
	for step := 1; len(w.front) > 0; step++ {
		nearest := ^w.front.pop()
		if len(w.best) == a.ef && nearest < w.best[0] {
			break
		}
		if a.ctx != nil && step%looks == 0 && a.ctx.Err() != nil {
			return nil, a.ctx.Err()
		}
		w.expand(nearest.slot(), a)
	}
	w.found = append(w.found[:0], w.best...)
	slices.Sort(w.found)
	slices.Reverse(w.found)
	return w.found, nil
}

// expand looks at a slot's neighbours.
func (w *walker) expand(s uint32, a aim) {
	links := w.chunks[s/chunkSlots].list(s, a.level, &w.x.arena)
	for i := range links.len() {
		n := links.at(i)
		if !w.visit(n) {
			continue
		}
		if c := w.score(n); len(w.best) < a.ef || c > w.best[0] {
			w.front.push(^c)
			w.keep(c, a)
		}
	}
}

func (w *walker) keep(s scored, a aim) {
	if len(w.best) == a.ef && s < w.best[0] || !a.ok(s.slot()) {
		return
	}
	if len(w.best) < a.ef {
		w.best.push(s)
	} else {
		w.best.replace(s)
	}
}
