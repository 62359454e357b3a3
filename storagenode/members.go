package storagenode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The map says which members a shard's group shall have, the group's own configuration which it has; the leader brings the
// second to the first and reports each step (safety S14). Everything that a step depends on is read before it, in this
// order: the map, a read index, the configuration. So of a replica that the map calls a voter and the configuration does not
// have it is certain that it was removed; and one id never comes back.

// memberVerb is what a leader does about its group's members.
type memberVerb int

const (
	nothingDue memberVerb = iota
	reportPromoted
	reportRemoved
	addLearner
	promoteLearner
	removeMember
	stepDown // it is the leader itself that is to go
)

// String names the step for logs and operators.
func (v memberVerb) String() string {
	return [...]string{"nothing", "report promotion", "report removal", "add learner", "promote", "remove", "hand leadership over"}[v]
}

// memberStep is one step. It is right by itself, and taking it twice is taking it once.
type memberStep struct {
	verb    memberVerb
	replica event.ReplicaID
}

// planMembers is the next step from what the group has to what the map asks for. What has happened is reported before
// anything else happens, and a replica goes only when none is coming: never both at once.
func planMembers(s *shardmap.Shard, have []raftgroup.PeerStatus, self event.ReplicaID) memberStep {
	suffrage := map[event.ReplicaID]raftgroup.Suffrage{}
	for _, p := range have {
		suffrage[p.ID] = p.Suffrage
	}
	var learner, leaving *shardmap.Replica
	for i := range s.Replicas {
		r := &s.Replicas[i]
		if r.Role == shardmap.Voter && suffrage[r.ReplicaID] == "" {
			return memberStep{reportRemoved, r.ReplicaID}
		}
		if r.Role == shardmap.Learner {
			learner = r
		}
		if r.Leaving {
			leaving = r
		}
	}
	switch {
	case learner != nil && !learner.Leaving:
		return joining(learner.ReplicaID, suffrage[learner.ReplicaID])
	case leaving != nil && suffrage[leaving.ReplicaID] == "": // a learner that came no further
		return memberStep{reportRemoved, leaving.ReplicaID}
	case leaving != nil && leaving.ReplicaID == self:
		return memberStep{stepDown, self}
	case leaving != nil:
		return memberStep{removeMember, leaving.ReplicaID}
	}
	for _, p := range have {
		if _, ok := s.ByReplica(p.ID); !ok && p.Suffrage == raftgroup.Learner { // a leader added it whose map was old
			return memberStep{removeMember, p.ID}
		}
	}
	return memberStep{}
}

// joining is the next step of a replica that is to become a voter.
func joining(id event.ReplicaID, now raftgroup.Suffrage) memberStep {
	switch now {
	case raftgroup.Voter:
		return memberStep{reportPromoted, id}
	case raftgroup.Learner:
		return memberStep{promoteLearner, id}
	}
	return memberStep{addLearner, id}
}

const (
	tendAgain   = 500 * time.Millisecond // between two tries of a step that its group was not ready for
	tendTimeout = 5 * time.Second        // of one step
	refusalSaid = 15 * time.Second       // how long a group refuses a step before that is said: a learner that does well takes five
)

// tend brings the group's members to those of the map, a step at a time, for as long as this replica leads. It looks when the
// map changes, after its own steps, and again after tendAgain when a step could not be taken.
func (r *replica) tend(ctx context.Context) {
	late, level := putOff{}, putOff{}
	for ctx.Err() == nil {
		changed := r.maps.Changed()
		leveled := r.level(ctx, &level)
		step, err := r.tendOnce(ctx)
		if ctx.Err() == nil && late.say(time.Now(), step, err) {
			r.log.Warn("step of a change of members put off", "step", step.verb.String(), "replica", string(step.replica), "error", err)
		}
		var again <-chan time.Time
		switch {
		case step.verb == nothingDue && err == nil && !leveled:
			again = time.After(levelAgain)
		case step.verb == nothingDue && err == nil:
		case err == nil && !step.verb.reports():
			continue // what follows is due now
		default: // a report shows in the map
			again = time.After(tendAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// putOff is what is known of a step that could not be taken.
type putOff struct {
	step    memberStep
	since   time.Time
	refused bool   // its refusal was said
	failure string // the last that was said
}

// say tells whether to say that a step was put off: each failure once, and once that the group refuses it, after refusalSaid,
// since it refuses every learner until that has caught up.
func (p *putOff) say(now time.Time, step memberStep, err error) bool {
	if err == nil || step != p.step {
		*p = putOff{step: step, since: now}
	}
	switch {
	case err == nil:
		return false
	case isKind(err, event.KindRefused):
		due := !p.refused && now.Sub(p.since) >= refusalSaid
		p.refused = p.refused || due
		return due
	}
	due := err.Error() != p.failure
	p.failure = err.Error()
	return due
}

func (v memberVerb) reports() bool { return v == reportPromoted || v == reportRemoved }

// tendOnce takes the step that is due, if one is.
func (r *replica) tendOnce(ctx context.Context) (memberStep, error) {
	m := r.maps.current()
	_, peers := r.group.Configuration()
	if step, err := r.dueStep(m, peers); step.verb == nothingDue || err != nil {
		return step, err
	}
	ctx, cancel := context.WithTimeout(ctx, tendTimeout)
	defer cancel()
	index, peers, err := r.confirmed(ctx)
	if err != nil {
		return memberStep{}, err
	}
	step, err := r.dueStep(m, peers)
	if err != nil || step.verb == nothingDue {
		return step, err
	}
	if err := r.take(ctx, step, index); err != nil {
		return step, err
	}
	if !step.verb.reports() {
		r.log.Info("members of the shard change", "step", step.verb.String(), "replica", string(step.replica))
	}
	return step, nil
}

// dueStep is planMembers for this shard; a map without it asks for nothing.
func (r *replica) dueStep(m *mapState, peers []raftgroup.PeerStatus) (memberStep, error) {
	s, ok := m.ByID(r.shard)
	if !ok || s.State != shardmap.Formed || len(peers) == 0 {
		return memberStep{}, nil
	}
	return planMembers(s, peers, r.id), nil
}

// confirmed is the group's configuration with every change that was acknowledged before the call (safety S7, S14).
func (r *replica) confirmed(ctx context.Context) (uint64, []raftgroup.PeerStatus, error) {
	index, _, err := r.group.ReadIndex(ctx)
	if err == nil {
		err = r.group.Wait(ctx, index)
	}
	if err != nil {
		return 0, nil, err
	}
	configuration, peers := r.group.Configuration()
	return configuration, peers, nil
}

// take takes one step, against the configuration of entry index.
func (r *replica) take(ctx context.Context, step memberStep, index uint64) error {
	owner := event.NodeID(step.replica.Owner())
	switch step.verb {
	case reportPromoted:
		return r.proposeBody(ctx, event.ReplicaPromoted{ShardID: r.shard, NodeID: owner, ReplicaID: step.replica, Configuration: index})
	case reportRemoved:
		return r.proposeBody(ctx, event.ReplicaRemoved{ShardID: r.shard, NodeID: owner, ReplicaID: step.replica, Reason: "asked for", Configuration: index})
	case addLearner:
		if err := r.stillAsked(ctx, step); err != nil {
			return err
		}
		if err := r.mayJoin(ctx, step.replica); err != nil {
			return err
		}
		_, err := r.group.AddLearner(ctx, step.replica, index)
		return err
	case promoteLearner:
		_, err := r.group.Promote(ctx, step.replica, index)
		return err
	case removeMember:
		if err := r.stillAsked(ctx, step); err != nil {
			return err
		}
		_, err := r.group.Remove(ctx, step.replica, index)
		return err
	case stepDown:
		return r.group.TransferLeadership(ctx)
	}
	return fmt.Errorf("no way to take step %d", step.verb)
}

// stillAsked asks the masters for the map as it is now, and refuses a step that it does not call for: one that an old map
// called for could bring back who has left.
func (r *replica) stillAsked(ctx context.Context, step memberStep) error {
	m, err := freshMap(ctx, r.masters, r.maps)
	if err != nil {
		return err
	}
	_, peers := r.group.Configuration()
	if now, err := r.dueStep(m, peers); err != nil || now != step {
		return errors.Join(err, &event.Error{Kind: event.KindConflict, Op: step.verb.String(), Message: "the shard map has changed: look again"})
	}
	return nil
}

// freshMap is the map as the masters have it now. The node goes on with the one that it is sent.
func freshMap(ctx context.Context, masters caller, maps *mapCache) (*mapState, error) {
	msg, err := transport.As[transport.ShardMapOk](masters.Call(ctx, &transport.GetShardMap{}))
	if err != nil {
		return nil, fmt.Errorf("ask the masters for the shard map: %w", err)
	}
	if err := maps.fits(msg); err != nil {
		return nil, err
	}
	return newMapState(maps.node, msg), nil
}

// proposeBody asks the masters for an event that says what is so: it may be asked for twice.
func (r *replica) proposeBody(ctx context.Context, body event.Body) error {
	req, err := proposal(event.NodeID(r.id.Owner()), body)
	if err != nil {
		return err
	}
	_, err = r.masters.Call(ctx, req)
	return err
}

// proposal is a report of a node to the masters.
func proposal(node event.NodeID, body event.Body) (*transport.Propose, error) {
	b, err := event.AppendBody(nil, body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", body.Type(), err)
	}
	return &transport.Propose{Actor: string(node), Type: body.Type(), Body: b}, nil
}

// isMember answers a replica that is not in the map any more: whether it may delete what it holds (safety S14).
func (n *Node) isMember(ctx context.Context, r *replica, q *transport.IsMember) (outcome, error) {
	if m := n.maps.current(); q.GridID != n.gridID() || q.Incarnation != m.incarnation {
		return outcome{}, &event.Error{Kind: event.KindRefused, Op: "look for a member", Message: fmt.Sprintf("this is incarnation %d of grid %s", m.incarnation.N, n.gridID())}
	}
	index, peers, err := r.confirmed(ctx)
	if err != nil {
		return outcome{}, r.elsewhere(err)
	}
	ok := &transport.IsMemberOk{Index: index}
	for _, p := range peers {
		ok.Member = ok.Member || p.ID == q.ReplicaID
	}
	return outcome{ok, index}, nil
}

func isKind(err error, kind event.Kind) bool { return errors.Is(err, &event.Error{Kind: kind}) }
