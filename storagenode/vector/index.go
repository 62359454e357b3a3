package vector

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Options shape an index. They are fixed for its life and kept in its file, except Workers.
type Options struct {
	Dimension int // of every vector, 1 to transport.MaxDimension

	// M is how many neighbours a new vector is linked to in each layer; a vector keeps at most 2M in layer 0 and M above.
	// 0: 16. Fewer miss the recall of the specification, more cost memory (12 bytes each a vector) and time.
	M int
	// EFConstruction is how many candidates a new vector's neighbours are chosen from. 0: 128. The time of a build grows with
	// it in proportion; beyond the default recall hardly does.
	EFConstruction int
	// Seed decides, with a vector's id, how many layers it is in. Any value will do.
	Seed uint64
	// Workers is how many goroutines one Apply uses at most. 0: runtime.GOMAXPROCS. The graph does not depend on it.
	Workers int
}

// What Options may say at most; a file that says more is damaged.
const (
	maxM              = 128
	maxEFConstruction = 4096
)

// complete fills in defaults and reports everything that is out of bounds.
func (o *Options) complete() error {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.M, 16}, {&o.EFConstruction, 128}, {&o.Workers, runtime.GOMAXPROCS(0)}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	var errs []error
	for _, b := range []struct {
		name         string
		value, least int
		most         int
	}{
		{"Dimension", o.Dimension, 1, transport.MaxDimension},
		{"M", o.M, 2, maxM},
		{"EFConstruction", o.EFConstruction, 1, maxEFConstruction},
		{"Workers", o.Workers, 1, 1 << 10},
	} {
		if b.value < b.least || b.value > b.most {
			errs = append(errs, fmt.Errorf("%s is %d: it must be %d to %d", b.name, b.value, b.least, b.most))
		}
	}
	return errors.Join(errs...)
}

// Change is what became of one row.
type Change struct {
	ID     string    // at most transport.MaxID bytes
	Vector []float32 // its vector now, not kept by the index; nil: it has none
}

// Index is one shard's vectors. Apply and Save exclude each other; everything else may be called at any time, by any
// number of goroutines.
type Index struct {
	o      Options
	dot    func(a, b []int16) int32
	stride int
	arena

	applied atomic.Uint64
	entry   atomic.Uint64 // where searches begin, a packed entryPoint

	write  sync.Mutex // held by whoever changes the graph
	root   uint32     // of layer 0's spanning tree; none: the index is empty. Guarded by write.
	worker []*walker  // guarded by write

	names sync.RWMutex
	slots map[string]uint32 // guarded by names; written with write held too

	walkers sync.Pool
}

// New makes an empty index, complete to applied index 0.
func New(o Options) (*Index, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("make vector index: %w", err)
	}
	x := &Index{o: o, dot: newDot(), stride: stride(o.Dimension), slots: make(map[string]uint32), root: none}
	x.arena.init(x.stride, o.M)
	x.entry.Store(entryPoint{slot: none}.pack())
	x.walkers.New = func() any { return &walker{x: x, q: make([]int16, x.stride)} }
	return x, nil
}

// entryPoint is a vector of the highest layer.
type entryPoint struct {
	slot  uint32 // none: the index is empty
	level int
}

func (e entryPoint) pack() uint64 { return uint64(e.level)<<32 | uint64(e.slot) }

func (x *Index) entryPoint() entryPoint {
	e := x.entry.Load()
	return entryPoint{slot: uint32(e), level: int(e >> 32)}
}

// Options answers what the index was made with, defaults filled in.
func (x *Index) Options() Options { return x.o }

// Applied is the applied index that the index is complete to: every change of a row through it has been applied.
func (x *Index) Applied() uint64 { return x.applied.Load() }

// Len is the number of vectors.
func (x *Index) Len() int {
	x.names.RLock()
	defer x.names.RUnlock()
	return len(x.slots)
}

// Contains tells whether the index holds a vector of that id.
func (x *Index) Contains(id string) bool {
	_, ok := x.slot(id)
	return ok
}

func (x *Index) slot(id string) (uint32, bool) {
	x.names.RLock()
	defer x.names.RUnlock()
	s, ok := x.slots[id]
	return s, ok
}
