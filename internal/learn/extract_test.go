package learn

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// having is a store of these ids; asked counts what is looked up.
func having(asked *int, ids ...string) Lookup {
	return func(_ context.Context, ask []string) ([]bool, error) {
		if asked != nil {
			*asked += len(ask)
		}
		known := make([]bool, len(ask))
		for i, id := range ask {
			known[i] = slices.Contains(ids, id)
		}
		return known, nil
	}
}

func TestExtract(t *testing.T) {
	tests := []struct {
		name, content string
		there         []string
		limit         int
		least         float32
		want          []Link
	}{
		{"as written", "the dog barks", []string{"dog"}, 10, 0, []Link{{"dog", 0.6}}},
		{"in lower case", "the DOG barks", []string{"dog"}, 10, 0, []Link{{"dog", 0.5}}},
		{"with an upper-case letter", "the dog barks", []string{"Dog"}, 10, 0, []Link{{"Dog", 0.5}}},
		{"as written before others", "dog", []string{"Dog", "dog"}, 10, 0, []Link{{"dog", 0.6}}},
		{"longest match", "see New York City today", []string{"New York", "New York City", "City", "York"}, 10, 0, []Link{{"New York City", 0.8}}},
		{"with underlines", "a new york minute", []string{"New_York"}, 10, 0, []Link{{"New_York", 0.6}}},
		{"ids with inner marks", "see node-1, a.b and n00001740.", []string{"node-1", "a.b", "n00001740"}, 10, 0, []Link{{"node-1", 0.6}, {"a.b", 0.6}, {"n00001740", 0.6}}},
		{"not over punctuation", "in new, york (city) hall", []string{"new york", "york city", "city hall"}, 10, 0, nil},
		{"again", "dog dog, dog", []string{"dog"}, 10, 0, []Link{{"dog", 0.8}}},
		{"at most 1", strings.Repeat("dog ", 30), []string{"dog"}, 10, 0, []Link{{"dog", 1}}},
		{"too short", "to be or", []string{"to", "be", "or"}, 10, 0, nil},
		{"parts of words do not count", "hotdog dogma", []string{"dog"}, 10, 0, nil},
		{"learnt by content", "a Big Apple", []string{transport.ConceptIDOf("big apple")}, 10, 0, []Link{{transport.ConceptIDOf("big apple"), 0.6}}},
		{"not itself", "dog", []string{"self", "dog"}, 10, 0, []Link{{"dog", 0.6}}},
		{"limit keeps the most confident", "cat and New York and dog", []string{"cat", "dog", "New York"}, 2, 0, []Link{{"New York", 0.7}, {"cat", 0.6}}},
		{"least", "cat and New York", []string{"cat", "New York"}, 10, 0.65, []Link{{"New York", 0.7}}},
		{"none wanted", "cat", []string{"cat"}, 0, 0, nil},
		{"unicode", "Ein ÄRGER im straße", []string{"ärger", "straße"}, 10, 0, []Link{{"straße", 0.6}, {"ärger", 0.5}}},
		{"nothing", " … !", nil, 10, 0, nil},
		{"invalid bytes", "a\xffdog\xff cat", []string{"cat", "dog"}, 10, 0, []Link{{"dog", 0.6}, {"cat", 0.6}}},
	}
	near := cmp.Comparer(func(a, b float32) bool { return a-b < 1e-5 && b-a < 1e-5 })
	for _, tt := range tests {
		got, err := Extract(t.Context(), tt.content, Want{"self", tt.limit, tt.least}, having(nil, tt.there...))
		if err != nil || len(got)+len(tt.want) > 0 && !cmp.Equal(got, tt.want, near) {
			t.Errorf("%s: %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
	if got, err := Extract(t.Context(), "dog", Want{"dog", 10, 0}, having(nil, "dog")); err != nil || len(got) != 0 {
		t.Errorf("itself: %v, %v", got, err)
	}
}

// TestExtractIsBounded: the largest content costs as much as its beginning.
func TestExtractIsBounded(t *testing.T) {
	asked := 0
	var words strings.Builder
	for i := range 1 << 20 {
		words.WriteString(strings.Repeat(string(rune('a'+i%26)), 3+i%5) + " ")
	}
	if _, err := Extract(t.Context(), words.String(), Want{Limit: 1 << 30}, having(&asked)); err != nil || asked > maxCandidates || asked == 0 {
		t.Errorf("%d look-ups, %v", asked, err)
	}
	if maxCandidates > transport.MaxExists {
		t.Error("one request does not hold the candidates")
	}
	sick := errors.New("sick")
	if _, err := Extract(t.Context(), "dog", Want{Limit: 1}, func(context.Context, []string) ([]bool, error) { return nil, sick }); !errors.Is(err, sick) {
		t.Error(err)
	}
	if _, err := Extract(t.Context(), "dog", Want{Limit: 1}, func(context.Context, []string) ([]bool, error) { return nil, nil }); err == nil {
		t.Error("a short answer is accepted")
	}
}

// TestExtractOnWordNet: with the sample's words as concepts, a gloss is linked to its own word and, mostly, to others that
// it is explained by; every link's name occurs in the gloss.
func TestExtractOnWordNet(t *testing.T) {
	f, err := os.Open("../../testdata/wordnet-sample.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words, glosses := map[string]bool{}, []string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var line struct {
			Concept *struct {
				Content    string
				Attributes map[string]string
			}
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Concept == nil {
			continue
		}
		for w := range strings.SplitSeq(line.Concept.Attributes["words"], ", ") {
			words[w] = true
		}
		glosses = append(glosses, line.Concept.Content)
	}
	lookup := func(_ context.Context, ids []string) ([]bool, error) {
		known := make([]bool, len(ids))
		for i, id := range ids {
			known[i] = words[id]
		}
		return known, nil
	}
	linked, total := 0, 0
	for _, gloss := range glosses {
		links, err := Extract(t.Context(), gloss, Want{Limit: 10, Least: 0.5}, lookup)
		if err != nil {
			t.Fatal(err)
		}
		if total += len(links); len(links) >= 2 {
			linked++
		}
		for _, l := range links {
			if !strings.Contains(strings.ToLower(gloss), strings.ToLower(l.Target)) || l.Confidence < 0.5 || l.Confidence > 1 {
				t.Fatalf("%q is linked to %v", gloss, l)
			}
		}
	}
	t.Logf("%d glosses, %d links, %d glosses with two and more", len(glosses), total, linked)
	if linked*100 < 60*len(glosses) {
		t.Errorf("%d of %d glosses have two links and more", linked, len(glosses))
	}
}

// memory is a store that keeps what is written; it refuses associations whose target is not there.
type memory struct {
	concepts map[string]transport.Op
	links    map[[2]string]float32
	writes   int
	before   func(ops []transport.Op)
}

func (m *memory) store() Store {
	return Store{
		Embed: func(_ context.Context, texts []string) ([][]float32, error) {
			v := make([][]float32, len(texts))
			for i, t := range texts {
				v[i] = []float32{float32(len(t))}
			}
			return v, nil
		},
		Exists: func(_ context.Context, ids []string) ([]bool, error) {
			known := make([]bool, len(ids))
			for i, id := range ids {
				_, known[i] = m.concepts[id]
			}
			return known, nil
		},
		Write: func(_ context.Context, ops []transport.Op) error {
			m.writes++
			if m.before != nil {
				m.before(ops)
			}
			for _, op := range ops {
				if _, there := m.concepts[op.Target]; op.Kind == transport.OpLearnAssociation && !there {
					return &event.Error{Kind: event.KindPrecondition, Message: "no " + op.Target}
				}
			}
			for _, op := range ops {
				if op.Kind == transport.OpLearnConcept {
					m.concepts[op.ID] = op
				} else {
					m.links[[2]string{op.ID, op.Target}] = op.Confidence
				}
			}
			return nil
		},
	}
}

func newMemory(ids ...string) *memory {
	m := &memory{concepts: map[string]transport.Op{}, links: map[[2]string]float32{}}
	for _, id := range ids {
		m.concepts[id] = transport.Op{ID: id}
	}
	return m
}

// TestOneIsOneWriteAndRepeatable: concept and links are one write; the same content again is the same concept.
func TestOneIsOneWriteAndRepeatable(t *testing.T) {
	m := newMemory("dog", "cat")
	for range 2 {
		id, err := One(t.Context(), m.store(), "a dog and a cat", transport.DefaultLearnOptions())
		if err != nil || id != transport.ConceptIDOf("a dog and a cat") || len(m.concepts[id].Embedding) != 1 {
			t.Errorf("%s, %v, %+v", id, err, m.concepts[id])
		}
	}
	if len(m.concepts) != 3 || len(m.links) != 2 || m.writes != 2 {
		t.Errorf("%d concepts, %v, %d writes", len(m.concepts), m.links, m.writes)
	}
	o := transport.LearnOptions{Strength: 0.5, Confidence: 0.25}
	id, err := One(t.Context(), m.store(), "the dog", o)
	if c := m.concepts[id]; err != nil || c.Embedding != nil || c.Strength != 0.5 || c.Confidence != 0.25 || len(m.links) != 2 {
		t.Errorf("without embedding and links: %v, %+v, %v", err, c, m.links)
	}
}

// TestTargetDeletedMeanwhile: the links are looked for again.
func TestTargetDeletedMeanwhile(t *testing.T) {
	m := newMemory("dog", "cat")
	m.before = func([]transport.Op) { delete(m.concepts, "cat") }
	id, err := One(t.Context(), m.store(), "a dog and a cat", transport.DefaultLearnOptions())
	if _, linked := m.links[[2]string{id, "dog"}]; err != nil || !linked || len(m.links) != 1 || m.writes != 2 {
		t.Errorf("%v, %v, %d writes", err, m.links, m.writes)
	}
	m.before = func(ops []transport.Op) { // whatever is chosen is gone
		for _, op := range ops {
			delete(m.concepts, op.Target)
		}
		m.concepts["dog-"+ops[0].ID] = transport.Op{}
	}
	m.concepts["dog"] = transport.Op{}
	m.writes = 0
	if _, err := One(t.Context(), m.store(), "dog", transport.DefaultLearnOptions()); err != nil || m.writes != 2 {
		t.Errorf("%v, %d writes", err, m.writes)
	}
}

// TestTargetOfABatchDeletedMeanwhile: in a batch too.
func TestTargetOfABatchDeletedMeanwhile(t *testing.T) {
	m := newMemory("dog", "cat")
	m.before = func(ops []transport.Op) {
		if ops[0].Kind == transport.OpLearnAssociation {
			delete(m.concepts, "cat")
		}
	}
	ids, err := Many(t.Context(), m.store(), []string{"a dog and a cat"}, transport.DefaultLearnOptions())
	if err != nil || len(ids) != 1 || len(m.links) != 1 || m.writes != 3 {
		t.Errorf("%v, %v, %v, %d writes", ids, err, m.links, m.writes)
	}
}

// TestContentsOfABatchFindEachOther, whatever their order; an error names the content.
func TestContentsOfABatchFindEachOther(t *testing.T) {
	var mu sync.Mutex
	m := newMemory()
	s := m.store()
	write, exists := s.Write, s.Exists
	s.Write = func(ctx context.Context, ops []transport.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if ops[0].Content == "sick" {
			return &event.Error{Kind: event.KindInternal, Message: "disk"}
		}
		return write(ctx, ops)
	}
	s.Exists = func(ctx context.Context, ids []string) ([]bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return exists(ctx, ids)
	}
	contents := []string{"all about mercury", "mercury", "mercury and venus", "venus"}
	for range 2 {
		ids, err := Many(t.Context(), s, contents, transport.DefaultLearnOptions())
		if err != nil || len(ids) != 4 || len(m.concepts) != 4 || len(m.links) != 3 {
			t.Fatalf("%v, %v, %d concepts, %v", ids, err, len(m.concepts), m.links)
		}
		for _, link := range [][2]int{{0, 1}, {2, 1}, {2, 3}} {
			if _, ok := m.links[[2]string{ids[link[0]], ids[link[1]]}]; !ok {
				t.Errorf("%q is not linked to %q", contents[link[0]], contents[link[1]])
			}
		}
	}
	_, err := Many(t.Context(), s, []string{"fine", "sick"}, transport.DefaultLearnOptions())
	if err == nil || !strings.Contains(err.Error(), "contents[1]") {
		t.Error(err)
	}
	if ids, err := Many(t.Context(), s, nil, transport.DefaultLearnOptions()); err != nil || len(ids) != 0 {
		t.Errorf("no contents: %v, %v", ids, err)
	}
}
