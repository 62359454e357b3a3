package storagenode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	orphanTimeout = 5 * time.Second // of one question after an orphan
	orphanAgain   = 5 * time.Second // after one that was not answered, or answered with no
)

// orphanLoop finds out which of the replicas that the map does not name are gone for good, and has the reconciler delete
// those. Nothing is deleted on the word of a map: it may be older than the replica.
func (n *Node) orphanLoop(ctx context.Context) error {
	again := newAlarm()
	defer again.stop()
	said := map[event.ReplicaID]string{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.replicas.orphaned:
		case <-again.C:
			again.rang()
		}
		for _, e := range n.replicas.orphans(n.maps.current()) {
			err := n.confirmRemoved(ctx, e)
			if err == nil {
				n.log.Info("replica was removed from its group: it is deleted", "shard", string(e.ShardID), "replica", string(e.ReplicaID))
				n.replicas.lose(e.ReplicaID)
				n.mapped.nudge()
				continue
			}
			again.within(orphanAgain)
			if said[e.ReplicaID] != err.Error() && ctx.Err() == nil {
				said[e.ReplicaID] = err.Error()
				n.log.Warn("a replica that the shard map does not name is kept", "shard", string(e.ShardID), "replica", string(e.ReplicaID), "error", err)
			}
		}
	}
}

// orphans are those that have not been confirmed yet.
func (s *replicas) orphans(m *mapState) []manifestEntry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []manifestEntry
	for _, e := range orphans(&m.Map, s.made) {
		if _, gone := s.gone[e.ReplicaID]; !gone {
			out = append(out, e)
		}
	}
	return out
}

// lose notes that a replica is to be deleted.
func (s *replicas) lose(id event.ReplicaID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[id] = false
}

// confirmRemoved is nil when a replica is out of its group for good: the masters' map of now does not name it, so, as it was
// assigned once, its removal is on record and its id is never given again; and a linearizable read of the group's
// configuration does not have it (safety S14).
func (n *Node) confirmRemoved(ctx context.Context, e manifestEntry) error {
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	m, err := freshMap(ctx, n.masters, n.maps)
	if err != nil {
		return err
	}
	s, ok := m.ByID(e.ShardID)
	if !ok {
		return fmt.Errorf("the masters do not know %s", e.ShardID)
	}
	if _, ok := s.ByReplica(e.ReplicaID); ok {
		return errors.New("the masters' map names it")
	}
	errs := []error{fmt.Errorf("no replica of %s answered as its leader", e.ShardID)}
	for _, r := range leaderFirst(s) {
		ok, err := n.askMember(ctx, m, r, e)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("ask %s: %w", r.NodeID, err))
		case ok.Member:
			return fmt.Errorf("its group has it in the configuration of entry %d", ok.Index)
		default:
			return nil
		}
	}
	return errors.Join(errs...)
}

func (n *Node) askMember(ctx context.Context, m *mapState, r shardmap.Replica, e manifestEntry) (*transport.IsMemberOk, error) {
	if r.Endpoint == "" {
		return nil, errors.New("it has no endpoint")
	}
	q := &transport.IsMember{GridID: n.gridID(), Incarnation: m.incarnation, ReplicaID: e.ReplicaID}
	ok, err := transport.Call[transport.RoutedOk](ctx, n.pool, r.Endpoint, &transport.Routed{ShardID: e.ShardID, Epoch: m.Epoch, Request: transport.Any{Value: q}})
	if err != nil {
		return nil, err
	}
	return transport.As[transport.IsMemberOk](ok.Reply.Value, nil)
}

// leaderFirst lists a shard's replicas, the one first that leads as far as the map knows.
func leaderFirst(s *shardmap.Shard) []shardmap.Replica {
	out := make([]shardmap.Replica, 0, len(s.Replicas))
	for _, leads := range []bool{true, false} {
		for _, r := range s.Replicas {
			if (r.NodeID == s.Leader) == leads {
				out = append(out, r)
			}
		}
	}
	return out
}

// dropReplica deletes a replica that is gone. The manifest says so first, and keeps it until the shard has another replica
// here: without that a directory that is missing would be a lost disk, and an old map could bring the replica back (safety S1).
func (n *Node) dropReplica(a assignment) error {
	s := n.replicas
	if err := s.record(n.dir.Path(), s.made.with(manifestEntry{ShardID: a.shard, ReplicaID: a.replica, Removed: true})); err != nil {
		return err
	}
	s.mu.Lock()
	r := s.open[a.shard]
	delete(s.open, a.shard)
	delete(s.refused, a.shard)
	s.mu.Unlock()
	if r != nil {
		if err := r.closeStores(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(n.shardDir(a.shard)); err != nil {
		return err
	}
	if err := datadir.SyncDir(n.dir.Path(shardsDir)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[a.replica] = true
	return nil
}
