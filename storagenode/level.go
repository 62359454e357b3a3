package storagenode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The gate of a shard's log (safety S13). A log holds only entries of levels that every member of its group supports. Which level
// that is stands in the replicated state, is raised by an entry and never lowered. The leader proposes that entry when every member
// has said that it supports more, and adds no learner that does not support what is in force, or what it may have proposed: both
// are done by one goroutine, tend, so that nobody comes in between.
//
// A later leader has applied everything that the earlier ones proposed and that will ever be, before it tends anything. So no
// member is ever given an entry that it does not understand, whoever leads and whatever becomes of an answer.

const (
	levelAgain   = 2 * time.Second // between two rounds of asking
	levelTimeout = 2 * time.Second // of one: a node that hangs
)

const (
	releasedLevel = 2 // of the versions that do not know the question
	gatedLevel    = 3 // of the first that does
)

// gate is what a replica knows of its log's level beyond what is in force.
type gate struct {
	supports uint32
	proposed uint32 // a level that this leader may have got into the log; of the goroutine that tends

	mu    sync.Mutex
	asked chan struct{} // closed when the members have been asked once in this term; guarded by mu
}

// answered lets those go on who wait for the first round of this term.
func (g *gate) answered() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeLocked()
}

func (g *gate) closeLocked() {
	select {
	case <-g.asked:
	default:
		close(g.asked)
	}
}

// shut ends a term.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeLocked()
	g.asked = make(chan struct{})
	g.proposed = 0
}

func (g *gate) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

// mayPropose refuses a command that no state would make right, or that the log's level does not have. A leader that has not asked the
// members yet may be about to raise it: that is waited for. Who does not lead says so later.
func (r *replica) mayPropose(ctx context.Context, c engine.Command) error {
	if err := r.engine.Check(c); err != nil {
		return err
	}
	asked := r.gate.wait()
	err := r.engine.CheckLevel(c)
	if err == nil || !r.group.IsLeader() {
		return nil
	}
	select {
	case <-asked:
		if !r.group.IsLeader() {
			return nil
		}
		return r.engine.CheckLevel(c)
	case <-ctx.Done():
		return err
	}
}

// level tries to raise the log's level, says what is in the way, once, and tells whether nothing is left to do.
func (r *replica) level(ctx context.Context, late *putOff) (done bool) {
	done, err := r.raise(ctx)
	if ctx.Err() == nil && late.say(time.Now(), memberStep{}, err) {
		r.log.Warn("the log's level is not raised", "level", r.engine.LogLevel(), "to", r.gate.supports, "error", err)
	}
	return done
}

// raise raises the log's level to the highest that all members support.
func (r *replica) raise(ctx context.Context) (done bool, err error) {
	defer r.gate.answered()
	if r.engine.LogLevel() >= r.gate.supports {
		return true, nil
	}
	lowest, err := r.lowestLevel(ctx)
	if err != nil || lowest <= r.engine.LogLevel() {
		return false, err
	}
	r.gate.proposed = max(r.gate.proposed, lowest)
	if _, err := r.propose(ctx, engine.Command{Kind: engine.Raise, Raise: &engine.LogLevel{Level: lowest}}); err != nil {
		return false, fmt.Errorf("raise the log to level %d: %w", lowest, err)
	}
	r.log.Info("the log's level is raised", "level", r.engine.LogLevel())
	return r.engine.LogLevel() >= r.gate.supports, nil
}

// lowestLevel asks all members, learners too, at once. An error names one that gave no answer, or supports too little.
func (r *replica) lowestLevel(ctx context.Context) (uint32, error) {
	_, peers, err := r.confirmed(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, levelTimeout)
	defer cancel()
	levels := make([]uint32, len(peers))
	var g errgroup.Group
	for i, p := range peers {
		g.Go(func() (err error) { levels[i], err = r.levelOf(ctx, p.ID); return err })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return lowest(r.gate.supports, peers, levels)
}

// lowest is the level that all support; the error names a member that is in the way of more.
func lowest(supports uint32, peers []raftgroup.PeerStatus, levels []uint32) (uint32, error) {
	least := supports
	var err error
	for i, l := range levels {
		if l < least {
			least, err = l, &event.Error{Kind: event.KindUnsupported, Message: fmt.Sprintf("replica %s is on a node that supports level %d: install the newer version there", peers[i].ID, l)}
		}
	}
	if least > releasedLevel {
		return least, nil
	}
	return least, err
}

// levelOf asks a replica's node which level it supports.
func (r *replica) levelOf(ctx context.Context, id event.ReplicaID) (uint32, error) {
	if id == r.id {
		return r.gate.supports, nil
	}
	address, err := r.maps.address(id)
	if err != nil {
		return 0, err
	}
	ok, err := transport.As[transport.ShardLevelOk](r.ask(ctx, address, &transport.ShardLevel{GridID: r.maps.gridID, ShardID: r.shard}))
	switch {
	case isKind(err, event.KindUnsupported):
		return releasedLevel, nil
	case err != nil:
		return 0, fmt.Errorf("ask the node of replica %s which level of the log it supports: %w", id, err)
	}
	return ok.Level, nil
}

// mayJoin refuses a learner on a node that would not understand the log.
func (r *replica) mayJoin(ctx context.Context, id event.ReplicaID) error {
	ctx, cancel := context.WithTimeout(ctx, levelTimeout)
	defer cancel()
	supports, err := r.levelOf(ctx, id)
	if needs := max(r.engine.LogLevel(), r.gate.proposed); err == nil && supports < needs {
		return &event.Error{Kind: event.KindUnsupported, Op: "add learner",
			Message: fmt.Sprintf("the log of %s is at level %d, and the node of replica %s supports %d: install the newer version there", r.shard, needs, id, supports)}
	}
	return err
}

// askNodes asks other nodes; nil alone.
func (n *Node) askNodes() func(context.Context, string, any) (any, error) {
	if n.pool == nil {
		return nil
	}
	return n.pool.Call
}

// shardLevel answers a leader that wants to raise its log's level, or to add a learner here.
func (n *Node) shardLevel(q *transport.ShardLevel) (*transport.ShardLevelOk, error) {
	if q.GridID != n.gridID() {
		return nil, &event.Error{Kind: event.KindRefused, Op: "tell the level", Message: fmt.Sprintf("this node belongs to grid %s", n.gridID())}
	}
	return &transport.ShardLevelOk{Level: n.cfg.level()}, nil
}
