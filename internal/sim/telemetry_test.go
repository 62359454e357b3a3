package sim

import (
	"context"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestReadingsReachEventStorage: what real storage nodes measure is committed by real masters, shipped, and found in event storage.
func TestReadingsReachEventStorage(t *testing.T) {
	inTown(t, 47, func(t *testing.T, w *world, c *chronicle) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		master := w.peers[1].Grid
		concept := &transport.LearnConcept{ConceptID: "dog", Content: "a dog", Strength: 1, Confidence: 1}
		if _, err := transport.Call[transport.LearnConceptOk](ctx, w.pool, master, concept); err != nil {
			t.Fatal(err)
		}
		if _, err := transport.Call[transport.FlushOk](ctx, w.pool, master, &transport.Flush{}); err != nil {
			t.Fatal(err)
		}
		flushed, flush := next(c, func(b event.ReconciliationComplete) bool { return b.DiskFlush && b.EntriesProcessed > 0 })
		stored, metrics := next(c, func(b event.StorageMetrics) bool { return b.ConceptCount == 1 })
		if flushed.Actor != string(flush.NodeID) || stored.Actor != string(metrics.NodeID) || !strings.HasPrefix(stored.Actor, "node-") {
			t.Errorf("%+v and %+v", flushed, stored)
		}
		if err := w.shipped(max(flushed.Seq, stored.Seq)); err != nil {
			t.Fatal(err)
		}
		for _, e := range []*event.Envelope{flushed, stored} {
			want, err := event.JSON(e)
			if err != nil {
				t.Fatal(err)
			}
			got, err := transport.Call[transport.QueryConceptOk](ctx, w.pool, eventsHost+":50052", &transport.QueryConcept{ConceptID: event.ConceptID(e.Seq)})
			if err != nil || !got.Found || got.Content != string(want) {
				t.Errorf("event storage has %+v, %v; want %s", got, err, want)
			}
		}
	})
}
