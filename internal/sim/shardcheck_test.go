package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// freeAfter is how long after healing a row may be held by a transaction: S8's 2 s before an inquiry, the masters' new leader, and
// the shard's.
const freeAfter = 15 * time.Second

// settled checks everything at rest: nobody has a request under way, all links are whole and all processes run.
func (l *shardLoad) settled() {
	ctx, cancel := context.WithTimeout(context.Background(), freeAfter)
	defer cancel()
	for _, o := range l.owners {
		for o.pending != nil {
			if o.move(ctx); ctx.Err() != nil {
				o.fault(fmt.Errorf("transfer %d has no outcome %s after all was well: %v", o.transfer, freeAfter, o.pending.txn.RequestID))
				return
			}
		}
	}
	for _, o := range l.owners {
		o.fault(o.check(ctx))
	}
	l.w.fault(l.w.decided())
	if len(l.w.broken()) == 0 {
		l.w.fault(l.w.replicasEqual())
	}
}

// check reads all that is the owner's, through the library.
func (o *owner) check(ctx context.Context) error {
	for _, r := range o.all() {
		h := r.horizon()
		got, err := o.lib.Concept(ctx, r.id)
		if err != nil {
			return fmt.Errorf("read %s at rest: %w", r.id, err)
		}
		if err := r.adopt(h, got.Found, got.Content); err != nil {
			return err
		}
	}
	total := 0
	for _, a := range o.accounts {
		a.mu.Lock()
		balance := 0
		if a.acked > 0 {
			if _, err := fmt.Sscanf(a.contents[a.acked-1], a.id+" version %d transfer %d balance %d", new(int), new(int), &balance); err != nil {
				balance = -1 << 30
			}
		}
		a.mu.Unlock()
		total += balance
		if balance != a.balance && o.accounts[0].written() {
			return fmt.Errorf("%s holds %d, its owner knows of %d", a.id, balance, a.balance)
		}
	}
	if o.accounts[0].written() && total != accounts*stake {
		return fmt.Errorf("the accounts of owner %d hold %d together, not %d", o.number, total, accounts*stake)
	}
	return o.checkBonds(ctx)
}

// checkBonds: both halves of every association that was acknowledged, both or none of one whose outcome is open, none of others.
func (o *owner) checkBonds(ctx context.Context) error {
	halves := map[[2]string]string{}
	for _, r := range o.all() {
		if !r.written() {
			continue
		}
		got, err := o.lib.Neighbors(ctx, &transport.Neighbors{ConceptID: r.id, Direction: "both", Limit: 1000})
		if err != nil {
			return fmt.Errorf("neighbours of %s at rest: %w", r.id, err)
		}
		for _, n := range got.Items {
			pair := [2]string{r.id, n.ID}
			if n.Direction == "in" {
				pair = [2]string{n.ID, r.id}
			}
			halves[pair] += n.Direction + " "
		}
	}
	for pair, did := range o.bonds {
		ends := [2]string{pair[0].id, pair[1].id}
		there := halves[ends]
		delete(halves, ends)
		whole := strings.Count(there, "out ") == 1 && strings.Count(there, "in ") == 1 && strings.Count(there, " ") == 2
		if there != "" && !whole || there == "" && did == acked || there != "" && did == failed {
			return fmt.Errorf("the association %s (acknowledged: %v, surely not done: %v) has the halves %q", ends, did == acked, did == failed, there)
		}
	}
	for ends, there := range halves {
		return fmt.Errorf("the association %s, which nobody asked for, has the halves %q", ends, there)
	}
	return nil
}

// decided waits until every master knows of no transaction that is decided and not completed.
func (w *world) decided() error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for _, id := range w.running() {
		for m := w.member(id); ; {
			changed := m.Changed()
			n := m.View().OpenTxnCount()
			if n == 0 {
				break
			}
			select {
			case <-changed:
			case <-limit.C:
				return fmt.Errorf("%s has %d transactions that are decided and not completed after %s", id, n, patience)
			}
		}
	}
	return nil
}

// replicasEqual waits until the replicas of each shard have applied the same entries, and compares all they hold.
func (w *world) replicasEqual() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	view := w.member(w.running()[0]).View()
	for sh := range view.Shards() {
		for {
			var said []string
			at := map[uint64]map[[32]byte]event.NodeID{}
			for _, v := range sh.Voters {
				q := &transport.Routed{ShardID: sh.ID, Consistency: "stale", Request: transport.Any{Value: &transport.ContentHash{}}}
				ok, err := transport.Call[transport.RoutedOk](ctx, w.pool, view.Node(v.NodeID).Endpoint, q)
				if err != nil {
					said = append(said, fmt.Sprintf("%s: %v", v.NodeID, err))
					continue
				}
				h := ok.Reply.Value.(*transport.ContentHashOk)
				said = append(said, fmt.Sprintf("%s has applied entry %d", v.NodeID, h.Applied))
				if at[h.Applied] == nil {
					at[h.Applied] = map[[32]byte]event.NodeID{}
				}
				at[h.Applied][h.Digest] = v.NodeID
				if len(at[h.Applied]) > 1 {
					return fmt.Errorf("replicas of %s differ at entry %d: %x", sh.ID, h.Applied, at[h.Applied])
				}
				w.hashed.Add(1)
			}
			if len(said) == len(sh.Voters) && len(at) == 1 && !strings.Contains(strings.Join(said, " "), ":") {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("the replicas of %s did not come to the same entry within %s: %s", sh.ID, patience, strings.Join(said, "; "))
			}
		}
	}
	return nil
}
