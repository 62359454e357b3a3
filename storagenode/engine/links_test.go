package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestLinks: each other end once, with the highest confidence of the associations to it, of one type or of all, either way.
func TestLinks(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"), concept("c"), concept("ab"))
	sure := func(source, target string, kind uint32, confidence float32) transport.Op {
		o := association(source, target, kind)
		o.Confidence = confidence
		return o
	}
	write(t, e, sure("a", "c", 0, 0.25), sure("a", "b", 1, 0.5), sure("a", "b", 2, 0.75), sure("a", "b", 3, 0.25), sure("ab", "a", 1, 1))
	one := uint32(1)
	for _, tt := range []struct {
		q    *transport.Links
		want [][]transport.Edge
	}{
		{&transport.Links{ConceptIDs: []string{"a", "nobody", "ab"}, Direction: "out"}, [][]transport.Edge{{{ID: "b", Confidence: 0.75}, {ID: "c", Confidence: 0.25}}, {}, {{ID: "a", Confidence: 1}}}},
		{&transport.Links{ConceptIDs: []string{"a"}, Direction: "out", Type: &one}, [][]transport.Edge{{{ID: "b", Confidence: 0.5}}}},
		{&transport.Links{ConceptIDs: []string{"b", "a"}, Direction: "in"}, [][]transport.Edge{{{ID: "a", Confidence: 0.75}}, {{ID: "ab", Confidence: 1}}}},
	} {
		ok, err := e.Links(tt.q)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, ok.Links); d != "" {
			t.Errorf("%+v: %s", tt.q, d)
		}
	}
	_, err := e.Links(&transport.Links{Direction: "both"})
	wantKind(t, err, event.KindInvalid)
}

// TestHalfBeforeItsConcept: half an association is there before the concept at its other end; what it says of it later takes its place.
func TestHalfBeforeItsConcept(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"))
	in, out := half(transport.OpLinkIn, "c", "a"), half(transport.OpLinkOut, "b", "d")
	write(t, e, in, out)
	write(t, e, concept("c"), concept("d"), in, out)
	for id, want := range map[string]string{"a": "c", "b": "d"} {
		ok, err := e.Neighbors(&transport.Neighbors{ConceptID: id, Direction: "both"})
		if err != nil || len(ok.Items) != 1 || ok.Items[0].ID != want {
			t.Errorf("neighbours of %s are %+v, %v; want %s once", id, ok, err, want)
		}
	}
}

// TestEach reads what is there, by its place.
func TestEach(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"))
	got := map[int]string{}
	err := e.Each([]string{"b", "nobody", "a"}, func(i int, c *Concept) error {
		got[i] = c.ID
		if whole, _, err := e.Concept(c.ID); err != nil || !cmp.Equal(whole, c) {
			t.Errorf("%+v, %v; want %+v", c, err, whole)
		}
		return nil
	})
	if d := cmp.Diff(map[int]string{0: "b", 2: "a"}, got); err != nil || d != "" {
		t.Error(err, d)
	}
}
