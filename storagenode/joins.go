package storagenode

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

const (
	// joinRounds is how often every source is asked for its state before a replica begins with nothing. Raft then sends it the
	// state, which costs the leader a second pass over it, and has no rate of its own.
	joinRounds = 5
	// joinAgain is the pause between two rounds.
	joinAgain = 2 * time.Second
)

// joins are the states that are fetched for replicas which the map makes learners here. Each is fetched by a goroutine, since it may
// take minutes; what is fetched the reconciler puts in its place, as it alone changes the set of replicas.
type joins struct {
	mu  sync.Mutex
	all map[event.ShardID]*join // guarded by mu; the reconciler adds and removes
}

// join is one state on its way.
type join struct {
	a     assignment
	stop  context.CancelFunc
	done  chan struct{} // closed when fetching has ended; begin is set before
	begin *beginning    // nil: nobody gave one, or it is not wanted any more
}

func newJoins() *joins { return &joins{all: map[event.ShardID]*join{}} }

func (j *join) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// shards lists those whose state is being fetched, sorted.
func (s *joins) shards() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id := range s.all {
		out = append(out, string(id))
	}
	slices.Sort(out)
	return out
}

// forget takes a shard's join out, which has ended.
func (s *joins) forget(id event.ShardID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
}

// joinOf is the join of a replica, begun when there is none. One of another replica of its shard is stopped first; nil until it has ended.
func (n *Node) joinOf(a assignment) *join {
	s := n.replicas.joins
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.all[a.shard]
	switch {
	case j != nil && j.a.replica == a.replica:
		return j
	case j != nil && !j.ended():
		j.stop()
		return nil
	}
	ctx, stop := context.WithCancel(n.loops)
	j = &join{a: a, stop: stop, done: make(chan struct{})}
	s.all[a.shard] = j
	n.looping.Go(func() {
		defer stop()
		j.begin = n.fetchAny(ctx, a)
		close(j.done)
		n.mapped.nudge()
	})
	return j
}

// leaveJoins stops what is fetched for replicas that the map does not give to this node any more, and deletes what came of it.
func (n *Node) leaveJoins(m *mapState) {
	for _, id := range n.replicas.joins.leave(assignments(&m.Map, m.node)) {
		if err := os.RemoveAll(n.fetchDir(id)); err != nil {
			n.log.Warn("what was fetched for a replica that is not wanted any more is left to the next start", "shard", string(id), "error", err)
		}
	}
}

// leave stops all but the wanted joins, and takes those out that have ended; they are the answer.
func (s *joins) leave(wanted []assignment) (ended []event.ShardID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, j := range s.all {
		if slices.ContainsFunc(wanted, func(a assignment) bool { return a.shard == id && a.replica == j.a.replica }) {
			continue
		}
		j.stop()
		if j.ended() {
			delete(s.all, id)
			ended = append(ended, id)
		}
	}
	return ended
}

// makeLearner makes the directory of a replica that joins, with the state of another one as soon as that has been fetched: until
// then it does nothing, and is called again when it is.
func (n *Node) makeLearner(a assignment) error {
	made, err := datadir.Exists(n.shardDir(a.shard)) // before a crash
	if err != nil {
		return err
	}
	if made {
		return n.makeReplica(a)
	}
	j := n.joinOf(a)
	if j == nil || !j.ended() {
		return nil
	}
	n.replicas.joins.forget(a.shard) // what fails is tried from the beginning, with what is here
	if j.begin == nil {
		return n.makeReplica(a)
	}
	return n.makeBegun(a, j.begin)
}

// makeBegun makes a replica's directory with a state that was fetched.
func (n *Node) makeBegun(a assignment, b *beginning) error {
	err := n.placeReplica(a, func(dir string) error { return n.buildReplica(dir, a, b) })
	if err == nil {
		err = os.RemoveAll(n.fetchDir(a.shard))
	}
	if err != nil {
		return fmt.Errorf("begin %s of %s with the state of entry %d: %w", a.replica, a.shard, b.at.Index, err)
	}
	return nil
}

// fetchAny fetches the state from whoever gives it; nil when nobody does, or ctx ends.
func (n *Node) fetchAny(ctx context.Context, a assignment) *beginning {
	n.log.Info("a replica joins: its state is fetched", "shard", string(a.shard), "replica", string(a.replica))
	for round := range joinRounds {
		if round > 0 && pause(ctx, joinAgain) != nil {
			return nil
		}
		for _, from := range sources(&n.maps.current().Map, a) {
			b, err := n.fetch(ctx, a, from)
			if err == nil {
				return b
			}
			if ctx.Err() != nil {
				return nil
			}
			n.log.Warn("state not fetched", "shard", string(a.shard), "from", string(from.replica), "error", err)
		}
	}
	n.log.Warn("nobody gave the state as files: the replica begins empty, and the group's leader sends it", "shard", string(a.shard))
	return nil
}

// sources are the voters of a replica's shard, the leader last: to fix a state holds up what is applied for a moment, which at the
// leader writers notice.
func sources(m *shardmap.Map, a assignment) []source {
	s, ok := m.ByID(a.shard)
	if !ok {
		return nil
	}
	var out, leader []source
	for _, r := range s.Replicas {
		from := source{replica: r.ReplicaID, address: r.Endpoint}
		switch {
		case r.Role != shardmap.Voter || r.ReplicaID == a.replica || r.Endpoint == "":
		case r.NodeID == s.Leader:
			leader = append(leader, from)
		default:
			out = append(out, from)
		}
	}
	return append(out, leader...)
}

// catchingUp begins the status of a node whose new replicas have no state yet. It serves all that it holds, so it is healthy.
const catchingUp = "catching up "

func (s *joins) status() string { return catchingUp + strings.Join(s.shards(), ", ") }
