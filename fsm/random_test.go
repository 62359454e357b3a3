package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"pgregory.net/rapid"
)

// draw makes commands that a grid could see, sensible ones and others, from the state it is in.
type draw struct {
	t *rapid.T
	r *replica
	n uint64 // of replica ids

	issuedAt map[event.RequestID]int64     // set once per request id, as clients must
	begunAt  map[attemptKey]event.Position // an attempt begins once
}

type attemptKey struct {
	id      event.TxnID
	attempt uint64
}

// begin is where an attempt began: drawn once for each.
func (d *draw) begin(id event.TxnID, attempt uint64) event.Position {
	k := attemptKey{id, attempt}
	if _, ok := d.begunAt[k]; !ok {
		d.begunAt[k] = d.position()
	}
	return d.begunAt[k]
}

func pick[T any](t *rapid.T, name string, from ...T) T {
	return from[rapid.IntRange(0, len(from)-1).Draw(t, name)]
}

func (d *draw) agent() event.AgentID {
	return pick[event.AgentID](d.t, "agent", "agent-1", "agent-2", "agent-3", "agent-4", "nobody")
}

func (d *draw) node() event.NodeID {
	return nodeID(rapid.Uint64Range(0, d.r.m.View().head.LastNode+1).Draw(d.t, "node"))
}

// owned is a node with its agent, or with another one now and then.
func (d *draw) owned() (event.NodeID, event.AgentID, uint64) {
	id := d.node()
	start := rapid.Uint64Range(0, 3).Draw(d.t, "start")
	if n := d.r.m.View().Node(id); n != nil && rapid.IntRange(0, 9).Draw(d.t, "other") > 0 {
		return id, n.AgentID, n.Start + start - 1
	}
	return id, d.agent(), start
}

func (d *draw) shard() event.ShardID {
	return event.ShardID(shardName(rapid.IntRange(0, 3).Draw(d.t, "shard")))
}

func (d *draw) position() event.Position {
	s := d.r.m.View()
	back := rapid.Uint64Range(0, 40).Draw(d.t, "back")
	if back > s.Seq() {
		back = s.Seq()
	}
	return event.Position{N: s.Incarnation().N, Seq: s.Seq() - back}
}

func (d *draw) txn() (id event.TxnID) {
	id[0] = byte(rapid.IntRange(1, 12).Draw(d.t, "txn"))
	return id
}

func (d *draw) body() event.Body {
	t := d.t
	switch rapid.IntRange(0, 9).Draw(t, "group") {
	case 0, 1:
		return d.agentBody()
	case 2, 3:
		return d.nodeBody()
	case 4:
		return d.shardBody()
	case 5, 6, 7:
		return d.txnBody()
	}
	return d.otherBody()
}

func (d *draw) agentBody() event.Body {
	a := d.agent()
	switch rapid.IntRange(0, 6).Draw(d.t, "agent event") {
	case 0:
		return event.AgentRegistered{AgentID: a, MaxStorageNodes: 2, StoreID: pick(d.t, "store", "", "s1", "s1", "s2"), Labels: map[string]string{"a": "b", "c": "d", "e": "f"}}
	case 1:
		return event.AgentDegraded{AgentID: a, SecondsSinceHeartbeat: 16}
	case 2:
		return event.AgentOffline{AgentID: a, LastSeen: d.r.now}
	case 3:
		return event.AgentUnregistered{AgentID: a}
	}
	return event.AgentHeartbeat{AgentID: a, Load: event.Load{CPU: rapid.Float64Range(0, 1).Draw(d.t, "cpu")}, Nodes: []event.NodeReport{{NodeID: "node-1"}}}
}

func (d *draw) nodeBody() event.Body {
	id, a, start := d.owned()
	switch rapid.IntRange(0, 8).Draw(d.t, "node event") {
	case 0, 1:
		return event.SpawnRequested{NodeID: d.r.m.View().NextNodeID(), AgentID: d.agent()}
	case 2, 3:
		return event.SpawnSucceeded{NodeID: id, AgentID: a, StoreID: "s", Endpoint: pick(d.t, "endpoint", "h:1", "h:2"), Start: start}
	case 4:
		return event.NodeCrashed{NodeID: id, AgentID: a, Start: start}
	case 5:
		return event.NodeRestarted{NodeID: id, AgentID: a, Start: start, Endpoint: pick(d.t, "endpoint", "h:1", "h:2")}
	case 6:
		return event.StopRequested{NodeID: id, AgentID: a}
	case 7:
		return event.StopSucceeded{NodeID: id, AgentID: a}
	}
	return pick[event.Body](d.t, "failure", event.SpawnFailed{NodeID: id, AgentID: a, Error: "x"}, event.StopFailed{NodeID: id, AgentID: a, Error: "y"})
}

func (d *draw) shardBody() event.Body {
	switch rapid.IntRange(0, 7).Draw(d.t, "shard event") {
	case 4, 5:
		return d.assigned()
	case 6, 7:
		return d.reported()
	case 0:
		return event.ShardMapCreated{Strategy: "hash", Shards: 4, Replicas: pick[uint32](d.t, "replicas", 1, 3)}
	case 1:
		b := event.ShardCreated{ShardID: d.shard()}
		d.n++
		for range d.r.m.View().head.Map.Replicas {
			node := d.node()
			b.Voters = append(b.Voters, event.Voter{NodeID: node, ReplicaID: event.NewReplicaID(string(node), fmt.Sprintf("%032x", d.n))})
		}
		return b
	}
	return event.ShardLeaderChanged{ShardID: d.shard(), NodeID: d.node(), Term: rapid.Uint64Range(1, 9).Draw(d.t, "term")}
}

// assigned asks for a change of a shard's members: one that fits it, mostly.
func (d *draw) assigned() event.Body {
	b := event.ReplicaAssigned{ShardID: d.shard(), NodeID: d.node(), Role: pick(d.t, "role", event.RoleLearner, event.RoleLeaving, event.RoleVoter, "")}
	s := d.r.m.View()
	sh := s.Shard(b.ShardID)
	if sh == nil {
		return b
	}
	if at, ok := s.ReplicaAt(sh, b.NodeID); ok && b.Role != event.RoleLearner {
		b.ReplicaID = at.ReplicaID
		return b
	}
	d.n++
	b.ReplicaID = event.NewReplicaID(string(b.NodeID), fmt.Sprintf("%032x", d.n))
	if rapid.Bool().Draw(d.t, "replaces") {
		b.Replaces = pick(d.t, "replaced", sh.Voters...).ReplicaID
	}
	return b
}

// reported is what a group's leader says of a replica that there is, mostly.
func (d *draw) reported() event.Body {
	s := d.r.m.View()
	id, node, configuration := d.shard(), d.node(), rapid.Uint64Range(0, 20).Draw(d.t, "configuration")
	replica := event.NewReplicaID(string(node), fmt.Sprintf("%032x", 1))
	if sh := s.Shard(id); sh != nil {
		m := s.Members(sh)
		configuration += m.Configuration
		at := pick(d.t, "replica", append([]event.Voter{m.Learner, {ReplicaID: replica, NodeID: node}}, sh.Voters...)...)
		node, replica = at.NodeID, at.ReplicaID
	}
	return pick[event.Body](d.t, "report", event.ReplicaPromoted{ShardID: id, NodeID: node, ReplicaID: replica, Configuration: configuration},
		event.ReplicaRemoved{ShardID: id, NodeID: node, ReplicaID: replica, Reason: "asked for", Configuration: configuration})
}

func (d *draw) txnBody() event.Body {
	id, attempt := d.txn(), rapid.Uint64Range(0, 9).Draw(d.t, "attempt")
	shards := []event.ShardID{d.shard()}
	switch rapid.IntRange(0, 4).Draw(d.t, "txn event") {
	case 0, 1:
		return event.TxnCommitted{TxnID: id, Attempt: attempt, Begin: d.begin(id, attempt), Issued: d.issued(id), Shards: shards}
	case 2:
		return event.TxnAborted{TxnID: id, Attempt: attempt, Begin: d.begin(id, attempt), Shards: shards}
	case 3:
		return event.TxnAborted{TxnID: id, Attempt: attempt, Final: true, Begin: d.begin(id, attempt), Shards: shards}
	}
	return event.TxnCompleted{TxnIDs: []event.TxnID{id, d.txn()}, Horizon: d.position()}
}

func (d *draw) otherBody() event.Body {
	m := pick[event.MasterID](d.t, "master", "master-1", "master-2")
	s := d.r.m.View()
	switch rapid.IntRange(0, 14).Draw(d.t, "other event") {
	case 9:
		return event.LevelRaised{To: rapid.Uint32Range(0, SupportedLevel+1).Draw(d.t, "level")}
	case 10:
		return d.stateChecked()
	case 11:
		return event.ClockSkew{MasterID: m, SkewMS: rapid.Int64Range(-3000, 3000).Draw(d.t, "skew")}
	case 0:
		return event.MasterJoined{MasterID: m, Suffrage: pick(d.t, "suffrage", "voter", "nonvoter"), ReplicaID: event.ReplicaID(m), Level: rapid.Uint32Range(1, SupportedLevel).Draw(d.t, "supports")}
	case 1:
		return event.LeaderElected{MasterID: m, Term: rapid.Uint64Range(1, 9).Draw(d.t, "term")}
	case 2:
		return event.MasterUnreachable{MasterID: m}
	case 3:
		return pick[event.Body](d.t, "end", event.MasterRecovered{MasterID: m}, event.MasterLeft{MasterID: m})
	case 4:
		return event.SinkAdded{Sink: pick(d.t, "sink", "a", "b"), Address: "h:1", Class: "grid"}
	case 5:
		return event.SinkRemoved{Sink: "a"}
	case 6:
		return event.FeedAcked{Sink: pick(d.t, "sink", "a", "b"), SinkID: pick(d.t, "store", "x", "x", "y"), Through: d.position().Seq, Chain: s.Chain()}
	case 13:
		return d.feedRewound()
	case 12:
		at := pick(d.t, "address", "h:1", "h:2")
		return event.ReplicaReaddressed{ShardID: event.MastersGroup, ReplicaID: event.ReplicaID(m), OldAddress: pick(d.t, "from", "", "h:1", "h:2"), Address: at, HTTP: at, Grid: at}
	case 14:
		return pick[event.Body](d.t, "reading", event.StorageMetrics{NodeID: d.node(), ShardID: d.shard()}, event.EmbeddingServiceDegraded{InstanceID: string(m), Reason: "\xff"},
			event.CrossShardQuery{Shards: []event.ShardID{d.shard()}})
	case 7:
		return event.SettingChanged{Key: SettingRequestsMax, Value: pick(d.t, "max", "16", "17", "1000")}
	}
	return event.AssociationTypeAdded{Name: pick(d.t, "name", "x", "y", "causal")}
}

// feedRewound is of the cursor that a sink has, or nearly.
func (d *draw) feedRewound() event.Body {
	cur := d.r.m.View().Cursor(pick(d.t, "sink", "a", "b"))
	b := event.FeedRewound{Sink: cur.Sink, To: rapid.Uint64Range(0, cur.Through+1).Draw(d.t, "to"), From: cur.Through, SinkID: pick(d.t, "store", "x", "y"), Replaces: cur.SinkID}
	if b.To > 0 {
		b.Chain, b.Size = cur.Chain, rapid.Uint64Range(0, d.r.m.View().FeedBytes()).Draw(d.t, "size")
	}
	return b
}

// stateChecked is a comparison of what this replica knows of itself, or of what nobody can know.
func (d *draw) stateChecked() event.Body {
	c := Check{Index: rapid.Uint64Range(0, 3).Draw(d.t, "multiple") * CheckStride}
	if all := d.r.m.Checks(); len(all) > 0 {
		c = all[rapid.IntRange(0, len(all)-1).Draw(d.t, "check")]
	}
	agree := []event.ReplicaID{"master-1.a", "master-2.a", "master-3.a"}[:rapid.IntRange(0, 3).Draw(d.t, "agree")]
	return event.StateChecked{AtIndex: c.Index, AtSeq: c.Seq, Digest: c.Digest, LocalDigest: c.Local, Agree: agree, Chain: c.Chain}
}

// issued is the time at which a request was made: drawn once for each id, up to too long ago and too far ahead.
func (d *draw) issued(id event.RequestID) int64 {
	if _, ok := d.issuedAt[id]; !ok {
		d.issuedAt[id] = d.r.now + rapid.Int64Range(-700, 70).Draw(d.t, "issued")*second
	}
	return d.issuedAt[id]
}

func (d *draw) command() *event.Command {
	c := event.NewCommand("test", d.body())
	switch rapid.IntRange(0, 5).Draw(d.t, "identity") {
	case 0:
		if a := emitterOf(c.Body); a != "" {
			c.Emitter = string(a) + ".s1"
			c.EmitterSeq = d.r.m.View().Emitter(c.Emitter) + rapid.Uint64Range(0, 2).Draw(d.t, "emitter seq")
		}
	case 1, 2:
		if tabled(&event.Command{RequestID: event.RequestID{1}, Type: c.Type}) {
			c.RequestID[0] = byte(rapid.IntRange(101, 160).Draw(d.t, "request"))
		}
	}
	if b, ok := c.Body.(event.TxnAborted); ok {
		c.RequestID = b.TxnID
	}
	c.Issued = d.issued(c.RequestID)
	return c
}

// TestAnyHistory: whatever commands come, in whatever entries, with restarts from snapshots in between: the invariants hold,
// what was published does not change, a second replica that never restarts has the same bytes, the feed alone gives the same history, and the log in one batch
// the same state.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newReplica(t)
		d := &draw{t: t, r: r, issuedAt: map[event.RequestID]int64{}, begunAt: map[attemptKey]event.Position{}}
		r.must(started)
		if rapid.Bool().Draw(t, "formed") {
			r = formed(t, 4, 2)
			d.r = r
			if rapid.Bool().Draw(t, "raised") {
				raise(r)
			}
		}
		views := map[*State][]byte{}
		for range rapid.IntRange(1, 40).Draw(t, "entries") {
			if rapid.IntRange(0, 3).Draw(t, "stride") == 0 {
				r.index += rapid.Uint64Range(1, 1500).Draw(t, "entries of raft's own")
			}
			r.now += rapid.Int64Range(-1, 30).Draw(t, "seconds") * second
			var commands []*event.Command
			for range rapid.IntRange(0, 4).Draw(t, "commands") {
				commands = append(commands, d.command())
			}
			r.apply(commands...)
			switch rapid.IntRange(0, 9).Draw(t, "between") {
			case 0:
				r.m = reborn(t, r.m.View())
			case 1:
				views[r.m.View()] = snapshotOf(t, r.m.View())
			}
		}
		for s, b := range views {
			if !bytes.Equal(snapshotOf(t, s), b) || check(s) != nil {
				t.Fatalf("the state that was published at event %d has changed: %v", s.Seq(), check(s))
			}
		}
		straight := NewMachine()
		for _, e := range r.log {
			if _, _, err := straight.Apply(e.Meta, e.Commands); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(snapshotOf(t, straight.View()), snapshotOf(t, r.m.View())) {
			t.Fatal("a replica that restarted differs")
		}
		if kept := r.m.Checks(); !slices.Equal(kept, straight.Checks()[len(straight.Checks())-len(kept):]) {
			t.Fatal("a replica that restarted has other checks")
		}
		checkReplay(t, r)
		checkTxnHistory(t, r)
	})
}

// checkTxnHistory: in the feed no transaction is committed twice, none is committed and finally aborted, none committed
// under an attempt that was aborted, and no commit begins at or below the horizon before it. Another attempt of one that has ended is aborted
// only when the horizon has passed it, and the request table may have forgotten it.
func checkTxnHistory(t fatal, r *replica) {
	committed, final, aborted := map[event.TxnID]uint64{}, map[event.TxnID]bool{}, map[attemptKey]bool{}
	begun := map[event.TxnID]event.Position{} // the last attempt that the feed tells of
	var horizon event.Position
	for _, e := range r.events(1) {
		switch b := e.Body.(type) {
		case event.TxnCommitted:
			if committed[b.TxnID] != 0 || final[b.TxnID] || aborted[attemptKey{b.TxnID, b.Attempt}] || b.Begin.Compare(horizon) <= 0 {
				t.Fatalf("event %d commits %s, attempt %d: committed %v, final %v, aborted %v, begin %v, horizon %v", e.Seq, b.TxnID, b.Attempt,
					committed[b.TxnID], final[b.TxnID], aborted[attemptKey{b.TxnID, b.Attempt}], b.Begin, horizon)
			}
			committed[b.TxnID] = b.Attempt
			begun[b.TxnID] = b.Begin
		case event.TxnAborted:
			ended := committed[b.TxnID] != 0 || final[b.TxnID]
			passed := !b.Final && committed[b.TxnID] != b.Attempt && begun[b.TxnID].Compare(horizon) <= 0
			if ended && !passed {
				t.Fatalf("event %d aborts %s, attempt %d, final %v: committed %v, final %v", e.Seq, b.TxnID, b.Attempt, b.Final, committed[b.TxnID], final[b.TxnID])
			}
			final[b.TxnID] = final[b.TxnID] || b.Final
			aborted[attemptKey{b.TxnID, b.Attempt}] = true
			if b.Begin.Compare(begun[b.TxnID]) > 0 {
				begun[b.TxnID] = b.Begin
			}
		case event.TxnCompleted:
			if b.Horizon.Less(horizon) {
				t.Fatalf("event %d lowers the horizon from %v to %v", e.Seq, horizon, b.Horizon)
			}
			horizon = b.Horizon
		}
	}
}
