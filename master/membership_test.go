package master

import (
	"context"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// relisted is a list in which some masters are elsewhere: on the host of their id, same ports.
func relisted(old Peers, host string, ids ...event.MasterID) Peers {
	list := append(Peers(nil), old...)
	for i, p := range list {
		for _, id := range ids {
			if p.ID == id {
				at := host + string(id)
				list[i] = Peer{ID: id, Raft: at + ":7000", HTTP: at + ":7001", Grid: at + ":7002"}
			}
		}
	}
	return list
}

// recorded waits until a master's own state says so of another one.
func (c *cluster) recorded(at, of event.MasterID, right func(*fsm.Master) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	replica := c.up[at].core.replica
	for {
		changed := replica.Changed()
		if right(replica.View().Master(of)) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.t.Fatalf("%s records %s as %+v", at, of, replica.View().Master(of))
		}
	}
}

func at(p Peer) func(*fsm.Master) bool {
	return func(m *fsm.Master) bool { return m != nil && peerOf(*m) == p }
}

// TestAMasterMoves starts a master at other addresses that only it knows: the others follow, an event says so, and masters that
// are started again with the old list find it.
func TestAMasterMoves(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	mover := followers[0]
	c.feed(leader, 1, until(event.TypeMasterJoined, 3))
	old := c.peers
	c.stop(mover)
	c.peers = relisted(old, "new-", mover)
	c.start(mover)
	for _, id := range c.ids() {
		c.recorded(id, mover, at(c.peer(mover)))
	}
	moved := c.feed(leader, 1, until(event.TypeReplicaReaddressed, 1))
	last := moved[len(moved)-1].Body.(event.ReplicaReaddressed)
	if was, _ := old.Find(mover); last.OldAddress != was.Raft || last.Address != c.peer(mover).Raft {
		t.Errorf("recorded %+v", last)
	}

	rest := []event.MasterID{leader, followers[1]}
	c.lists[rest[0]], c.lists[rest[1]] = old, old
	c.stop(rest...)
	c.start(rest...)
	c.stop(rest[0]) // so the other one needs the mover
	c.leader()
	for _, id := range []event.MasterID{mover, rest[1]} {
		must[transport.ListAgentsOk](c, id, &transport.ListAgents{})
	}
}

// TestAllMastersMoveAtOnce: no majority has ever heard of the new addresses; each finds the others by its own new list.
func TestAllMastersMoveAtOnce(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, _ := c.leader()
	c.feed(leader, 1, until(event.TypeMasterJoined, 3))
	c.stop(c.ids()...)
	c.peers = relisted(c.peers, "new-", c.ids()...)
	c.start(c.ids()...)
	leader, _ = c.leader()
	for _, id := range c.ids() {
		c.recorded(leader, id, at(c.peer(id)))
	}
}

// TestAWrongWordCutsNobodyOff: an address at which the replica does not answer is not taken over.
func TestAWrongWordCutsNobodyOff(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	c.feed(leader, 1, until(event.TypeMasterJoined, 3))
	victim, other := c.up[followers[0]].core.founding, c.peer(followers[1])
	for _, tt := range []struct{ name, store, grid, at, want string }{
		{"nobody there", victim.Replica.StoreID(), victim.GridID, "nowhere:1", "is said to be at"},
		{"another master there", victim.Replica.StoreID(), victim.GridID, other.Grid, string(other.ID) + "."},
		{"another disk", strings.Repeat("0", 32), victim.GridID, c.peer(followers[0]).Grid, "answers there"},
		{"another grid", victim.Replica.StoreID(), "g", other.Grid, "this is grid"},
	} {
		_, err := ask[transport.AnnounceMasterOk](c, leader, &transport.AnnounceMaster{MasterID: followers[0], StoreID: tt.store,
			GridID: tt.grid, Raft: other.Raft, HTTP: other.HTTP, Grid: tt.at})
		wantKind(t, err, event.KindRefused)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want a word of %q", tt.name, err, tt.want)
		}
	}
	if p, _ := c.up[leader].core.book.Find(victim.Replica); p != c.peer(followers[0]) {
		t.Errorf("it is now looked for at %+v", p)
	}
}

// TestTransferAndSnapshotFromAnyMaster asks a follower for what the leader does.
func TestTransferAndSnapshotFromAnyMaster(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	must[transport.ListAgentsOk](c, followers[0], &transport.ListAgents{}) // both follow
	must[transport.ListAgentsOk](c, followers[1], &transport.ListAgents{})
	ok := must[transport.TransferLeadershipOk](c, followers[1], &transport.TransferLeadership{To: followers[0]})
	if ok.Leader != followers[0] || ok.Term == 0 {
		t.Errorf("handed over: %+v, want to %s", ok, followers[0])
	}
	if again := must[transport.TransferLeadershipOk](c, leader, &transport.TransferLeadership{To: followers[0]}); *again != *ok {
		t.Errorf("handed over again: %+v, was %+v", again, ok)
	}
	if any := must[transport.TransferLeadershipOk](c, leader, &transport.TransferLeadership{}); any.Leader == followers[0] {
		t.Errorf("handed over to whoever: %+v", any)
	}
	_, err := ask[transport.TransferLeadershipOk](c, leader, &transport.TransferLeadership{To: "nobody"})
	wantKind(t, err, event.KindNotFound)

	for _, on := range append(followers, leader) {
		if ok := must[transport.TakeSnapshotOk](c, leader, &transport.TakeSnapshot{MasterID: on}); ok.MasterID != on || ok.Seq == 0 || ok.Index == 0 {
			t.Errorf("snapshot on %s: %+v", on, ok)
		}
	}
	now, _ := c.leader()
	if ok := must[transport.TakeSnapshotOk](c, followers[0], &transport.TakeSnapshot{}); ok.MasterID != now {
		t.Errorf("snapshot on the leader %s: %+v", now, ok)
	}
	_, err = ask[transport.TakeSnapshotOk](c, leader, &transport.TakeSnapshot{MasterID: "nobody"})
	wantKind(t, err, event.KindNotFound)
}
