package storagenode

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
)

// replicas is the set of replicas that the node holds: what the manifest names, and of that what is open. One goroutine,
// the reconciler, changes it.
type replicas struct {
	walks       semanticwalk.Slots // of all of them together
	checkpoints *checkpoints       // of the open ones, for other nodes
	joins       *joins             // of those that are not made yet

	mu       sync.RWMutex
	made     *manifest
	open     map[event.ShardID]*replica
	refused  map[event.ShardID]error  // why a replica does not serve; it is tried again by a new process only
	gone     map[event.ReplicaID]bool // removed by their groups, for certain; true: what they left is deleted
	orphaned signal                   // there are replicas that the map does not name
	faults   []error                  // what the last plan or its steps could not do; tried again with the next map

	building chan struct{} // one at a time builds its vector index
	handing  chan struct{} // one at a time hands leadership to its preferred leader
}

func newReplicas(made *manifest) *replicas {
	return &replicas{
		walks: semanticwalk.NewSlots(), made: made, open: map[event.ShardID]*replica{}, refused: map[event.ShardID]error{},
		gone: map[event.ReplicaID]bool{}, orphaned: newSignal(), joins: newJoins(), building: make(chan struct{}, 1), handing: make(chan struct{}, 1),
	}
}

// get is the open replica of a shard.
func (s *replicas) get(m *mapState, id event.ShardID) (*replica, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.open[id]; r != nil {
		return r, nil
	}
	if err := s.refused[id]; err != nil {
		return nil, &event.Error{Kind: event.KindUnavailable, Message: fmt.Sprintf("the replica of %s on this node is out of service: %v", id, err)}
	}
	if m.gives(id) {
		return nil, &event.Error{Kind: event.KindUnavailable, Message: fmt.Sprintf("the replica of %s on this node is being made: retry", id)}
	}
	return nil, &event.Error{Kind: event.KindWrongShard, Epoch: m.Epoch.Seq, Message: fmt.Sprintf("%s is not on this node: refresh the map", id)}
}

// all lists the open replicas, by shard.
func (s *replicas) all() []*replica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*replica, 0, len(s.open))
	for _, r := range s.open {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *replica) int { return cmp.Compare(a.shard, b.shard) })
	return out
}

const (
	statusOK       = "ok"
	statusStarting = "starting"
)

// status is "ok", "starting", or what is wrong.
func (s *replicas) status(m *mapState) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	faults := slices.Clone(s.faults)
	for _, err := range s.refused {
		faults = append(faults, err)
	}
	for _, r := range s.open {
		if _, _, ok := r.group.Leader(); !ok {
			faults = append(faults, fmt.Errorf("%s has no leader", r.shard))
		}
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, byText)
		return strings.ReplaceAll(errors.Join(faults...).Error(), "\n", "; ")
	}
	joining := s.joins.shards()
	switch {
	case !m.known() || len(s.open)+len(joining) < len(assignments(&m.Map, m.node)):
		return statusStarting
	case len(joining) > 0:
		return s.joins.status()
	}
	return statusOK
}

// entry is what the manifest says of a shard.
func (s *replicas) entry(id event.ShardID) (manifestEntry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.made.lookup(id)
}

// held is the set as plan takes it.
func (s *replicas) held() map[event.ShardID]holding {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[event.ShardID]holding{}
	for _, e := range s.made.Replicas {
		_, open := s.open[e.ShardID]
		deleted, gone := s.gone[e.ReplicaID]
		out[e.ShardID] = holding{replica: e.ReplicaID, open: open, refused: s.refused[e.ShardID], gone: gone, deleted: deleted}
	}
	return out
}

// reconcile brings the replicas to what the map gives: level-triggered, so what failed is tried again with the next map.
// It returns what failed now.
func (n *Node) reconcile(m *mapState) error {
	n.startHost(m)
	n.leaveJoins(m)
	s := n.replicas
	actions, faults := plan(&m.Map, m.node, s.held(), s.made)
	for _, a := range actions {
		if err := n.do(a); err != nil {
			faults = append(faults, err)
		}
	}
	if len(orphans(&m.Map, s.made)) > 0 {
		s.orphaned.nudge()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
	return errors.Join(faults...)
}

// do takes one step.
func (n *Node) do(a action) error {
	s := n.replicas
	switch a.verb {
	case makeReplica:
		build := n.makeReplica
		if len(a.assignment.voters) == 0 {
			build = n.makeLearner
		}
		if err := build(a.assignment); err != nil {
			return fmt.Errorf("make replica %s of %s: %w", a.assignment.replica, a.assignment.shard, err)
		}
		return nil
	case dropReplica:
		if err := n.dropReplica(a.assignment); err != nil {
			return fmt.Errorf("delete replica %s of %s: %w", a.assignment.replica, a.assignment.shard, err)
		}
		return nil
	}
	e, ok := s.made.lookup(a.assignment.shard)
	if !ok || e.ReplicaID != a.assignment.replica {
		return nil // not made: its state is being fetched, or making it failed and was reported
	}
	r, err := n.openReplica(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refused[e.ShardID] = err
		if n.cfg.Grid != nil { // alone, Open returns it
			n.log.Error("replica refused", "shard", string(e.ShardID), "error", err)
		}
		return nil // reported for as long as the process lives, not a fault of this pass
	}
	s.open[e.ShardID] = r
	n.log.Info("replica open", "shard", string(e.ShardID), "replica", string(e.ReplicaID), "applied", r.engine.Applied())
	return nil
}

// record writes a changed manifest.
func (s *replicas) record(dir string, made *manifest) error {
	if err := made.save(dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = made
	return nil
}

// close ends every replica, all at once.
func (s *replicas) close(end func(*replica) error) error {
	s.checkpoints.close()
	var g errgroup.Group
	for _, r := range s.all() {
		g.Go(func() error { return end(r) })
	}
	return g.Wait()
}

// refusals joins why replicas are out of service.
func (s *replicas) refusals() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var errs []error
	for _, err := range s.refused {
		errs = append(errs, err)
	}
	slices.SortFunc(errs, byText)
	return errors.Join(errs...)
}

// byText orders errors that come from a map.
func byText(a, b error) int { return strings.Compare(a.Error(), b.Error()) }
