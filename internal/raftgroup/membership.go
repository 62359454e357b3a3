package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

const (
	// nearEntries is how far a replica may be behind the leader and still count as caught up (safety S14). A leader has at
	// most maxOutstanding entries uncommitted, so 100 are some rounds of replication; a replica further behind would hold
	// up a commit that needs it noticeably.
	nearEntries = 100
	// nearFor is how long a learner must have been caught up without a break before it may vote: longer than a pause of
	// its disk or an election, short enough that nobody waits for it.
	nearFor = 5 * time.Second
	// contactHeartbeats is how many heartbeat timeouts an answer counts as contact. The leader asks ten times in one.
	contactHeartbeats = 3
)

// configuration is a committed configuration and the entry that made it.
type configuration struct {
	index   uint64
	servers []raft.Server
}

// change is one change of the group's configuration.
type change struct {
	op      string
	id      event.ReplicaID
	prev    uint64                                                    // the configuration that the caller saw
	done    func(now Suffrage) bool                                   // nothing is to be changed; now is "" for an unknown id
	allowed func(now Suffrage, peers []PeerStatus) error              // a refusal; optional
	request func(prev uint64, timeout time.Duration) raft.IndexFuture // asks raft
}

// Configuration is the group's configuration as committed and applied here, and the index of the entry that made it: what
// AddLearner, Promote and Remove want as prev. Without one yet (a replica that joins) it is 0 and nil. Peers, in contrast,
// can be of a change that is not committed. Read behind ReadIndex, it holds every change acknowledged before.
func (g *Group) Configuration() (index uint64, peers []PeerStatus) {
	c := g.machine.configuration.Load()
	if c == nil {
		return 0, nil
	}
	return c.index, g.statuses(c.servers)
}

// AddLearner adds a replica that gets the log and does not vote; its stores are those of a CreateConfig with Join. prev is
// the configuration's index that the caller decided by. It returns the index of the new configuration when that is
// committed, or the present one's if the replica is a member already.
//
// The errors of AddLearner, Promote and Remove: invalid for prev 0 or an empty id; conflict, with the present index, when
// the configuration is not the one of prev any more; refused when the change would put the group at risk; not_leader and
// unavailable when surely nothing was changed; unknown_outcome when it may have been: look at Configuration.
func (g *Group) AddLearner(ctx context.Context, id event.ReplicaID, prev uint64) (index uint64, err error) {
	return g.reconfigure(ctx, change{
		op: "add learner", id: id, prev: prev,
		done: func(now Suffrage) bool { return now != "" },
		request: func(prev uint64, timeout time.Duration) raft.IndexFuture {
			g.contacts.forget(raft.ServerID(id))
			return g.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), prev, timeout)
		},
	})
}

// Promote gives a learner a vote, once it has been within 100 entries of the leader for 5 s in this term; before, it is
// refused. For a voter it is success. Otherwise as AddLearner; not_found for an id that is no member.
func (g *Group) Promote(ctx context.Context, id event.ReplicaID, prev uint64) (index uint64, err error) {
	return g.reconfigure(ctx, change{
		op: "promote", id: id, prev: prev,
		done: func(now Suffrage) bool { return now == Voter },
		allowed: func(now Suffrage, peers []PeerStatus) error {
			if now == "" {
				return &event.Error{Kind: event.KindNotFound, Op: "promote", Message: fmt.Sprintf("%s is no member of %s; add it as a learner first", id, g.cfg.GroupID)}
			}
			return g.mayVote(find(peers, id))
		},
		request: func(prev uint64, timeout time.Duration) raft.IndexFuture {
			return g.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), prev, timeout)
		},
	})
}

// Remove takes a replica out of the group. A voter's removal is refused unless a majority of the voters that remain are
// connected and within 100 entries of this leader, so that the group goes on without a pause: of three voters one is
// removed only if both others are well. The leader does not remove itself: hand leadership over first. For an id that is
// no member it is success. Otherwise as AddLearner.
func (g *Group) Remove(ctx context.Context, id event.ReplicaID, prev uint64) (index uint64, err error) {
	return g.reconfigure(ctx, change{
		op: "remove", id: id, prev: prev,
		done: func(now Suffrage) bool { return now == "" },
		allowed: func(now Suffrage, peers []PeerStatus) error {
			if now != Voter {
				return nil // no quorum changes
			}
			return g.mayLose(id, peers)
		},
		request: func(prev uint64, timeout time.Duration) raft.IndexFuture {
			return g.raft.RemoveServer(raft.ServerID(id), prev, timeout)
		},
	})
}

// changeTimeout is how long a change waits for an earlier one to be committed.
const changeTimeout = time.Second

// reconfigure makes one change after the other. This leader's barrier has been applied, so the configuration applied here
// is the latest, except for a change of our own whose caller has left; raft takes no other before that is committed.
func (g *Group) reconfigure(ctx context.Context, c change) (uint64, error) {
	if c.prev == 0 || c.id == "" {
		return 0, &event.Error{Kind: event.KindInvalid, Op: c.op, Message: fmt.Sprintf("replica %q, configuration %d: both must be given", c.id, c.prev)}
	}
	select {
	case g.changing <- struct{}{}:
		defer func() { <-g.changing }()
	case <-ctx.Done():
		return 0, g.unavailable(c.op, context.Cause(ctx))
	case <-g.open.Done():
		return 0, g.unavailable(c.op, context.Cause(g.open))
	}
	if _, err := g.tenureFor(ctx, c.op); err != nil {
		return 0, err
	}
	index, peers := g.Configuration()
	now := find(peers, c.id).Suffrage
	if c.done(now) {
		return index, nil
	}
	if index != c.prev {
		return 0, g.staleConfiguration(c, index)
	}
	if c.allowed != nil {
		if err := c.allowed(now, peers); err != nil {
			return 0, err
		}
	}
	f := c.request(c.prev, changeTimeout)
	if err := await(f, ctx, g.alive); err != nil {
		return 0, g.notReconfigured(c, f, err)
	}
	g.log.Info("configuration changed", "group", g.cfg.GroupID, "change", c.op, "replica", c.id, "index", f.Index())
	return f.Index(), nil
}

func (g *Group) staleConfiguration(c change, index uint64) *event.Error {
	return &event.Error{Kind: event.KindConflict, Op: c.op,
		Message: fmt.Sprintf("the configuration of %s is the one of entry %d, not of %d: look at it and decide again", g.cfg.GroupID, index, c.prev)}
}

// notReconfigured says what an error means for the change. A request that raft answered without giving it an entry was
// refused: the configuration is another one.
func (g *Group) notReconfigured(c change, f raft.IndexFuture, err error) *event.Error {
	if errors.Is(err, raft.ErrEnqueueTimeout) {
		return &event.Error{Kind: event.KindUnavailable, Op: c.op,
			Message: fmt.Sprintf("%s did not take the change within %v: an earlier one may not be committed yet", g.cfg.GroupID, changeTimeout)}
	}
	if e := g.surelyNot(c.op, err); e != nil {
		return e
	}
	if !errors.Is(err, raft.ErrRaftShutdown) && f.Index() == 0 { // await's own way out is ErrRaftShutdown, and leaves the future to raft
		index, _ := g.Configuration()
		return g.staleConfiguration(c, index)
	}
	return &event.Error{Kind: event.KindUnknownOutcome, Op: c.op,
		Message: fmt.Sprintf("the change of %s may or may not be made, look at its configuration: %v", g.cfg.GroupID, err)}
}

// mayVote refuses a learner that is not, or not long enough, up to date.
func (g *Group) mayVote(p PeerStatus) error {
	near := time.Duration(0)
	if g.caughtUp(p) {
		near = time.Since(p.NearSince)
	}
	if near >= nearFor {
		return nil
	}
	return &event.Error{Kind: event.KindRefused, Op: "promote", Message: fmt.Sprintf("%s; a voter must have been within %d entries for %v, it has for %v",
		g.describe(p), nearEntries, nearFor, near.Round(time.Millisecond))}
}

// mayLose refuses the removal of a voter that the others cannot do without.
func (g *Group) mayLose(id event.ReplicaID, peers []PeerStatus) error {
	refused := func(why string) error {
		return &event.Error{Kind: event.KindRefused, Op: "remove", Message: fmt.Sprintf("%s stays in %s: %s", id, g.cfg.GroupID, why)}
	}
	if id == g.cfg.LocalID {
		return refused("it is the leader; hand leadership over first")
	}
	voters, well := 0, 0
	ailing := ""
	for _, p := range peers {
		if p.Suffrage != Voter || p.ID == id {
			continue
		}
		voters++
		if p.ID == g.cfg.LocalID || g.caughtUp(p) {
			well++
		} else {
			ailing += "; " + g.describe(p)
		}
	}
	if well > voters/2 {
		return nil
	}
	return refused(fmt.Sprintf("of the %d voters that remain %d are connected and within %d entries, %d are needed%s", voters, well, nearEntries, voters/2+1, ailing))
}

// caughtUp tells, on the leader, whether a replica is connected and near the end of the log.
func (g *Group) caughtUp(p PeerStatus) bool {
	return !p.LastContact.IsZero() && time.Since(p.LastContact) <= g.cfg.contactWindow() && p.MatchIndex > 0 && p.MatchIndex+nearEntries >= g.raft.LastIndex()
}

// describe is a replica's state in a refusal.
func (g *Group) describe(p PeerStatus) string {
	contact := "has not answered in this term"
	if !p.LastContact.IsZero() {
		contact = fmt.Sprintf("answered %v ago", time.Since(p.LastContact).Round(time.Millisecond))
	}
	return fmt.Sprintf("%s holds the log to %d of %d and %s", p.ID, p.MatchIndex, g.raft.LastIndex(), contact)
}

// contactWindow is how old a replica's last answer may be for it to count as connected.
func (c *Config) contactWindow() time.Duration { return contactHeartbeats * c.Timeouts.Heartbeat }

// find is the status of id, or the zero status.
func find(peers []PeerStatus, id event.ReplicaID) PeerStatus {
	for _, p := range peers {
		if p.ID == id {
			return p
		}
	}
	return PeerStatus{}
}
