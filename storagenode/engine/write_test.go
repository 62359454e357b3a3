package engine

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestLearnConceptAndAgain(t *testing.T) {
	e := newEngine(t)
	first := concept("a")
	first.Embedding = []float32{1, -2.5}
	first.Metadata = &transport.Metadata{Attributes: map[string]string{"k": "v", "b": "c"}, Tags: []string{"x", "y"}}
	a := write(t, e, first)
	if a.Seq != 1 || a.AlreadyDone {
		t.Fatalf("answer %+v, want entry 1", a)
	}
	c, found, err := e.Concept("a")
	if err != nil || !found {
		t.Fatalf("concept: %v, %v", found, err)
	}
	at := testTime + 1_000_000
	want := &Concept{ID: "a", Content: "about a", Strength: 1, Confidence: 1, Attributes: map[string]string{"k": "v", "b": "c"},
		Tags: []string{"x", "y"}, Version: 1, Created: at, Modified: at, Dimension: 2}
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("concept %+v, want %+v", c, want)
	}
	if v, err := e.Vector("a"); err != nil || !slices.Equal(v, []float32{1, -2.5}) {
		t.Fatalf("vector %v, %v", v, err)
	}
	write(t, e, concept("b"), association("a", "b", 0))

	again := concept("a")
	again.Content, again.Strength = "other", 0.25
	write(t, e, again)
	c, _, _ = e.Concept("a")
	want = &Concept{ID: "a", Content: "other", Strength: 0.25, Confidence: 1, Version: 2, Created: at, Modified: testTime + 3_000_000}
	c.Attributes, c.Tags = emptyMap(c.Attributes), emptySlice(c.Tags)
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("concept %+v, want %+v: learning again replaces all fields", c, want)
	}
	if v, err := e.Vector("a"); err != nil || v != nil {
		t.Fatalf("vector %v, %v; it was learned again without one", v, err)
	}
	if got := targets(t, e, "a"); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("targets %v: associations stay when a concept is learned again", got)
	}
	if got, want := e.Stats(), (Stats{Concepts: 2, Edges: 1, Vectors: 0, Written: 4}); got != want {
		t.Fatalf("stats %+v, want %+v", got, want)
	}
}

func emptyMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

func emptySlice(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}

func TestAssociationNeedsBothEnds(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"))
	refused := writeOf(1, issuedBy(e), association("a", "nobody", 0))
	err := refusal(t, do(t, e, refused)[0], event.KindPrecondition)
	if !strings.Contains(err.Error(), `"nobody"`) || err.OpNumber != 1 {
		t.Errorf("error %v (op %d) does not name the missing end", err, err.OpNumber)
	}
	before := digestOf(t, e)

	// A late copy must not succeed after its sender was told that it failed.
	write(t, e, concept("nobody"))
	refusal(t, do(t, e, refused)[0], event.KindPrecondition)
	if got := targets(t, e, "a"); len(got) != 0 {
		t.Fatalf("targets %v of a refused association", got)
	}

	// All ops or none: the second refers to nothing, so the first is not written either.
	both := writeOf(2, issuedBy(e), concept("c"), association("c", "absent", 0))
	if err := refusal(t, do(t, e, both)[0], event.KindPrecondition); err.OpNumber != 2 {
		t.Errorf("op number %d, want 2", err.OpNumber)
	}
	if there, err := e.Exists("c"); there || err != nil {
		t.Fatalf("half of a refused write is there (%v)", err)
	}
	if digestOf(t, e) == before {
		t.Fatal("the digest stood still over two entries")
	}

	// An end that an earlier op of the same write learns is there; one that a later op learns is not.
	write(t, e, concept("x"), association("x", "a", 3), association("a", "x", 3))
	late := writeOf(3, issuedBy(e), association("y", "a", 0), concept("y"))
	refusal(t, do(t, e, late)[0], event.KindPrecondition)
}

func TestNeighborsKeepTheOrderOfTheFirstCommit(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("hub"), concept("z"), concept("m"), concept("a"))
	write(t, e, association("hub", "z", 5), association("hub", "m", 1))
	write(t, e, association("hub", "a", 0))
	write(t, e, association("hub", "z", 1)) // a second type to the same target is no new neighbour
	louder := association("hub", "z", 5)
	louder.Confidence = 0.75
	write(t, e, louder) // learning again changes the confidence and keeps the place

	if got := targets(t, e, "hub"); !slices.Equal(got, []string{"z", "m", "a"}) {
		t.Fatalf("targets %v, want commit order of the first association", got)
	}
	page, err := e.Neighbors(&transport.Neighbors{ConceptID: "hub", Direction: "out"})
	if err != nil {
		t.Fatal(err)
	}
	want := []transport.Neighbor{{ID: "z", Type: 5, Confidence: 0.75, Direction: "out"}, {ID: "m", Type: 1, Confidence: 0.5, Direction: "out"},
		{ID: "a", Type: 0, Confidence: 0.5, Direction: "out"}, {ID: "z", Type: 1, Confidence: 0.5, Direction: "out"}}
	if !slices.Equal(page.Items, want) || page.Cursor != "" {
		t.Fatalf("page %+v, want %+v", page, want)
	}
	page, err = e.Neighbors(&transport.Neighbors{ConceptID: "z", Direction: "in"})
	if err != nil || len(page.Items) != 2 || page.Items[0] != (transport.Neighbor{ID: "hub", Type: 5, Confidence: 0.75, Direction: "in"}) {
		t.Fatalf("incoming %+v, %v: both ends carry the new confidence", page, err)
	}
	a, found, err := e.Association("hub", "z")
	if err != nil || !found || *a != (Association{"hub", "z", 1, 0.5}) {
		t.Fatalf("association %+v, %v, %v; want the lowest type", a, found, err)
	}
	if _, found, err := e.Association("z", "hub"); found || err != nil {
		t.Fatalf("the reverse association is there: %v, %v", found, err)
	}
	if s := e.Stats(); s.Edges != 4 || s.Written != 9 {
		t.Fatalf("stats %+v, want 4 edges and 9 written", s)
	}
}

func TestRetriedWrite(t *testing.T) {
	e := newEngine(t)
	c := writeOf(1, issuedBy(e), concept("a"))
	if a := do(t, e, c)[0]; a.Err != nil || a.Seq != 1 {
		t.Fatalf("answer %+v", a)
	}
	write(t, e, concept("a"))
	a := do(t, e, c, c)
	for _, a := range a {
		if a.Err != nil || a.Seq != 1 || !a.AlreadyDone {
			t.Fatalf("answer %+v, want the first one", a)
		}
	}
	if c, _, _ := e.Concept("a"); c.Version != 2 {
		t.Fatalf("version %d: the retry was applied again", c.Version)
	}
	other := writeOf(1, issuedBy(e), concept("b"))
	refusal(t, do(t, e, other)[0], event.KindIDReused)

	// Twice in one entry, and in one Apply.
	twin := writeOf(2, issuedBy(e), concept("twin"))
	answers := do(t, e, twin, twin)
	if answers[0].AlreadyDone || !answers[1].AlreadyDone || answers[1].Seq != answers[0].Seq {
		t.Fatalf("answers %+v to one request twice in an entry", answers)
	}
}

func TestRefusedBeforeAnythingElse(t *testing.T) {
	nan := float32(math.NaN())
	long := concept(strings.Repeat("x", transport.MaxID+1))
	bad := concept("v")
	bad.Embedding = []float32{nan, 1}
	wide := concept("v")
	wide.Embedding = []float32{1, 2, 3}
	weak := association("a", "b", 0)
	weak.Confidence = nan
	cases := map[string]struct {
		op   transport.Op
		kind event.Kind
	}{
		"empty id": {concept(""), event.KindInvalid}, "long id": {long, event.KindTooLarge}, "NUL": {concept("a\x00b"), event.KindInvalid},
		"NaN": {bad, event.KindInvalid}, "dimension": {wide, event.KindInvalid}, "confidence": {weak, event.KindInvalid},
		"kind": {transport.Op{Kind: "delete_everything", ID: "a"}, event.KindInvalid},
	}
	e := newEngine(t)
	ok := concept("ok")
	ok.Embedding = []float32{0, 1}
	write(t, e, ok)
	n := byte(0)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n++
			command := writeOf(n, issuedBy(e), c.op)
			wantKind(t, e.Check(command), c.kind)
			refusal(t, do(t, e, command)[0], c.kind)
		})
	}
	none := writeOf(0, issuedBy(e), concept("a"))
	none.RequestID = event.RequestID{}
	wantKind(t, e.Check(none), event.KindInvalid)
	refusal(t, do(t, e, none)[0], event.KindInvalid)
	wantKind(t, e.Check(Command{Kind: Prepare}), event.KindInvalid)
	if err := e.Check(writeOf(1, 0, ok)); err != nil {
		t.Errorf("a good command: %v", err)
	}
	if s := e.Stats(); s.Concepts != 1 || s.Written != 1 {
		t.Errorf("stats %+v after refusals", s)
	}
}

func TestDimensionIsTheState(t *testing.T) {
	e := newEngine(t)
	two, three := concept("two"), concept("three")
	two.Embedding, three.Embedding = []float32{1, 2}, []float32{1, 2, 3}
	refusal(t, do(t, e, writeOf(1, issuedBy(e), two, three))[0], event.KindInvalid)
	do(t, e, writeOf(2, issuedBy(e), two))
	refusal(t, do(t, e, writeOf(3, issuedBy(e), three))[0], event.KindInvalid)
	if s := e.Stats(); s.Vectors != 1 {
		t.Fatalf("stats %+v, want one vector", s)
	}
}

func TestRequestsAreForgottenInOrder(t *testing.T) {
	e := newEngine(t)
	e.o.bounds.requests = 3
	base := testTime - 1000
	for n := byte(1); n <= 4; n++ {
		// Issued in reverse: the last one applied is the first one forgotten.
		if a := do(t, e, writeOf(n, base-int64(n), concept("c")))[0]; a.Err != nil && n < 4 {
			t.Fatalf("write %d: %v", n, a.Err)
		}
	}
	// 4 was issued first: it was evicted at the end of its own entry.
	refusal(t, do(t, e, writeOf(4, base-4, concept("c")))[0], event.KindExpired)
	if a := do(t, e, writeOf(3, base-3, concept("c")))[0]; !a.AlreadyDone {
		t.Fatalf("answer %+v, want the remembered one", a)
	}
	refusal(t, do(t, e, writeOf(9, base-4, concept("c")))[0], event.KindExpired)
	if a := do(t, e, writeOf(8, base+8, concept("c")))[0]; a.Err != nil {
		t.Fatalf("a younger request: %v", a.Err)
	}
	refusal(t, do(t, e, writeOf(3, base-3, concept("c")))[0], event.KindExpired)
	future := e.LogTime() + 62_000_000
	refusal(t, do(t, e, writeOf(7, future, concept("c")))[0], event.KindFromTheFuture)
}

func TestRequestsAreForgottenWithTime(t *testing.T) {
	e := newEngine(t)
	old := writeOf(1, issuedBy(e), concept("a"))
	do(t, e, old)
	late := entryAt(t, e.Applied()+1)
	late.Time += 601_000_000
	e.Apply([]raftgroup.Entry{late})
	refusal(t, do(t, e, old)[0], event.KindExpired)

	// Log time never moves back.
	now := e.LogTime()
	do(t, e)
	if e.LogTime() != now {
		t.Fatalf("log time %d after an earlier stamp, want %d", e.LogTime(), now)
	}
}

func TestIDsInPages(t *testing.T) {
	e := newEngine(t)
	want := []string{"a", "aa", "ab", "b", "\U0010ffff"}
	for i := range want {
		write(t, e, concept(want[len(want)-1-i]))
	}
	var got []string
	for after := ""; ; {
		page, err := e.IDs(after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if got = append(got, page...); len(got) > len(want) {
			break
		}
		after = page[len(page)-1]
	}
	if !slices.Equal(got, want) {
		t.Fatalf("ids %q, want %q", got, want)
	}
}
