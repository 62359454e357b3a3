package fsm

import (
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestAccessors(t *testing.T) {
	r := full(t)
	s := r.m.View()
	if s.GridID() != "grid-a" || s.Incarnation().N != 1 || s.Level() != 1 || s.RaftIndex() != r.index || s.Position() != (event.Position{N: 1, Seq: s.Seq()}) {
		t.Errorf("head: %s %v %d %d %v", s.GridID(), s.Incarnation(), s.Level(), s.RaftIndex(), s.Position())
	}
	if s.Time() < epoch || s.Epoch() != s.ShardMap().Epoch {
		t.Errorf("time %d, epoch %v and %v", s.Time(), s.Epoch(), s.ShardMap().Epoch)
	}
	if strategy, shards, replicas := s.MapConfig(); strategy != "hash" || shards != 2 || replicas != 3 {
		t.Errorf("map: %s %d %d", strategy, shards, replicas)
	}
	if a := s.Agent("agent-1"); a == nil || a.StoreID != "store-agent-1" || s.Agent("x") != nil {
		t.Errorf("agent: %+v", a)
	}
	if p := s.Pulse("agent-1"); p == nil || p.Nodes != 1 || p.Load.CPU != 0.5 || len(p.Reports) != 1 || s.Pulse("x") != nil {
		t.Errorf("pulse: %+v", p)
	}
	if rev, nodes := s.Assignments("agent-2"); rev == 0 || len(nodes) != 1 || nodes[0].ID != "node-2" {
		t.Errorf("assignment: %d %v", rev, nodes)
	}
	if rev, nodes := s.Assignments("x"); rev != 0 || nodes != nil {
		t.Errorf("assignment of nobody: %d %v", rev, nodes)
	}
	for id, found := range map[event.NodeID]bool{"node-1": true, "node-4": false, "node-0": false, "node-01": false, "x": false, "": false} {
		if (s.Node(id) != nil) != found {
			t.Errorf("node %q found: %v", id, !found)
		}
	}
	if got := s.ShardsOf("node-1"); !slices.Equal(got, []event.ShardID{"shard-0", "shard-1"}) || s.ShardsOf("node-9") != nil {
		t.Errorf("shards of node-1: %v", got)
	}
	if s.Master("master-1") == nil || s.Master("x") != nil || s.Sink("events") == nil || s.Sink("x") != nil || s.Cursor("x") != (Cursor{Sink: "x"}) {
		t.Error("masters and sinks")
	}
	if c := s.Cursor("events"); c.Through != 3 || c.SinkID != "x" {
		t.Errorf("cursor: %+v", c)
	}
	if v, n := s.Setting("k"); v != "v" || n != 1 {
		t.Errorf("setting: %s %d", v, n)
	}
	if v, n := s.Setting("x"); v != "" || n != 0 {
		t.Errorf("setting that was never set: %s %d", v, n)
	}
	if n := len(slices.Collect(s.Settings())); n != 1 {
		t.Errorf("%d settings", n)
	}
	if n, ok := s.AssociationType("hypernym"); !ok || n != 1000 {
		t.Errorf("hypernym: %d %v", n, ok)
	}
	if n, ok := s.AssociationType("compositional"); !ok || n != 4 {
		t.Errorf("compositional: %d %v", n, ok)
	}
	if _, ok := s.AssociationType("x"); ok {
		t.Error("x has a number")
	}
	if s.Emitter("agent-1.store-agent-1") != 1 || s.Emitter("agent-1.x") != 0 || s.Emitter("x") != 0 {
		t.Error("emitters")
	}
}

// TestIteratorsStop when they are told to.
func TestIteratorsStop(t *testing.T) {
	r := full(t)
	s := r.m.View()
	count := 0
	for range s.Agents() {
		count++
		break
	}
	for range s.NodesOf("agent-1") {
		count++
		break
	}
	for range s.OpenTxns() {
		count++
		break
	}
	if count != 3 {
		t.Errorf("%d steps", count)
	}
}

func TestTxnAccessors(t *testing.T) {
	r := full(t)
	s := r.m.View()
	one, two := event.TxnID{1}, event.TxnID{2}
	begin := s.Txn(one).Begin
	var open []event.TxnID
	for x := range s.OpenTxns() {
		open = append(open, x.ID)
	}
	if !slices.Equal(open, []event.TxnID{one, two}) || s.OpenTxnCount() != 2 {
		t.Errorf("open: %v", open)
	}
	for name, c := range map[string]struct{ got, want Outcome }{
		"committed":           {s.TxnOutcome(one, 7, begin), Outcome{Decided: true, Committed: true, Seq: s.Txn(one).Seq}},
		"another attempt":     {s.TxnOutcome(one, 6, begin), Outcome{Decided: true, Other: 7, Seq: s.Txn(one).Seq}},
		"aborted":             {s.TxnOutcome(two, 8, begin), Outcome{Decided: true, Seq: s.Txn(two).Seq}},
		"not decided":         {s.TxnOutcome(two, 9, begin), Outcome{}},
		"unknown":             {s.TxnOutcome(event.TxnID{3}, 1, begin), Outcome{}},
		"behind the horizon":  {s.TxnOutcome(event.TxnID{3}, 1, event.Position{}), Outcome{Decided: true}},
		"as a whole":          {s.TxnEnd(one), Outcome{Decided: true, Committed: true, Other: 7, Seq: s.Txn(one).Seq}},
		"as a whole, open":    {s.TxnEnd(two), Outcome{}},
		"as a whole, unknown": {s.TxnEnd(event.TxnID{3}), Outcome{}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
	seq := s.Txn(one).Seq
	r.must(event.TxnCompleted{TxnIDs: []event.TxnID{one}, Horizon: s.Position()})
	s = r.m.View()
	if s.Txn(one) != nil || s.Horizon().Seq == 0 {
		t.Error("the record outlives the horizon")
	}
	if got := s.TxnEnd(one); got != (Outcome{Decided: true, Committed: true, Other: 7, Seq: seq}) {
		t.Errorf("behind the horizon: %+v", got)
	}
}

// TestOutbox: the quota degrades the cluster, an acknowledgement clears it, and neither wavers around the bound.
func TestOutbox(t *testing.T) {
	r := formed(t, 1, 0)
	r.must(event.SettingChanged{Key: SettingFeedQuota, Value: "4"})
	r.must(event.SinkAdded{Sink: "events", Address: "h:1", Class: "grid"})
	for r.m.View().Seq() < backlogStride {
		r.must(event.AgentHeartbeat{AgentID: "agent-1"})
	}
	value := strings.Repeat("x", 4000)
	for range 1200 {
		if r.m.View().Cluster().Level == Degraded {
			break
		}
		r.must(event.SettingChanged{Key: "k", Value: value})
	}
	s := r.m.View()
	o := s.Outbox()
	if s.Cluster().Level != Degraded || o.Bytes*100 < o.Quota*80 || o.Bytes*100 > o.Quota*81 || o.Events != s.Seq() || !strings.Contains(s.Cluster().Reason, "outbox") {
		t.Fatalf("%+v with %+v", s.Cluster(), o)
	}
	r.must(event.FeedAcked{Sink: "events", SinkID: "x", Through: backlogStride})
	if o := r.m.View().Outbox(); o.Bytes*100 >= o.Quota*80 || o.Bytes*100 < o.Quota*75 || r.m.View().Cluster().Level != Degraded {
		t.Fatalf("under 80 %%, not yet under 75 %%: %+v with %+v", r.m.View().Cluster(), o)
	}
	for range 800 { // fill it further, over marks of the backlog
		r.must(event.SettingChanged{Key: "k", Value: value[:3000]})
	}
	s = r.m.View()
	answer := r.must(event.FeedAcked{Sink: "events", SinkID: "x", Through: s.Seq(), Chain: s.Chain()})
	after := r.m.View()
	if answer.Value != s.Seq() || answer.Seq != 0 || after.Cluster().Level != Healthy {
		t.Fatalf("%+v, %+v", answer, after.Cluster())
	}
	if last := r.events(after.Seq())[0]; last.Type != event.TypeClusterHealthy || last.Cause != 0 || after.Seq() != s.Seq()+1 {
		t.Errorf("an acknowledgement is in the feed: %+v", last)
	}
	if o := after.Outbox(); o.Events != 1 || o.Bytes > 200 {
		t.Errorf("acknowledged: %+v", o)
	}
	checkReplay(t, r)
}

// TestOutboxIsTrimmedByTheSlowestSink: bytes are known to within 1,024 events.
func TestOutboxIsTrimmedByTheSlowestSink(t *testing.T) {
	r := formed(t, 1, 0)
	for _, name := range []string{"a", "b"} {
		r.must(event.SinkAdded{Sink: name, Address: "h:1", Class: "extern"})
	}
	for r.m.View().Seq() < 3000 {
		r.must(event.AgentHeartbeat{AgentID: "agent-1"})
	}
	whole := r.m.View().Outbox()
	r.must(event.FeedAcked{Sink: "a", SinkID: "x", Through: 2999})
	if o := r.m.View().Outbox(); o != whole {
		t.Errorf("one of two sinks: %+v, was %+v", o, whole)
	}
	r.must(event.FeedAcked{Sink: "b", SinkID: "y", Through: 2500})
	if o := r.m.View().Outbox(); o.Events != 500 || o.Bytes >= whole.Bytes/2 || o.Bytes < whole.Bytes/6 {
		t.Errorf("through 2500: %+v of %+v", o, whole)
	}
	r.must(event.SinkRemoved{Sink: "b"})
	if o := r.m.View().Outbox(); o.Events != 2 {
		t.Errorf("without the slow one: %+v", o)
	}
}

// TestVoters: on as many agents as there are to choose from.
func TestVoters(t *testing.T) {
	r := formed(t, 3, 0)
	r.must(event.SpawnRequested{NodeID: "node-4", AgentID: "agent-1"})
	r.must(event.SpawnSucceeded{NodeID: "node-4", AgentID: "agent-1", StoreID: "s4", Endpoint: "h:4", Start: 1})
	r.must(event.ShardMapCreated{Strategy: "hash", Shards: 2, Replicas: 3})
	voters := func(nodes ...event.NodeID) event.ShardCreated {
		b := event.ShardCreated{ShardID: "shard-0"}
		for i, n := range nodes {
			b.Voters = append(b.Voters, event.Voter{NodeID: n, ReplicaID: event.NewReplicaID(string(n), storeHex+"f"+string(rune('0'+i)))})
		}
		return b
	}
	wantKind(t, "two on agent-1", r.do(voters("node-1", "node-4", "node-2")), event.KindConflict)
	wantKind(t, "the same node", r.do(voters("node-1", "node-1", "node-2")), event.KindConflict)
	r.must(event.AgentOffline{AgentID: "agent-3", LastSeen: r.now + second})
	wantKind(t, "only two agents are there", r.do(voters("node-1", "node-4", "node-2")), "")
}

// TestBounds of what one agent, one txn_completed or a table may hold.
func TestBounds(t *testing.T) {
	r := formed(t, 1, 1)
	wantKind(t, "completed", r.do(event.TxnCompleted{TxnIDs: make([]event.TxnID, maxCompleted+1)}), event.KindInvalid)
	wantKind(t, "reports", r.do(event.AgentHeartbeat{AgentID: "agent-1", Nodes: make([]event.NodeReport, maxNodesOfAgent+1)}), event.KindInvalid)
	wantKind(t, "value", r.do(event.SettingChanged{Key: "k", Value: strings.Repeat("x", maxSettingValue+1)}), event.KindTooLarge)
	for i := range maxSinks {
		r.must(event.SinkAdded{Sink: "s" + string(rune('a'+i)), Address: "h:1", Class: "extern"})
	}
	wantKind(t, "sinks", r.do(event.SinkAdded{Sink: "one more", Address: "h:1", Class: "extern"}), event.KindInvalid)
	wantKind(t, "sinks", r.do(event.SinkAdded{Sink: "one-more", Address: "h:1", Class: "extern"}), event.KindRefused)
	begin := r.m.View().Position()
	for i := range maxAttempts {
		r.must(event.TxnAborted{TxnID: event.TxnID{1}, Attempt: uint64(i + 1), Begin: begin, Shards: []event.ShardID{"shard-0"}})
	}
	busy := r.do(event.TxnAborted{TxnID: event.TxnID{1}, Attempt: 99, Begin: begin, Shards: []event.ShardID{"shard-0"}})
	wantKind(t, "attempts", busy, event.KindBusy)
	if busy.Err != nil && busy.Err.RetryAfterMillis == 0 {
		t.Error("busy, and no word when to retry")
	}
}
