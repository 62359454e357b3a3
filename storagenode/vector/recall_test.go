package vector

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
)

// selections are the filters: the share of ids that they let through, in per cent.
var selections = []int{1, 10, 50, 100}

// group spreads ids over 0 to 99, independently of the vectors.
func group(id string) int {
	n, _ := strconv.Atoi(id[1:])
	return n * 37 % 100
}

// trial is an index with its rows and some queries.
type trial struct {
	x       *Index
	m       table
	queries [][]float32
	truth   map[int][][]Result // by selection, then query: the ten nearest
}

// settle computes the truth from the rows, without the index.
func (tr *trial) settle() {
	tr.truth = map[int][][]Result{}
	norms := make(map[string]float64, len(tr.m))
	for id, row := range tr.m {
		norms[id] = product(row, row)
	}
	all := make([]Result, 0, len(tr.m))
	for _, q := range tr.queries {
		all = all[:0]
		for id, row := range tr.m {
			all = append(all, Result{id, cosine(product(q, row), product(q, q), norms[id])})
		}
		slices.SortFunc(all, func(a, b Result) int { return cmp.Or(cmp.Compare(b.Score, a.Score), strings.Compare(a.ID, b.ID)) })
		for _, share := range selections {
			var best []Result
			for _, r := range all {
				if len(best) < 10 && group(r.ID) < share {
					best = append(best, r)
				}
			}
			tr.truth[share] = append(tr.truth[share], best)
		}
	}
}

// measure asks all queries through each filter, both ways of giving it, and demands recall.
func (tr *trial) measure(t *testing.T, when string) {
	t.Helper()
	for _, share := range selections {
		match := func(id string) bool { return group(id) < share }
		var among []string
		for id := range tr.m {
			if match(id) {
				among = append(among, id)
			}
		}
		byMatch, byAmong := Query{Match: match}, Query{Among: among}
		if share == 100 {
			byMatch, byAmong = Query{}, Query{}
		}
		tr.ask(t, fmt.Sprintf("%s, %d %% by match", when, share), byMatch, tr.truth[share])
		if share < 100 {
			tr.ask(t, fmt.Sprintf("%s, %d %% by list", when, share), byAmong, tr.truth[share])
		}
	}
}

func (tr *trial) ask(t *testing.T, when string, q Query, truth [][]Result) {
	t.Helper()
	var took []time.Duration
	hits, wanted, read := 0, 0, 0
	for i, v := range tr.queries {
		q.Vector, q.K, q.EF = v, 10, 64
		q.Rows = func(id string, _ []float32) ([]float32, error) { read++; return tr.m[id], nil }
		begin := time.Now()
		found, err := tr.x.Search(t.Context(), q)
		took = append(took, time.Since(begin))
		must(t, err)
		for _, r := range truth[i] {
			wanted++
			if slices.Contains(found, r) {
				hits++
			}
		}
	}
	slices.Sort(took)
	recall := float64(hits) / float64(wanted)
	t.Logf("%-36s recall@10 %.4f  p50 %v p99 %v  %d rows read", when, recall, took[len(took)/2], took[len(took)*99/100], read/len(tr.queries))
	if recall < 0.95 {
		t.Errorf("%s: recall@10 is %.4f at ef 64, below 0.95", when, recall)
	}
}

// replace removes three vectors of ten and adds as many others, partly under the ids of those.
func (tr *trial) replace(t *testing.T, e *vectortest.Clusters) {
	t.Helper()
	n := len(tr.m)
	var gone, added []Change
	for i := 0; i < n; i += 10 {
		for j := range 3 {
			gone = append(gone, Change{ID: fmt.Sprint("v", i+j)})
			added = append(added, Change{fmt.Sprint("v", i+j+j%2*n), e.Next()})
		}
	}
	for _, changes := range [][]Change{gone, added} {
		must(t, tr.x.Apply(tr.x.Applied()+1, changes))
		tr.m.apply(changes)
	}
}

// recall is the specification's bar: built, after removing and adding 30 %, after a restart, each with filters.
func recall(t *testing.T, n, queries, workers int) {
	const dimension = 768
	e := vectortest.NewClusters(max(n/100, 20), dimension, 42)
	tr := &trial{x: newIndex(t, Options{Dimension: dimension, Workers: workers}), m: table{}}
	for range queries {
		tr.queries = append(tr.queries, e.Next())
	}
	var changes []Change
	for i := range n {
		changes = append(changes, Change{fmt.Sprint("v", i), e.Next()})
	}
	tr.m.apply(changes)
	before := heap0()
	begin := time.Now()
	must(t, tr.x.Apply(1, changes))
	t.Logf("%d vectors: built in %v, %d bytes each", n, time.Since(begin).Round(time.Millisecond), (heap0()-before)/uint64(n))
	tr.settle()
	tr.measure(t, "built")

	begin = time.Now()
	tr.replace(t, e)
	t.Logf("30 %% removed and added in %v", time.Since(begin).Round(time.Millisecond))
	sound(t, tr.x, tr.m)
	tr.settle()
	tr.measure(t, "changed")

	path := t.TempDir() + "/vectors"
	begin = time.Now()
	_, err := tr.x.Save(vfs.Default, path)
	must(t, err)
	saved := time.Now()
	before2 := written(t, tr.x)
	loading := time.Now()
	tr.x, err = Load(vfs.Default, path, tr.x.Options())
	must(t, err)
	t.Logf("%d bytes saved in %v, loaded in %v", len(before2), saved.Sub(begin).Round(time.Millisecond), time.Since(loading).Round(time.Millisecond))
	if !bytes.Equal(before2, written(t, tr.x)) {
		t.Error("what was loaded is not what was saved")
	}
	tr.measure(t, "loaded")
}

// heap0 is the bytes in use, garbage collected.
func heap0() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestRecall holds the bar with 10,000 vectors, under -short or the race detector with 3,000;
// GRID_RECALL=100000 (make recall) with as many.
func TestRecall(t *testing.T) {
	n, queries, workers := 10_000, 60, 1
	serial(t)
	if testing.Short() || raceDetector {
		n = 3000
	}
	if s := os.Getenv("GRID_RECALL"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
		queries, workers = 200, runtime.GOMAXPROCS(0)
	}
	recall(t, n, queries, workers)
}
