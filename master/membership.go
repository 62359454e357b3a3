package master

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// council changes the masters' configuration as operators ask for (safety S14). It changes nothing else: the leader's loop
// records in the state what the configuration then is.
//
// Invariants: a change is asked of raft with the configuration it was decided by, one at a time; a voter is removed only
// where the others can do without it (raftgroup.Remove); the leader never removes itself.
type council struct {
	founding   Founding
	group      *raftgroup.Group
	leading    *leading
	pool       *transport.Pool
	view       func() *fsm.State
	candidates *candidates
	changed    signal               // this leader has changed the configuration
	forget     func(event.MasterID) // what was asked of a master before
}

// leaderTask is a request of the grid protocol that only the leader answers.
type leaderTask[R any] struct {
	what  string // verb phrase, for errors
	safe  bool   // doing it twice is doing it once
	hops  uint32 // how often it was passed on
	next  any    // the request as it is passed on
	local func(ctx context.Context) (*R, error)
}

// atLeader runs a task at the leader, wherever that is.
func atLeader[R any](ctx context.Context, l *leading, pool *transport.Pool, t leaderTask[R]) (ok *R, err error) {
	err = l.Do(ctx, errand{
		what: t.what,
		safe: t.safe,
		local: func(ctx context.Context) (err error) {
			ok, err = t.local(ctx)
			return err
		},
		remote: func(ctx context.Context, address string) (err error) {
			if t.hops >= maxHops {
				return passedOn(t.what, address)
			}
			ok, err = transport.Call[R](ctx, pool, address, t.next)
			return err
		},
	})
	return ok, err
}

// Heard takes the word of a replica that has announced itself to this leader.
func (c *council) Heard(id event.ReplicaID, level uint32) *transport.AnnounceMasterOk {
	_, peers := c.group.Configuration()
	member := contains(peers, id)
	if member {
		c.candidates.Joined(id)
		c.forget(event.MasterID(id.Owner()))
		c.changed.Broadcast() // it may have moved, or be another version now
	} else {
		c.candidates.Note(candidate{replica: id, level: level, at: time.Now()})
	}
	return &transport.AnnounceMasterOk{Member: member}
}

// Add admits a master that has announced itself, as a learner.
func (c *council) Add(ctx context.Context, r *transport.AddMaster) (*transport.AddMasterOk, error) {
	next := *r
	next.Hops++
	return atLeader(ctx, c.leading, c.pool, leaderTask[transport.AddMasterOk]{what: "add " + string(r.MasterID), safe: true, hops: r.Hops, next: &next,
		local: func(ctx context.Context) (*transport.AddMasterOk, error) { return c.add(ctx, r.MasterID) }})
}

func (c *council) add(ctx context.Context, id event.MasterID) (*transport.AddMasterOk, error) {
	index, peers := c.group.Configuration()
	if p, answers := c.answering(peers, id); answers && !c.candidates.Has(id) {
		return &transport.AddMasterOk{ReplicaID: p.ID, Suffrage: string(p.Suffrage), Index: index}, nil
	}
	new, err := c.candidates.Await(ctx, id)
	if err != nil {
		index, peers = c.group.Configuration()
		if p, answers := c.answering(peers, id); answers { // added a moment ago, it had not answered yet
			return &transport.AddMasterOk{ReplicaID: p.ID, Suffrage: string(p.Suffrage), Index: index}, nil
		}
		return nil, err
	}
	if index, peers = c.group.Configuration(); contains(peers, new.replica) {
		return &transport.AddMasterOk{ReplicaID: new.replica, Suffrage: string(raftgroup.Learner), Index: index}, nil
	}
	if err := c.mayJoin(peers, new); err != nil {
		return nil, err
	}
	index, err = c.group.AddLearner(ctx, new.replica, index)
	if err != nil {
		return nil, err
	}
	c.candidates.Joined(new.replica) // or it could be added again when it has been removed, and its disk emptied
	c.changed.Broadcast()
	return &transport.AddMasterOk{ReplicaID: new.replica, Suffrage: string(raftgroup.Learner), Index: index}, nil
}

// mayJoin refuses a master that the grid should not have.
func (c *council) mayJoin(peers []raftgroup.PeerStatus, new candidate) error {
	const op = "add master"
	id := event.MasterID(new.replica.Owner())
	level := c.view().Level()
	p, answers := c.answering(peers, id)
	switch {
	case answers:
		return &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf("%s is a member (%s) and answers; give the new master an id of its own, or stop the old one first", id, p.ID)}
	case len(peers) >= maxMembers:
		return &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf("there are %d members, the limit: five, and one more while one is replaced; remove one first", len(peers))}
	case new.level < level:
		return &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf("%s supports level %d, the grid is at %d; give it a newer version", id, new.level, level)}
	}
	return nil
}

// answering is a master's replica that is in contact with this leader.
func (c *council) answering(peers []raftgroup.PeerStatus, id event.MasterID) (raftgroup.PeerStatus, bool) {
	for _, p := range peers {
		if event.MasterID(p.ID.Owner()) == id && inContact(p, c.founding.Replica, time.Now()) {
			return p, true
		}
	}
	return raftgroup.PeerStatus{}, false
}

// Remove takes a master out of the configuration.
func (c *council) Remove(ctx context.Context, r *transport.RemoveMaster) (*transport.RemoveMasterOk, error) {
	next := *r
	next.Hops++
	return atLeader(ctx, c.leading, c.pool, leaderTask[transport.RemoveMasterOk]{what: "remove " + r.ID, hops: r.Hops, next: &next,
		local: func(ctx context.Context) (*transport.RemoveMasterOk, error) { return c.remove(ctx, r) }})
}

func (c *council) remove(ctx context.Context, r *transport.RemoveMaster) (*transport.RemoveMasterOk, error) {
	index, peers := c.group.Configuration()
	target, err := planRemoval(peers, c.founding.Replica, removal{id: r.ID, shrink: r.Shrink, now: time.Now()})
	if err != nil {
		return nil, err
	}
	if target == c.founding.Replica {
		if err := c.group.TransferLeadership(ctx); err != nil {
			return nil, err
		}
		return nil, &event.Error{Kind: event.KindNotLeader, Op: "remove master", Message: string(target) + " has handed leadership over; the next leader removes it"}
	}
	if index, err = c.group.Remove(ctx, target, index); err != nil {
		return nil, err
	}
	c.changed.Broadcast()
	return &transport.RemoveMasterOk{ReplicaID: target, Index: index}, nil
}

// Transfer hands leadership over and answers when somebody else leads.
func (c *council) Transfer(ctx context.Context, r *transport.TransferLeadership) (*transport.TransferLeadershipOk, error) {
	next := *r
	next.Hops++
	return atLeader(ctx, c.leading, c.pool, leaderTask[transport.TransferLeadershipOk]{what: "hand over leadership", hops: r.Hops, next: &next,
		local: func(ctx context.Context) (*transport.TransferLeadershipOk, error) { return c.transfer(ctx, r.To) }})
}

func (c *council) transfer(ctx context.Context, to event.MasterID) (*transport.TransferLeadershipOk, error) {
	self := c.founding.Replica
	if string(to) != self.Owner() {
		if err := c.handTo(ctx, to); err != nil {
			return nil, err
		}
	}
	for {
		changed := c.group.LeaderChanged()
		leader, term, known := c.group.Leader()
		if known && (leader != self || string(to) == self.Owner()) {
			return &transport.TransferLeadershipOk{Leader: event.MasterID(leader.Owner()), Term: term}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &event.Error{Kind: event.KindUnknownOutcome, Op: "hand over leadership", Message: "nobody is known to lead yet; see gridctl raft peers"}
		}
	}
}

func (c *council) handTo(ctx context.Context, to event.MasterID) error {
	if to == "" {
		return c.group.TransferLeadership(ctx)
	}
	_, peers := c.group.Configuration()
	for _, p := range newest(peers) {
		if event.MasterID(p.ID.Owner()) == to {
			return c.group.TransferTo(ctx, p.ID)
		}
	}
	return unknownMaster("hand over leadership", string(to), peers)
}

// Tend makes the one change of the configuration that is due by itself, if any.
func (c *council) Tend(ctx context.Context, grace time.Time, said *lastWords, log *slog.Logger) {
	index, peers := c.group.Configuration()
	due := planUpkeep(upkeep{peers: peers, self: c.founding.Replica, now: time.Now(), grace: grace, deadAfter: deadAfter(c.view())})
	var err error
	switch {
	case due.promote != "":
		_, err = c.group.Promote(ctx, due.promote, index)
	case due.remove != "":
		if _, err = c.group.Remove(ctx, due.remove, index); err == nil {
			log.Warn("a master was removed: it had been silent for too long", "replica", string(due.remove), "silent", due.silent)
		}
	default:
		said.New("tend", "")
		return
	}
	if err == nil {
		said.New("tend", "")
		c.changed.Broadcast()
	} else if said.New("tend", fmt.Sprint(due.promote, due.remove)) { // a refusal has times in it
		log.Warn("configuration not changed", "promote", string(due.promote), "remove", string(due.remove), "err", err)
	}
}

// deadAfter is the replicated setting; 0: off. What does not read as a duration was refused before the log.
func deadAfter(s *fsm.State) time.Duration {
	value, _ := s.Setting(fsm.SettingMastersDead)
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0
	}
	return d
}

// checkDeadAfter refuses a value of the setting that means nothing, or would remove a master that is only restarted.
func checkDeadAfter(value string) error {
	if d, err := time.ParseDuration(value); err == nil && (d == 0 || d >= minDeadAfter) {
		return nil
	}
	return &event.Error{Kind: event.KindInvalid, Op: "change setting",
		Message: fmt.Sprintf("%s is %q: want 0 (never), or a duration of at least %s, such as 24h", fsm.SettingMastersDead, value, minDeadAfter)}
}

// IsMember answers a master that has lost touch: it leaves for good when it was removed.
func (c *council) IsMember(ctx context.Context, r *transport.IsMember) (*transport.IsMemberOk, error) {
	const op = "look for a member"
	if r.GridID != c.founding.GridID || r.Incarnation != c.founding.Incarnation {
		return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf("this is incarnation %d of grid %s", c.founding.Incarnation.N, c.founding.GridID)}
	}
	next := *r
	next.Hops++
	return atLeader(ctx, c.leading, c.pool, leaderTask[transport.IsMemberOk]{what: op, safe: true, hops: r.Hops, next: &next,
		local: func(ctx context.Context) (*transport.IsMemberOk, error) {
			confirmed, _, err := c.group.ReadIndex(ctx)
			if err != nil {
				return nil, err
			}
			if err := c.group.Wait(ctx, confirmed); err != nil {
				return nil, err
			}
			index, peers := c.group.Configuration()
			return &transport.IsMemberOk{Member: contains(peers, r.ReplicaID), Index: index}, nil
		}})
}

// snapshot makes this master take a snapshot, or the one that is asked for.
func (c *core) snapshot(ctx context.Context, r *transport.TakeSnapshot) (*transport.TakeSnapshotOk, error) {
	const op = "take a snapshot"
	next := *r
	next.Hops++
	switch r.MasterID {
	case c.cfg.ID:
		return c.takeSnapshot(ctx)
	case "":
		return atLeader(ctx, c.leading, c.proposer.pool, leaderTask[transport.TakeSnapshotOk]{what: op, safe: true, hops: r.Hops, next: &next, local: c.takeSnapshot})
	}
	if r.Hops >= maxHops {
		return nil, passedOn(op, string(r.MasterID))
	}
	peers := newest(c.group.Peers())
	for _, p := range peers {
		if at, found := c.book.Find(p.ID); found && event.MasterID(p.ID.Owner()) == r.MasterID {
			return transport.Call[transport.TakeSnapshotOk](ctx, c.proposer.pool, at.Grid, &next)
		}
	}
	return nil, unknownMaster(op, string(r.MasterID), peers)
}

func (c *core) takeSnapshot(context.Context) (*transport.TakeSnapshotOk, error) {
	ok := &transport.TakeSnapshotOk{MasterID: c.cfg.ID, Index: c.group.Applied(), Seq: c.replica.View().Seq()}
	return ok, c.group.Snapshot()
}
