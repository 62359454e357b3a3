package nearest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settleLimit bounds what settle waits for, also with the largest number of vectors.
const settleLimit = 25 * time.Minute

// failer is what a test needs of *testing.T and *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// row is a concept as the oracle knows it.
type row struct {
	vector []float32
	tags   []string
}

// shard is an engine with its Keeper, the log that made it, and what it should hold.
type shard struct {
	t         failer
	fs        vfs.FS
	dir       string
	dimension int
	config    Config // of the Keeper, but for what open fills in

	e    *engine.Engine
	k    *Keeper
	log  []raftgroup.Entry
	rows map[string]row

	moved   chan struct{}
	mu      sync.Mutex
	built   []Built
	loaded  []Loaded
	said    bytes.Buffer // the Keeper's log
	request uint64
}

func newShard(t failer, fs vfs.FS, dir string, dimension int) *shard {
	return &shard{t: t, fs: fs, dir: dir, dimension: dimension, rows: map[string]row{}}
}

func (s *shard) openEngine() {
	s.t.Helper()
	o := engine.Options{ShardID: "shard-0", Dimension: uint32(s.dimension), CacheBytes: 8 << 20, Log: slog.New(slog.DiscardHandler),
		Fatal: func(err error) { s.t.Errorf("the engine gave up: %v", err) }}
	var err error
	s.e, err = engine.Open(s.fs.PathJoin(s.dir, "engine"), o.OnFS(s.fs))
	must(s.t, err)
}

func (s *shard) file() string { return s.fs.PathJoin(s.dir, "vectors") }

func (s *shard) openKeeper() {
	c := s.config
	c.Engine, c.Dimension, c.FS, c.Path, c.Building = s.e, s.dimension, s.fs, s.file(), make(chan struct{}, 1)
	c.Log = slog.New(slog.NewTextHandler(s, nil))
	moved := make(chan struct{}, 1)
	s.moved = moved
	c.moved = func() {
		select {
		case moved <- struct{}{}:
		default:
		}
	}
	c.Reports = Reports{
		Built:  func(b Built) { s.locked(func() { s.built = append(s.built, b) }) },
		Loaded: func(l Loaded) { s.locked(func() { s.loaded = append(s.loaded, l) }) },
	}
	s.k = Open(c)
}

func (s *shard) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Write takes the Keeper's log.
func (s *shard) Write(p []byte) (n int, err error) {
	s.locked(func() { n, err = s.said.Write(p) })
	return n, err
}

// reports are those since the last call, with the log.
func (s *shard) reports() (built []Built, loaded []Loaded, said string) {
	s.locked(func() {
		built, loaded, said = s.built, s.loaded, s.said.String()
		s.built, s.loaded = nil, nil
		s.said.Reset()
	})
	return built, loaded, said
}

func (s *shard) open() {
	s.t.Helper()
	s.openEngine()
	s.openKeeper()
}

func (s *shard) close() {
	s.t.Helper()
	s.k.Close()
	must(s.t, s.e.Close())
}

// settle waits until the index has everything.
func (s *shard) settle() {
	s.t.Helper()
	limit := time.After(settleLimit)
	for {
		if x := s.k.index.Load(); x != nil && s.e.VectorsChanged() <= x.Applied() {
			return
		}
		select {
		case <-s.moved:
		case <-limit:
			_, _, said := s.reports()
			s.t.Fatalf("the index does not come to an end: %s", said)
		}
	}
}

// write applies each op as a write of its own, in one entry.
func (s *shard) write(ops ...transport.Op) {
	s.t.Helper()
	en := raftgroup.Entry{Index: s.e.Applied() + 1, Term: 1, Version: 1, Level: engine.Level, Time: 1_700_000_000_000_000 + int64(s.e.Applied())}
	for _, op := range ops {
		s.request++
		c := engine.Command{Kind: engine.Write, Issued: en.Time, Write: &transport.Write{Ops: []transport.Op{op}}}
		binary.BigEndian.PutUint64(c.RequestID[:], s.request)
		b, err := engine.AppendCommand(nil, c)
		must(s.t, err)
		en.Commands = append(en.Commands, b)
	}
	s.log = append(s.log, en)
	for _, a := range s.e.Apply([]raftgroup.Entry{en})[0] {
		if e := a.(engine.Answer).Err; e != nil {
			s.t.Fatalf("write: %v", e)
		}
	}
	if s.k != nil {
		s.k.Changed()
	}
}

// learn is the op that stores a row, remove the one that deletes it; the oracle learns with them.
func (s *shard) learn(id string, r row) transport.Op {
	s.rows[id] = r
	return transport.Op{Kind: transport.OpLearnConcept, ID: id, Embedding: r.vector, Strength: 1, Confidence: 1, Metadata: &transport.Metadata{Tags: r.tags}}
}

func (s *shard) remove(id string) transport.Op {
	delete(s.rows, id)
	return transport.Op{Kind: transport.OpDeleteConcept, ID: id}
}

// nearest is the oracle: every row, one by one, in float64.
func (s *shard) nearest(q *transport.VectorSearch) []transport.VectorResult {
	var all []transport.VectorResult
	for id, r := range s.rows {
		if norm(r.vector) == 0 || slices.ContainsFunc(q.Tags, func(tag string) bool { return !slices.Contains(r.tags, tag) }) {
			continue
		}
		all = append(all, transport.VectorResult{ID: id, Score: float32(dot(q.QueryVector, r.vector) / norm(q.QueryVector) / norm(r.vector))})
	}
	slices.SortFunc(all, func(a, b transport.VectorResult) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), strings.Compare(a.ID, b.ID))
	})
	return all[:min(len(all), int(q.K))]
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func norm(v []float32) float64 {
	if len(v) == 0 {
		return 0
	}
	return math.Sqrt(dot(v, v))
}

// same compares results: equal places, or others of equal score, as the oracle rounds otherwise in the last digit.
func same(got, want []transport.VectorResult) bool {
	return slices.EqualFunc(got, want, func(a, b transport.VectorResult) bool {
		return math.Abs(float64(a.Score-b.Score)) < 1e-6
	}) && slices.IsSortedFunc(got, transport.VectorResult.Compare) && distinct(got)
}

func distinct(results []transport.VectorResult) bool {
	ids := map[string]bool{}
	for _, r := range results {
		ids[r.ID] = true
	}
	return len(ids) == len(results)
}

// search asks and holds every result against the oracle's rows.
func (s *shard) search(q *transport.VectorSearch) []transport.VectorResult {
	s.t.Helper()
	must(s.t, transport.Validate(q, s.dimension))
	found, err := s.k.Search(context.Background(), q)
	must(s.t, err)
	for _, r := range found {
		have, there := s.rows[r.ID]
		if !there || norm(have.vector) == 0 {
			s.t.Fatalf("found %q, which has no vector", r.ID)
		}
		if score := dot(q.QueryVector, have.vector) / norm(q.QueryVector) / norm(have.vector); math.Abs(score-float64(r.Score)) > 1e-6 {
			s.t.Fatalf("%q scores %v, its row %v", r.ID, r.Score, score)
		}
		if slices.ContainsFunc(q.Tags, func(tag string) bool { return !slices.Contains(have.tags, tag) }) {
			s.t.Fatalf("%q has the tags %q, asked for %q", r.ID, have.tags, q.Tags)
		}
	}
	return found
}

func kindOf(err error) event.Kind {
	var e *event.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Kind
}

// newTestShard is a shard in memory, open for the length of a test.
func newTestShard(t *testing.T, dimension int, l limits) *shard {
	t.Helper()
	s := newShard(t, vfs.NewCrashableMem(), "/", dimension)
	s.config.limits = l
	s.open()
	t.Cleanup(s.close)
	return s
}
