package feed

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

// eventStorage starts the grid's own event storage in dir.
func eventStorage(t *testing.T, n transport.Network, dir string) (stop func()) {
	t.Helper()
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Events, cfg.Network, cfg.Log = dir, sinkAddress, true, n, slog.New(slog.DiscardHandler)
	node, err := storagenode.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestShipsToEventStorage: the whole way into a real storage node, through its restart in the middle of the feed.
func TestShipsToEventStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a storage node")
	}
	l, n, dir := newLog(t), transport.NewMemory(), t.TempDir()
	stop := eventStorage(t, n, dir)
	_, end := l.lead(n)
	defer end()
	l.settings(800)
	l.acknowledged(t)
	stop()
	l.settings(10)
	stop = eventStorage(t, n, dir)
	defer stop()
	l.settings(10)
	l.acknowledged(t)

	pool := transport.NewPool(transport.PoolConfig{Network: n})
	defer func() { _ = pool.Close() }()
	for _, e := range l.events {
		id := event.ConceptID(e.Seq)
		c, err := transport.Call[transport.QueryConceptOk](t.Context(), pool, sinkAddress, &transport.QueryConcept{ConceptID: id})
		if err != nil {
			t.Fatal(err)
		}
		want, err := event.JSON(e)
		if err != nil || !c.Found || c.Content != string(want) || c.Metadata.Attributes["chain"] != hexChain(e.Chain) {
			t.Fatalf("%s: found %v, %q, want %q (%v)", id, c.Found, c.Content, want, err)
		}
		a, err := transport.Call[transport.GetAssociationOk](t.Context(), pool, sinkAddress,
			&transport.GetAssociation{SourceID: event.Info(e.Type).Entity(e.Body)[0], TargetID: id})
		if err != nil || !a.Found || a.AssocType != uint32(e.Type) {
			t.Fatalf("%s: its entity's association: %+v, %v", id, a, err)
		}
	}
}

// acknowledged waits until every event of the log is.
func (l *log) acknowledged(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		changed := l.Changed()
		if l.cursor().Through == l.machine.View().Seq() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("acknowledged through %d of %d", l.cursor().Through, l.machine.View().Seq())
		}
	}
}
