package nearest

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
	"github.com/sutra-grid/sutra-grid/transport"
)

// shares are the filters: the tag "p10" selects 10 % of the ids. 100 is no filter.
var shares = []int{1, 10, 50, 100}

func tagOf(share int) []string {
	if share == 100 {
		return nil
	}
	return []string{fmt.Sprint("p", share)}
}

// tagsOf spreads ids over the filters, independently of the vectors.
func tagsOf(id string) (tags []string) {
	n, _ := strconv.Atoi(id[1:])
	for _, share := range shares[:3] {
		if n*37%100 < share {
			tags = append(tags, tagOf(share)[0])
		}
	}
	return tags
}

// trial is a shard with queries and what they should find.
type trial struct {
	*shard
	queries [][]float32
	truth   map[int][][]transport.VectorResult // by share, then query
}

// know computes the truth from the rows.
func (tr *trial) know() {
	type other struct {
		id   string
		v    []float32
		norm float64
	}
	var all []other
	for id, r := range tr.rows {
		all = append(all, other{id, r.vector, norm(r.vector)})
	}
	tr.truth = map[int][][]transport.VectorResult{}
	results := make([]transport.VectorResult, len(all))
	for _, q := range tr.queries {
		length := norm(q)
		for i, o := range all {
			results[i] = transport.VectorResult{ID: o.id, Score: float32(dot(q, o.v) / length / o.norm)}
		}
		slices.SortFunc(results, transport.VectorResult.Compare)
		for _, share := range shares {
			var best []transport.VectorResult
			for _, r := range results {
				if len(best) < 10 && (share == 100 || slices.Contains(tagsOf(r.ID), tagOf(share)[0])) {
					best = append(best, r)
				}
			}
			tr.truth[share] = append(tr.truth[share], best)
		}
	}
}

// measure demands recall@10 of every filter, at ef 64.
func (tr *trial) measure(t *testing.T, when string) {
	t.Helper()
	tr.settle()
	for _, share := range shares {
		hits, wanted := 0, 0
		var took []time.Duration
		for i, v := range tr.queries {
			begin := time.Now()
			found, err := tr.k.Search(t.Context(), &transport.VectorSearch{QueryVector: v, K: 10, EFSearch: 64, Tags: tagOf(share)})
			took = append(took, time.Since(begin))
			must(t, err)
			for _, want := range tr.truth[share][i] {
				wanted++
				if slices.ContainsFunc(found, func(r transport.VectorResult) bool {
					return r.ID == want.ID && math.Abs(float64(r.Score-want.Score)) < 1e-6
				}) {
					hits++
				}
			}
		}
		slices.Sort(took)
		recall := float64(hits) / float64(wanted)
		t.Logf("%-8s %3d %%: recall@10 %.4f  p50 %v  p99 %v", when, share, recall, took[len(took)/2], took[len(took)*99/100])
		if recall < 0.95 {
			t.Errorf("%s, a filter of %d %%: recall@10 is %.4f, below 0.95", when, share, recall)
		}
	}
}

// store writes concepts n at a time, each with its tags.
func (tr *trial) store(ids []string, next func() []float32) {
	for some := range slices.Chunk(ids, 200) {
		var ops []transport.Op
		for _, id := range some {
			ops = append(ops, tr.learn(id, row{vector: next(), tags: tagsOf(id)}))
		}
		tr.write(ops...)
		tr.log = nil
	}
}

func heap() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestRecall holds the specification's bar through engine and index: built from the rows, after 30 % were deleted and others added,
// after a restart; with 2,500 vectors, or as many as GRID_RECALL says (make recall).
func TestRecall(t *testing.T) {
	const dimension = 768
	n, queries := 2500, 30
	if s := os.Getenv("GRID_RECALL"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
		queries = 200
	} else if testing.Short() {
		t.Skip("storagenode/vector has a test of recall that is as good where time is short")
	}
	tr := &trial{shard: newShard(t, vfs.Default, t.TempDir(), dimension)}
	c := vectortest.NewClusters(max(n/100, 20), dimension, 42)
	for range queries {
		tr.queries = append(tr.queries, c.Next())
	}
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint("v", i))
	}
	tr.openEngine()
	tr.store(ids, c.Next)
	tr.know()
	before, begin := heap(), time.Now()
	tr.openKeeper()
	tr.settle()
	t.Logf("%d vectors: built in %v, %d bytes each", n, time.Since(begin).Round(time.Millisecond), (heap()-before)/uint64(n))
	tr.measure(t, "built")

	var gone, added []string
	for i := 0; i < n; i += 10 {
		for j := range 3 {
			gone = append(gone, fmt.Sprint("v", i+j))
			added = append(added, fmt.Sprint("v", i+j+j%2*n)) // partly under their ids
		}
	}
	for some := range slices.Chunk(gone, 200) {
		var ops []transport.Op
		for _, id := range some {
			ops = append(ops, tr.remove(id))
		}
		tr.write(ops...)
	}
	tr.store(added, c.Next)
	tr.know()
	tr.measure(t, "changed")

	tr.close()
	begin = time.Now()
	tr.open()
	tr.settle()
	t.Logf("restarted in %v", time.Since(begin).Round(time.Millisecond))
	if built, loaded, _ := tr.reports(); len(built) != 1 || len(loaded) != 1 || loaded[0].Vectors != len(tr.rows) {
		t.Errorf("built %+v, loaded %+v, of %d vectors", built, loaded, len(tr.rows))
	}
	tr.measure(t, "loaded")
	tr.close()
}
