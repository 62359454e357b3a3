package nearest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
	"github.com/sutra-grid/sutra-grid/transport"
)

// world is a shard with a random history.
type world struct {
	*shard
	fs   *vfs.MemFS
	r    *rand.Rand
	seed uint64
}

func (w *world) id() string { return fmt.Sprintf("c%d", w.r.IntN(60)) }

// someRow often has no vector, one of zeros, or one that is nearly another's.
func (w *world) someRow() row {
	v := vectortest.Random(w.r, w.dimension)
	if other := w.rows[w.id()].vector; len(other) > 0 && w.r.IntN(3) == 0 {
		copy(v, other)
		v[0] += float32(w.r.IntN(2)) / 100
	}
	switch w.r.IntN(12) {
	case 0:
		v = nil
	case 1:
		clear(v)
	}
	r := row{vector: v}
	for _, tag := range []string{"a", "b"} {
		if w.r.IntN(2) == 0 {
			r.tags = append(r.tags, tag)
		}
	}
	return r
}

func (w *world) change(*rapid.T) {
	for range 1 + w.r.IntN(3) {
		var ops []transport.Op
		for range w.r.IntN(12) {
			if id := w.id(); w.r.IntN(4) == 0 {
				ops = append(ops, w.remove(id))
			} else {
				ops = append(ops, w.learn(id, w.someRow()))
			}
		}
		w.write(ops...)
	}
}

// check asks at whatever distance the index is: few vectors are compared one by one, so every answer is exact.
func (w *world) check(t *rapid.T) {
	q := &transport.VectorSearch{QueryVector: vectortest.Random(w.r, w.dimension), K: uint32(1 + w.r.IntN(80)), Exact: w.r.IntN(2) == 0}
	q.Tags = [][]string{nil, nil, {"a"}, {"a", "b"}, {"nobody's"}}[w.r.IntN(5)]
	got, want := w.search(q), w.nearest(q)
	if !same(got, want) {
		t.Fatalf("searched for\n%v, want\n%v", got, want)
	}
}

func (w *world) settled(t *rapid.T) {
	w.settle()
	w.check(t)
	if x := w.k.index.Load(); x.Len() != len(w.nearest(&transport.VectorSearch{QueryVector: []float32{1, 0, 0}, K: 1000})) {
		t.Fatalf("the index has %d vectors of %d rows", x.Len(), len(w.rows))
	}
}

func (w *world) reopen(t *rapid.T) {
	w.close()
	w.openEngine()
	if rapid.Bool().Draw(t, "another version applies meanwhile") { // nobody follows
		w.k = nil
		w.change(t)
	}
	w.openKeeper()
}

// crash loses what was not synced, and some of that by chance; raft replays the rest. Index and store are crashed at the same
// time, wherever each of them is.
func (w *world) crash(t *rapid.T) {
	w.seed++
	after := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "kept"), RNG: rand.New(rand.NewPCG(w.seed, 1))})
	w.close()
	w.fs, w.shard.fs = after, after
	w.open()
	w.replay()
}

func (w *world) replay() {
	for _, en := range w.log {
		if en.Index > w.e.Applied() {
			w.e.Apply(slices.Clone(w.log[en.Index-1 : en.Index]))
			w.k.Changed()
		}
	}
}

// install replaces the state by that of another replica, which has applied more.
func (w *world) install(t *rapid.T) {
	other := newShard(t, vfs.NewMem(), "/", w.dimension)
	other.openEngine()
	other.log, other.rows, other.request = w.log, w.rows, w.request
	for _, en := range w.log {
		other.e.Apply(slices.Clone(w.log[en.Index-1 : en.Index]))
	}
	ahead := &world{shard: other, r: w.r}
	ahead.change(t)
	w.log, w.request = other.log, other.request
	snapshot, err := other.e.Snapshot()
	must(t, err)
	var stream bytes.Buffer
	must(t, snapshot.Write(&stream))
	must(t, w.e.Restore(&stream))
	snapshot.Release()
	must(t, other.e.Close())
	w.k.Changed()
}

// TestModel: whatever is learned, updated and deleted, wherever the index is, after restarts, crashes and installed snapshots, a
// search answers what a comparison with every row does.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		seed := rapid.Uint64().Draw(t, "seed")
		w := &world{shard: newShard(t, fs, "/", 3), fs: fs, r: rand.New(rand.NewPCG(seed, 7)), seed: seed}
		w.config.limits = limits{step: 5, save: rapid.SampledFrom([]int{1, 20, 1000}).Draw(t, "save"), waiting: rapid.SampledFrom([]int{1, 10, 1000}).Draw(t, "waiting")}
		w.open()
		defer w.close()
		steps := []func(*rapid.T){w.change, w.change, w.settled, w.reopen, w.crash, w.install}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			rapid.SampledFrom(steps).Draw(t, "step")(t)
			w.check(t)
		}
		w.settled(t)
	})
}
