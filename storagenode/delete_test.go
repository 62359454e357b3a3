package storagenode

import (
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

func deleted(t *testing.T, reply any, err error) bool {
	t.Helper()
	return must[transport.DeleteConceptOk](t)(reply, err).Deleted
}

func TestDeleteOnANode(t *testing.T) {
	c := oneShard(t, never)
	for _, id := range []string{"a", "b"} {
		must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept(id))))
	}
	two := uint32(2)
	for _, assocType := range []uint32{1, 2} {
		link := &transport.LearnAssociation{SourceID: "a", TargetID: "b", AssocType: assocType, Confidence: 1}
		must[transport.LearnAssociationOk](t)(c.route(write("shard-0", link)))
	}
	cut := write("shard-0", &transport.DeleteAssociation{SourceID: "a", TargetID: "b", AssocType: &two})
	first := must[transport.DeleteAssociationOk](t)(c.route(cut))
	if again := must[transport.DeleteAssociationOk](t)(c.route(cut)); !first.Deleted || *again != *first {
		t.Errorf("%+v, and again %+v", first, again)
	}
	once := write("shard-0", &transport.DeleteConcept{ConceptID: "a"})
	for range 2 {
		reply, err := c.route(once)
		if !deleted(t, reply, err) {
			t.Error("not deleted")
		}
	}
	reply, err := c.route(write("shard-0", &transport.DeleteConcept{ConceptID: "a"}))
	if deleted(t, reply, err) {
		t.Error("deleted twice")
	}
	if stats := must[transport.StatsOk](t)(c.route(ask("shard-0", &transport.GetStats{}))); stats.Concepts != 1 || stats.Edges != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// TestDeleteWaitsForItsNeighbours: the other end of an association is a row that the request does not name. While a
// transaction holds it the delete waits, in line and without proposing itself over and over.
func TestDeleteWaitsForItsNeighbours(t *testing.T) {
	c := oneShard(t, never)
	for _, id := range []string{"a", "held"} {
		must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept(id))))
	}
	must[transport.LearnAssociationOk](t)(c.route(write("shard-0", &transport.LearnAssociation{SourceID: "a", TargetID: "held", Confidence: 1})))
	p := prepareOf(1, 1, "held")
	c.vote(p)

	short := write("shard-0", &transport.DeleteConcept{ConceptID: "a"})
	short.TimeoutMillis = 50
	if e := wantKind(t, second(c.send("node-1", short)), event.KindLocked); e.Txn != p.TxnID {
		t.Errorf("locked by %v", e.Txn)
	}
	r := c.nodes["node-1"].replicas.all()[0]
	done := make(chan error, 1)
	go func() {
		_, err := c.send("node-1", write("shard-0", &transport.DeleteConcept{ConceptID: "a"}))
		done <- err
	}()
	limit := time.After(testLimit)
	for len(rowsInLine(r.queue, "held")) == 0 {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-limit:
			t.Fatal("it stands in no line for the neighbour's row")
		case <-time.After(time.Millisecond):
		}
	}
	before := r.engine.Applied()
	c.finish(finishOf(p, true))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if steps := r.engine.Applied() - before; steps > 4 {
		t.Errorf("%d entries for a finish and a delete", steps)
	}
	if got := must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "a"}))); got.Found {
		t.Error("it is still there")
	}
}

func rowsInLine(q *waitQueue, row string) []*place {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lines[row]
}
