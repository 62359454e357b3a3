package master

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// joining starts a master with an empty directory that wants to join; the result comes when it is a member.
func (c *cluster) joining(ctx context.Context, id event.MasterID) <-chan error {
	cfg := c.config(id)
	cfg.Bootstrap, cfg.Join = false, true
	opened := make(chan error, 1)
	go func() {
		m, err := Open(ctx, cfg)
		if err == nil {
			c.up[id], c.wires[id] = m, cfg.Network.(*wire) // read behind the channel only
		}
		opened <- err
	}()
	return opened
}

// refused opens a master that must not start.
func (c *cluster) refused(cfg Config) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	m, err := Open(ctx, cfg)
	if err == nil {
		c.t.Errorf("%s started; %v", cfg.ID, m.Close())
		return errors.New("started")
	}
	return err
}

func suffrage(want string) func(*fsm.Master) bool {
	return func(m *fsm.Master) bool { return m != nil && m.Suffrage == want }
}

// TestAMasterJoinsAndTheLeaderIsRemoved takes a fourth master in, asked of a follower, and then the leader out, asked of the
// leader: every step is an event, the removed one knows it and does not start again, the others go on.
func TestAMasterJoinsAndTheLeaderIsRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	three := c.peers
	must[transport.RegisterAgentOk](c, leader, registration(1))
	_, err := ask[transport.RemoveMasterOk](c, followers[0], &transport.RemoveMaster{ID: string(followers[1])})
	wantKind(t, err, event.KindRefused)

	for _, id := range c.ids() {
		c.lists[id] = three
	}
	c.peers = append(append(Peers(nil), three...), Peer{ID: "master-4", Raft: "d:7000", HTTP: "d:7001", Grid: "d:7002"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	opened := c.joining(ctx, "master-4")
	added := must[transport.AddMasterOk](c, followers[0], &transport.AddMaster{MasterID: "master-4"})
	if again := must[transport.AddMasterOk](c, leader, &transport.AddMaster{MasterID: "master-4"}); again.ReplicaID != added.ReplicaID || added.Suffrage != "learner" {
		t.Errorf("added %+v, again %+v", added, again)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	c.recorded(followers[0], "master-4", suffrage(suffrageVoter))

	removed := must[transport.RemoveMasterOk](c, leader, &transport.RemoveMaster{ID: string(leader)})
	gone := c.up[leader]
	select {
	case <-gone.Done():
	case <-ctx.Done():
		t.Fatal("the removed master does not know it")
	}
	if err := gone.Err(); !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), string(removed.ReplicaID)) {
		t.Errorf("it ends with %v", err)
	}
	c.stop(leader)
	if err := c.refused(c.config(leader)); !errors.Is(err, ErrRemoved) {
		t.Errorf("started again it says %v", err)
	}
	for _, id := range append(followers, "master-4") {
		c.recorded(id, leader, func(m *fsm.Master) bool { return m == nil })
	}
	left := c.feed(followers[0], 1, until(event.TypeMasterLeft, 1))
	if e := left[len(left)-1]; e.Body != (event.MasterLeft{MasterID: leader}) {
		t.Errorf("recorded is %+v, want that %s left", e.Body, leader)
	}
	if agents := must[transport.ListAgentsOk](c, "master-4", &transport.ListAgents{}).Agents; len(agents) != 1 {
		t.Errorf("the new master has the agents %+v", agents)
	}
}

// TestAWipedDiskNeverVotesAgain is safety S1: a write is acknowledged by A and B, B's disk is emptied, A is killed. C must not
// lead, whatever B is started with. When A is back the write is there, and B's new replica takes the place of the old one.
func TestAWipedDiskNeverVotesAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil)
	c.start(c.ids()...)
	a, others := c.leader()
	b, lagging := others[0], others[1]
	c.feed(a, 1, until(event.TypeMasterJoined, 3))
	c.kill(lagging)
	must[transport.RegisterAgentOk](c, a, registration(1))
	lost := c.up[b].core.founding.Replica
	c.kill(b)
	if err := os.RemoveAll(filepath.Join(c.root, string(b))); err != nil {
		t.Fatal(err)
	}
	c.kill(a)
	c.start(lagging)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	err := c.refused(c.config(b))
	if !strings.Contains(err.Error(), "do not include "+string(b)) || !strings.Contains(err.Error(), "--join") {
		t.Errorf("bootstrapped again it says: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(c.root, string(b))); err != nil {
		t.Fatal(err)
	}
	opened := c.joining(ctx, b)
	select { // several elections long
	case err := <-opened:
		t.Fatalf("the wiped master became a member of its own: %v", err)
	case <-time.After(2 * time.Second):
	}
	if leader, _, known := c.up[lagging].core.group.Leader(); known {
		t.Fatalf("%s leads without the write", leader)
	}

	c.start(a)
	if agents := must[transport.ListAgentsOk](c, lagging, &transport.ListAgents{}).Agents; len(agents) != 1 {
		t.Fatalf("the acknowledged write is lost: %+v", agents)
	}
	added := must[transport.AddMasterOk](c, lagging, &transport.AddMaster{MasterID: b})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	removed := must[transport.RemoveMasterOk](c, lagging, &transport.RemoveMaster{ID: string(b)})
	if removed.ReplicaID != lost || added.ReplicaID == lost {
		t.Errorf("added %s, removed %s; lost was %s", added.ReplicaID, removed.ReplicaID, lost)
	}
	if m := c.up[lagging].core.replica.View().Master(b); m == nil || m.ReplicaID != added.ReplicaID {
		t.Errorf("%s is recorded as %+v", b, m)
	}
}

// answered asks until there is an answer: on a busy machine leaders change.
func answered[T any](c *cluster, id event.MasterID, req any) (*T, error) {
	for {
		ok, err := ask[T](c, id, req)
		if k := kindOf(err); k != event.KindUnavailable && k != event.KindUnknownOutcome && k != event.KindNotLeader || c.t.Context().Err() != nil {
			return ok, err
		}
	}
}

// TestNobodyToAdd: a word about a master that does not run is refused with what to do.
func TestNobodyToAdd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil)
	c.start(c.ids()...)
	_, followers := c.leader()
	_, err := answered[transport.AddMasterOk](c, followers[0], &transport.AddMaster{MasterID: "master-9"})
	wantKind(t, err, event.KindNotFound)
	_, err = answered[transport.RemoveMasterOk](c, followers[0], &transport.RemoveMaster{ID: "master-9"})
	wantKind(t, err, event.KindNotFound)
	ok, err := answered[transport.AddMasterOk](c, followers[0], &transport.AddMaster{MasterID: followers[0]})
	if err != nil || ok.Suffrage != "voter" {
		t.Errorf("a member that is added again: %+v, %v", ok, err)
	}
}
