package sim

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/master"
	"github.com/sutra-grid/sutra-grid/transport"
)

// wordnet is a part of WordNet: concepts, then associations, as one writer imports them.
type wordnet struct {
	concepts     []*transport.LearnConcept
	associations []*transport.LearnAssociation
}

// readWordnet reads the sample, or what GRID_EQUALITY_FILE names.
func readWordnet(t *testing.T) (w wordnet) {
	t.Helper()
	path := cmp.Or(os.Getenv("GRID_EQUALITY_FILE"), "../../testdata/wordnet-sample.ndjson")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	types := map[string]uint32{}
	for s := bufio.NewScanner(in); s.Scan(); {
		var line struct {
			Concept *struct {
				ID, Content string
				Attributes  map[string]string
			}
			Association *struct {
				Source, Target, Type string
				Confidence           float32
			}
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if c := line.Concept; c != nil {
			w.concepts = append(w.concepts, &transport.LearnConcept{ConceptID: c.ID, Content: c.Content, Embedding: vectorOf(c.ID), Strength: 1, Confidence: 1,
				Metadata: &transport.Metadata{Attributes: c.Attributes, Tags: []string{c.ID[:3]}}})
		}
		if a := line.Association; a != nil {
			if _, known := types[a.Type]; !known {
				types[a.Type] = uint32(len(types))
			}
			w.associations = append(w.associations, &transport.LearnAssociation{SourceID: a.Source, TargetID: a.Target, AssocType: types[a.Type], Confidence: a.Confidence})
		}
	}
	if len(w.concepts) < 1000 || len(w.associations) < 1000 {
		t.Fatalf("%s has %d concepts and %d associations", path, len(w.concepts), len(w.associations))
	}
	return w
}

// vectorOf gives every concept one of 500 vectors, so that many are equally near to any query.
func vectorOf(id string) []float32 {
	h := fnv.New32a()
	h.Write([]byte(id))
	r := rand.New(rand.NewPCG(uint64(h.Sum32()%500), 1))
	v := make([]float32, 4)
	for i := range v {
		v[i] = r.Float32()*2 - 1
	}
	return v
}

// inShards runs f with a client of a grid of n shards on one real storage node.
func inShards(t *testing.T, n int, f func(c *sdk.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, scenario{seed: 61, masters: 1, estates: 1, tune: func(cfg *master.Config) { cfg.Shards, cfg.Replicas = uint32(n), 1 }})
		defer func() {
			w.close()
			for _, err := range w.broken() {
				t.Error(err)
			}
		}()
		d := &district{w, w.chronicle()}
		d.until(fmt.Sprintf("%d shards", n), func(s *fsm.State) bool {
			formed := 0
			for sh := range s.Shards() {
				formed += int(min(sh.Term, 1))
			}
			return formed == n
		})
		c, err := sdk.New(sdk.Config{Masters: []string{w.peers[0].Grid}, Network: w.net.Host(clientHost(0)), Log: slog.New(w.tap.of("client"))})
		if err != nil {
			t.Fatal(err)
		}
		f(c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// ordered is how many concepts are written one by one, each at a time of its own, so that their order is the data's.
const ordered = 150

// load imports as one writer does, in batches; the first concepts one by one.
func (w wordnet) load(t *testing.T, c *sdk.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, concept := range w.concepts[:ordered] {
		if err := c.LearnConcept(ctx, concept); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	var all []any
	for _, concept := range w.concepts[ordered:] {
		all = append(all, concept)
	}
	for _, a := range w.associations {
		all = append(all, a)
	}
	for part := range slices.Chunk(all, transport.MaxBatch) {
		replies, err := c.Batch(ctx, part...)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range replies {
			if err, failed := r.(error); failed {
				t.Fatalf("%+v: %v", part[i], err)
			}
		}
	}
}

// questions are reads whose answers do not depend on when a concept was written: many concepts' neighbours, both ways; paths;
// exact searches, with and without filters; scans in pages; what contents mean. The same data gives the same questions.
func (w wordnet) questions() (all []any) {
	r := rand.New(rand.NewPCG(7, 7))
	some := func() string { return w.concepts[r.IntN(len(w.concepts))].ConceptID }
	for _, c := range w.concepts[:min(len(w.concepts), max(1200, len(w.concepts)/6))] {
		all = append(all, &transport.GetNeighbors{ConceptID: c.ConceptID}, &transport.Neighbors{ConceptID: c.ConceptID, Direction: "both", Limit: 40})
	}
	for range 200 {
		all = append(all, &transport.FindPath{StartID: some(), EndID: some(), MaxDepth: 12}, &transport.QueryConcept{ConceptID: some()})
	}
	for range 40 {
		near := &transport.VectorSearch{QueryVector: vectorOf(some()), K: uint32(1 + r.IntN(60)), Exact: true}
		noun := *near
		noun.Attributes = map[string]string{"pos": "noun"}
		all = append(all, near, &noun, &transport.FindCausalChain{StartID: some(), MaxDepth: 4}, &transport.FindPathSemantic{StartID: some(), EndID: some(), MaxDepth: 4, MaxPaths: 10})
	}
	limit, term := uint32(200), "feeling"
	all = append(all, &transport.GetAllConceptIds{}, &transport.QueryBySemantic{Filter: &transport.SemanticFilter{RequiredTerms: []string{term}}, Limit: &limit},
		&transport.FindContradictions{Domain: ptr("general")}, &transport.Expand{ConceptIDs: []string{some(), "nobody", some()}, Direction: "in"},
		&transport.GetAssociation{SourceID: w.associations[0].SourceID, TargetID: w.associations[0].TargetID}, &transport.FindPath{StartID: some(), EndID: "nobody", MaxDepth: 12})
	return all
}

func ptr[T any](v T) *T { return &v }

// answers asks everything and gives one line for each answer.
func (w wordnet) answers(t *testing.T, c *sdk.Client) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	found := 0
	for _, q := range w.questions() {
		reply, err := ask(ctx, c, q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if p, is := reply.(*transport.FindPathOk); is && len(p.Path) > 2 {
			found++
		}
		lines = append(lines, line(t, q, reply))
	}
	if found < 20 {
		t.Errorf("only %d paths were found", found)
	}
	stats, err := c.Stats(ctx)
	if err != nil || stats.Concepts != uint64(len(w.concepts)) {
		t.Errorf("%+v, %v", stats, err)
	}
	lines = append(lines, fmt.Sprint(stats.Concepts, stats.Edges, stats.Vectors), w.scanned(ctx, t, c))
	for _, order := range []string{"asc", "desc"} {
		for _, attribute := range []string{"noun", "verb", "nothing"} {
			lines = append(lines, w.queried(ctx, t, c, order, attribute))
		}
	}
	return lines
}

// ask asks, and leaves out of the answer what depends on when a shard was written to: it reads neighbours to the end, because a
// cursor holds a shard's own order of commits.
func ask(ctx context.Context, c *sdk.Client, q any) (any, error) {
	if n, is := q.(*transport.Neighbors); is {
		page := *n
		var all []transport.Neighbor
		for {
			ok, err := c.Neighbors(ctx, &page)
			if err != nil {
				return nil, err
			}
			all = append(all, ok.Items...)
			if page.Cursor = ok.Cursor; page.Cursor == "" {
				return all, nil
			}
		}
	}
	reply, err := c.Do(ctx, q)
	var paths []transport.SemanticPath
	switch r := reply.(type) {
	case *transport.FindCausalChainOk:
		paths = r.Paths
	case *transport.FindPathSemanticOk:
		paths = r.Paths
	}
	for i := range paths {
		paths[i].IsTemporallyOrdered = false
	}
	return reply, err
}

func line(t *testing.T, q, reply any) string {
	t.Helper()
	asked, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	answered, err := json.Marshal(reply)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s\n%s", transport.VariantName(q), asked, answered)
}

// scanned is every concept, read in pages.
func (w wordnet) scanned(ctx context.Context, t *testing.T, c *sdk.Client) string {
	t.Helper()
	var all strings.Builder
	for q := (&transport.Scan{Limit: 333}); ; {
		page, err := c.Scan(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%d concepts, then %s\n", len(page.Items), page.Cursor)
		for _, item := range page.Items {
			item.Created, item.Modified = 0, 0 // log times of its shard
			fmt.Fprintln(&all, line(t, q, item))
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return all.String()
		}
	}
}

// queried is the concepts of a part of speech, read in pages: those that were written one by one in the order of their creation, of
// which the shards agree, the others, of which many were created together, by id.
func (w wordnet) queried(ctx context.Context, t *testing.T, c *sdk.Client, order, pos string) string {
	t.Helper()
	inOrder := map[string]bool{}
	for _, concept := range w.concepts[:ordered] {
		inOrder[concept.ConceptID] = true
	}
	var first, rest []string
	last := 0.0
	for q := (&transport.QueryByMetadata{Attributes: map[string]string{"pos": pos}, Order: order, Limit: 97}); ; {
		page, err := c.QueryByMetadata(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for i, item := range page.Items {
			if late := item.Created > last; late != (order == "asc") && item.Created != last && last != 0 {
				t.Errorf("item %d, created at %v, comes behind %v, %s", i, item.Created, last, order)
			}
			last = item.Created
			if inOrder[item.ConceptID] {
				first = append(first, item.ConceptID)
			} else {
				rest = append(rest, item.ConceptID)
			}
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			slices.Sort(rest)
			return fmt.Sprintf("%s, %s: %q and %q", pos, order, first, rest)
		}
	}
}

// TestGridsAnswerAlike: a grid of 4 shards, and one of 16, answers every question as a grid of one shard with the same data
// does: neighbours in their order, paths, exact searches, scans, queries by metadata and by meaning.
func TestGridsAnswerAlike(t *testing.T) {
	w := readWordnet(t)
	var want []string
	for _, shards := range []int{1, 4, 16} {
		t.Run(fmt.Sprintf("%d shards", shards), func(t *testing.T) {
			inShards(t, shards, func(c *sdk.Client) {
				w.load(t, c)
				got := w.answers(t, c)
				if want == nil {
					want = got
					return
				}
				differ := 0
				for i := range got {
					if got[i] != want[i] {
						if differ++; differ <= 5 {
							t.Errorf("is\n%.2000s\nwith one shard\n%.2000s", got[i], want[i])
						}
					}
				}
				t.Logf("%d answers, %d differ", len(got), differ)
			})
		})
	}
}
