package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

func deleting(name string) transport.Op {
	return transport.Op{Kind: transport.OpDeleteConcept, ID: name}
}

func cutting(source, target string) transport.Op {
	return transport.Op{Kind: transport.OpDeleteAssociation, ID: source, Target: target}
}

func cuttingType(source, target string, assocType uint32) transport.Op {
	return transport.Op{Kind: transport.OpDeleteAssociationType, ID: source, Target: target, AssocType: assocType}
}

// rowsOf counts the rows of the tables that hold concepts, vectors, associations and indexes.
func rowsOf(t *testing.T, e *Engine) (n int) {
	t.Helper()
	for line := range strings.Lines(keySpace(t, e)) {
		if table := line[:2]; table != "01" && table[0] != '3' {
			n++
		}
	}
	return n
}

func TestDeletedConceptLeavesNothing(t *testing.T) {
	e := newEngine(t)
	full := concept("a")
	full.Embedding = []float32{1, 2}
	full.Metadata = &transport.Metadata{Attributes: map[string]string{"k": "v"}, Tags: []string{"t"}}
	write(t, e, concept("b"), concept("c"))
	write(t, e, association("b", "c", 0))
	before := rowsOf(t, e)
	write(t, e, full, association("a", "b", 1), association("c", "a", 2), association("a", "a", 3), association("a", "b", 4))
	if a := write(t, e, deleting("a")); a.Nothing || a.AlreadyDone {
		t.Fatalf("answer %+v", a)
	}
	if there, err := e.Exists("a"); there || err != nil {
		t.Fatalf("it is there: %v, %v", there, err)
	}
	if got := rowsOf(t, e); got != before {
		t.Errorf("%d rows, before it was learned %d:\n%s", got, before, keySpace(t, e))
	}
	if got, want := e.Stats(), (Stats{Concepts: 2, Edges: 1, Written: 9}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if got := targets(t, e, "c"); len(got) != 0 {
		t.Errorf("c still leads to %q", got)
	}
	// A late end is as absent as any.
	refusal(t, do(t, e, writeOf(1, issuedBy(e), association("b", "a", 0)))[0], event.KindPrecondition)

	// Learned again it is new: version, creation, neighbours in the order of now.
	write(t, e, concept("a"))
	write(t, e, association("b", "a", 0))
	if c, _, err := e.Concept("a"); err != nil || c.Version != 1 || c.Created != e.LogTime()-1_000_000 || c.Dimension != 0 {
		t.Errorf("learned again it is %+v, %v", c, err)
	}
	write(t, e, cutting("b", "c"))
	write(t, e, association("b", "c", 0))
	if got := targets(t, e, "b"); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("targets %q, want those of now: a deleted association lost its place", got)
	}
}

// TestDeleteSeesItsOwnEntry: what commands of the same entry wrote is deleted with the rest, whichever batch it is in.
func TestDeleteSeesItsOwnEntry(t *testing.T) {
	e := newEngine(t)
	now := testTime
	answers := do(t, e,
		writeOf(1, now, concept("a"), concept("b")),
		writeOf(2, now, association("a", "b", 0)),
		writeOf(3, now, deleting("a")),
		writeOf(4, now, concept("a")),
		writeOf(5, now, deleting("nobody")),
		writeOf(6, now, cutting("a", "b")))
	for i, a := range answers {
		if a.Err != nil || a.Nothing != (i >= 4) {
			t.Errorf("answer %d: %+v", i, a)
		}
	}
	if c, found, err := e.Concept("a"); err != nil || !found || c.Version != 1 || len(targets(t, e, "a")) != 0 {
		t.Errorf("a is %+v, %v, %v", c, found, err)
	}
	if got, want := e.Stats(), (Stats{Concepts: 2, Written: 5}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestRetriedDelete(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"))
	first, nothing := writeOf(1, issuedBy(e), deleting("a")), writeOf(2, issuedBy(e), deleting("b"))
	do(t, e, first, nothing)
	write(t, e, concept("a"), concept("b"))
	answers := do(t, e, first, nothing)
	if a := answers[0]; a.Err != nil || !a.AlreadyDone || a.Nothing || a.Seq != 2 {
		t.Errorf("the delete again: %+v", a)
	}
	if a := answers[1]; a.Err != nil || !a.AlreadyDone || !a.Nothing || a.Seq != 2 {
		t.Errorf("the delete of nothing again: %+v", a)
	}
	if s := e.Stats(); s.Concepts != 2 {
		t.Errorf("stats %+v: a retry deleted again", s)
	}
	refusal(t, do(t, e, writeOf(1, issuedBy(e), deleting("b")))[0], event.KindIDReused)
}

func TestDeleteAssociations(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"))
	write(t, e, association("a", "b", 1), association("a", "b", 2), association("a", "b", 3), association("b", "a", 2))
	write(t, e, cuttingType("a", "b", 2))
	if a := write(t, e, cuttingType("a", "b", 2)); !a.Nothing {
		t.Errorf("deleted twice: %+v", a)
	}
	page, err := e.Neighbors(&transport.Neighbors{ConceptID: "b", Direction: "both"})
	must(t, err)
	want := []transport.Neighbor{{ID: "a", Type: 1, Confidence: 0.5, Direction: "in"}, {ID: "a", Type: 3, Confidence: 0.5, Direction: "in"},
		{ID: "a", Type: 2, Confidence: 0.5, Direction: "out"}}
	if !slices.Equal(page.Items, want) {
		t.Errorf("neighbours %+v, want %+v", page.Items, want)
	}
	write(t, e, cutting("a", "b"))
	if _, found, err := e.Association("a", "b"); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	if _, found, err := e.Association("b", "a"); !found || err != nil {
		t.Errorf("the other direction: found %v, %v", found, err)
	}
	if s := e.Stats(); s.Edges != 1 {
		t.Errorf("stats %+v, want one edge", s)
	}
}

func TestDeleteOverShardsIsRefused(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"))
	do(t, e, prepareOf(2, 1, 5, half(transport.OpLinkOut, "a", "far"), half(transport.OpLinkIn, "away", "b")), finishOf(2, 1, 5, true))
	before := rowsOf(t, e)
	refused := writeOf(3, issuedBy(e), deleting("a"))
	for _, op := range []transport.Op{deleting("b"), cutting("a", "far"), cutting("away", "b"), cuttingType("a", "far", 0)} {
		refusal(t, do(t, e, writeOf(4, issuedBy(e), op))[0], event.KindNeedsTxn)
	}
	if err := refusal(t, do(t, e, refused)[0], event.KindNeedsTxn); !strings.Contains(err.Message, `"far"`) {
		t.Errorf("%q does not name the neighbour", err.Message)
	}
	if rowsOf(t, e) != before {
		t.Error("a refused delete removed something")
	}
}

func TestDeleteRespectsLocks(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"), concept("c"), association("a", "b", 0))
	p := prepareOf(2, 1, 5, half(transport.OpLinkOut, "b", "far"))
	do(t, e, p)
	for _, op := range []transport.Op{deleting("b"), deleting("a"), cutting("a", "b"), cutting("b", "c")} {
		a := do(t, e, writeOf(3, issuedBy(e), op))[0]
		if err := refusal(t, a, event.KindLocked); err.Txn != id(2) {
			t.Errorf("%+v: holder %v", op, err.Txn)
		}
		if wantRow := op.ID == "a" && op.Target == ""; (a.Row == "b") != wantRow {
			t.Errorf("%+v: the row to wait for is %q", op, a.Row)
		}
	}
	do(t, e, finishOf(2, 1, 5, false))
	if a := do(t, e, writeOf(3, issuedBy(e), deleting("a")))[0]; a.Err != nil || a.Nothing {
		t.Errorf("when the row is free: %+v", a)
	}
}

func TestHubsAreNotDeletedAtOnce(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("hub"))
	for from := 0; from <= transport.MaxDeleteEdges; from += 250 {
		var ops []transport.Op
		for i := from; i < min(from+250, transport.MaxDeleteEdges+1); i++ {
			name := fmt.Sprint("n", i)
			ops = append(ops, concept(name), association("hub", name, 0))
		}
		write(t, e, ops...)
	}
	hub := writeOf(9, issuedBy(e), deleting("hub"))
	refusal(t, do(t, e, hub)[0], event.KindTooLarge)
	write(t, e, deleting("n7"))
	// The refusal is this request's answer for good: its sender was told that it failed.
	refusal(t, do(t, e, hub)[0], event.KindTooLarge)
	write(t, e, deleting("hub"))
	if got, want := e.Stats(), (Stats{Concepts: transport.MaxDeleteEdges, Written: 2*transport.MaxDeleteEdges + 5}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

// TestLowerLevelsRefuse: what a level does not have is refused as the versions of that level did.
func TestLowerLevelsRefuse(t *testing.T) {
	e := newEngine(t)
	doAt(t, e, 1, writeOf(9, issuedBy(e), concept("a")))
	for _, c := range []struct {
		level uint32
		ops   []transport.Op
		kind  event.Kind
	}{
		{1, []transport.Op{deleting("a")}, event.KindUnsupported},
		{2, []transport.Op{deleting("a"), concept("b")}, event.KindInvalid},
		{2, []transport.Op{concept("b"), {Kind: transport.OpRead, ID: "a"}}, event.KindUnsupported},
		{2, []transport.Op{half(transport.OpUnlinkOut, "a", "far")}, event.KindUnsupported},
	} {
		must(t, e.Check(writeOf(1, issuedBy(e), c.ops...)))
		refusal(t, doAt(t, e, c.level, writeOf(1, issuedBy(e), c.ops...))[0], c.kind)
	}
	noVote(t, doAt(t, e, 2, prepareOf(2, 1, 5, deleting("a")))[0], event.KindUnsupported, false)
	open := prepareOf(2, 2, 5, concept("b"))
	open.Prepare.Open = true
	noVote(t, doAt(t, e, 2, open)[0], event.KindUnsupported, false)
	if s := e.Stats(); s.Concepts != 1 {
		t.Errorf("stats %+v", s)
	}
	// None of it is the request's answer: it goes on at a higher level.
	if a := do(t, e, writeOf(1, issuedBy(e), deleting("a"), concept("b")))[0]; a.Err != nil {
		t.Errorf("at level 3: %+v", a)
	}
}

func TestGoldenDeletes(t *testing.T) {
	var b strings.Builder
	for i, op := range []transport.Op{deleting("a"), cutting("a", "b"), cuttingType("a", "b", 1000)} {
		fmt.Fprintf(&b, "%s %x\n", op.Kind, encode(t, writeOf(byte(i+1), testTime, op)))
	}
	golden(t, "deletes.txt", b.String())
}
