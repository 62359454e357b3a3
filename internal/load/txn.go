package load

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// associate associates concepts over shards.
type associate struct {
	Options
	stores
	target Target
	owned  [][]string // ids by shard; those of one shard are left out if there are few
}

func newTxn(t Target, o Options) (Workload, error) {
	s, err := openStores(t)
	return &associate{Options: o, stores: s, target: t}, err
}

// Prepare implements Workload.
func (a *associate) Prepare(ctx context.Context) error {
	m, err := shardMap(ctx, a.target)
	if err != nil {
		return err
	}
	byShard := map[event.ShardID][]string{}
	for n := range a.Keys {
		id := a.name(uint64(n))
		s, err := m.Shard(id)
		if err != nil {
			return fmt.Errorf("find the shard of %s: %w", id, err)
		}
		byShard[s.ID] = append(byShard[s.ID], id)
	}
	for _, s := range m.Shards { // in the map's order: a seed draws the same pairs again
		if ids := byShard[s.ID]; len(ids) > 0 {
			a.owned = append(a.owned, ids)
		}
	}
	if len(a.owned) < 2 {
		return &event.Error{Kind: event.KindInvalid, Op: "prepare txn", Message: fmt.Sprintf("%d concepts lie on %d shard: an association over shards needs two", a.Keys, len(a.owned))}
	}
	return a.fill(ctx, a.stores, nil)
}

// Do implements Workload.
func (a *associate) Do(ctx context.Context, w *Worker) error {
	from := w.Rand.IntN(len(a.owned))
	to := (from + 1 + w.Rand.IntN(len(a.owned)-1)) % len(a.owned)
	return a.of(w).LearnAssociation(ctx, &transport.LearnAssociation{SourceID: pick(w, a.owned[from]), TargetID: pick(w, a.owned[to]), Confidence: 1})
}

func pick(w *Worker, ids []string) string { return ids[w.Rand.IntN(len(ids))] }

// Weight implements Workload.
func (*associate) Weight() int { return 1 }

// Close implements Workload.
func (a *associate) Close() error { return a.stores.close() }
