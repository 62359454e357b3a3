package offline

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

var update = flag.String("update", "", "write a new golden directory of this name, such as v2; an existing one is never changed")

const goldenDir = "../../testdata/golden"

// golden is what a golden directory must lead to, for ever.
type golden struct {
	Seq         uint64 `json:"seq"`
	Digest      string `json:"digest"`
	LocalDigest string `json:"local_digest"`
	Chain       string `json:"chain"`
	Snapshots   int    `json:"snapshots"`
}

// expected is expected.json.
type expected struct {
	golden
	Types []string `json:"types"` // of events in its log or its outbox
}

// TestGolden reads every master's directory that a released version wrote (testdata/golden/README.md): the same log, the
// same events, the same state.
func TestGolden(t *testing.T) {
	if *update != "" {
		writeGolden(t, filepath.Join(goldenDir, *update))
	}
	versions, err := filepath.Glob(filepath.Join(goldenDir, "v*"))
	if err != nil || len(versions) == 0 {
		t.Fatalf("no golden directories: %v", err)
	}
	for _, dir := range versions {
		t.Run(filepath.Base(dir), func(t *testing.T) { checkGolden(t, dir) })
	}
}

func readGolden(t *testing.T, dir, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func checkGolden(t *testing.T, dir string) {
	var recorded expected
	readGolden(t, dir, "expected.json", &recorded)
	want := recorded.golden
	data := filepath.Join(dir, "master")
	before := treeSum(t, data)
	m := open(t, data)
	if n, err := m.Outbox().Check(); n != want.Seq || err != nil {
		t.Errorf("the outbox holds %d events, want %d: %v", n, want.Seq, err)
	}
	all, problems := m.Snapshots()
	if len(all) != want.Snapshots || len(problems) > 0 {
		t.Errorf("%d snapshots, want %d: %v", len(all), want.Snapshots, problems)
	}
	for _, s := range all {
		if p := VerifySnapshot(s.Dir); len(p) > 0 {
			t.Error(p)
		}
	}
	last, err := m.Last()
	if err != nil {
		t.Fatal(err)
	}
	if got := goldenOf(last.State, len(all)); got != want {
		t.Errorf("rebuilt from the newest snapshot: %+v, want %+v", got, want)
	}
	var text any
	readGolden(t, dir, "state.json", &text)
	if got, want := compactJSON(t, plainState(last.State)), compactJSON(t, text); got != want {
		t.Errorf("the state is\n%s\nwant\n%s", got, want)
	}
	// The whole log, every event compared with the recorded one.
	if f, err := Bisect(m, m); err != nil || f.What != "" {
		t.Errorf("the log does not lead to what was recorded: %+v, %v", f, err)
	}
	r, err := m.ReplayAll()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := m.Marks(r, func(Mark) error { return nil }); err != nil {
		t.Error(err)
	}
	if got := goldenOf(r.State(), len(all)); got != want {
		t.Errorf("rebuilt from the oldest snapshot: %+v, want %+v", got, want)
	}
	if treeSum(t, data) != before {
		t.Error("reading changed the directory")
	}
}

// TestGoldenHasEveryType: a golden directory holds the types it was written with, and together they hold what is emitted: a
// new type needs a new directory (testdata/golden/README.md).
func TestGoldenHasEveryType(t *testing.T) {
	versions, err := filepath.Glob(filepath.Join(goldenDir, "v*"))
	if err != nil || len(versions) == 0 {
		t.Fatalf("no golden directories: %v", err)
	}
	var all []string
	for _, dir := range versions {
		var want expected
		readGolden(t, dir, "expected.json", &want)
		got := typesIn(t, open(t, filepath.Join(dir, "master")))
		if !slices.Equal(got, want.Types) || len(got) < 40 {
			t.Errorf("%s holds events %v, want %v", dir, got, want.Types)
		}
		all = append(all, got...)
	}
	for _, typ := range event.Types() {
		if event.Info(typ).Emitted && !slices.Contains(all, typ.String()) {
			t.Errorf("%s is in no golden directory: add one (testdata/golden/README.md)", typ)
		}
	}
}

// typesIn lists the types of a directory's commands and recorded events.
func typesIn(t *testing.T, m *Master) []string {
	t.Helper()
	var seen []string
	for e := range m.Log(0, 0) {
		if e.Damage != nil {
			t.Fatal(damaged(e))
		}
		for _, raw := range e.Entry.Commands {
			c, err := event.DecodeCommand(raw)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, c.Type.String())
		}
	}
	first, last := m.Outbox().Bounds()
	for seq := first; seq <= last; seq++ {
		b, err := m.Outbox().Event(seq)
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.DecodeEnvelope(b)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, e.Type.String())
	}
	slices.Sort(seen)
	return slices.Compact(seen)
}

func goldenOf(s *fsm.State, snapshots int) golden {
	digest, local, chain := s.Digest(), s.LocalDigest(), s.Chain()
	return golden{Seq: s.Seq(), Digest: hex.EncodeToString(digest[:]), LocalDigest: hex.EncodeToString(local[:]), Chain: hex.EncodeToString(chain[:]), Snapshots: snapshots}
}

// plainState is a state by section.
func plainState(s *fsm.State) map[string][]any {
	all := map[string][]any{}
	for o := range s.Objects() {
		all[o.Section] = append(all[o.Section], Plain(o.Value))
	}
	return all
}

func compactJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var again any // numbers in one form
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if b, err = json.Marshal(again); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeGolden(t *testing.T, dir string) {
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s exists: golden directories are only added", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := newDirectory(t, filepath.Join(dir, "master"), "master-1", 100)
	// state_checked is about an entry that is a multiple of 1,024, so refused commands come first; a snapshot cuts them off.
	for index := uint64(0); index <= 1024; {
		index, _ = d.propose(event.NewCommand("t", event.AssociationTypeAdded{Name: "x"}))
	}
	d.must(d.group.Snapshot())
	script := goldenScript()
	d.all(script[:len(script)/2]...)
	d.must(d.group.Snapshot())
	d.all(script[len(script)/2:]...)
	state := d.replica.machine.View()
	d.all(event.FeedAcked{Sink: "events", SinkID: "store-1", Through: state.Seq(), Chain: state.Chain()})
	state = d.replica.machine.View()
	d.must(os.Remove(filepath.Join(d.close(), "LOCK"))) // it names a process of that day
	m, err := Open(d.path)
	d.must(err)
	want := expected{goldenOf(state, 2), typesIn(t, m)}
	d.must(m.Close())
	for name, v := range map[string]any{"expected.json": want, "state.json": plainState(state)} {
		b, err := json.MarshalIndent(v, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o644)
		}
		d.must(err)
	}
}

// goldenScript is a grid's life with every type of event: those that follow from others are not in it.
func goldenScript() []event.Body {
	store := testStore
	self := event.NewReplicaID("master-1", store)
	bodies := []event.Body{
		started(),
		event.MasterJoined{MasterID: "master-1", Address: "a:7000", Suffrage: "voter", HTTP: "a:7001", Grid: "a:7002", Level: fsm.SupportedLevel, ReplicaID: self},
		event.MasterJoined{MasterID: "master-2", Address: "b:7000", Suffrage: "voter", HTTP: "b:7001", Grid: "b:7002", Level: fsm.SupportedLevel, ReplicaID: event.NewReplicaID("master-2", store)},
		event.LevelRaised{To: fsm.SupportedLevel},
		event.ReplicaReaddressed{ShardID: event.MastersGroup, ReplicaID: event.NewReplicaID("master-2", store), OldAddress: "b:7000", Address: "c:7000", HTTP: "c:7001", Grid: "c:7002"},
		event.LeaderElected{MasterID: "master-1", Term: 2},
		event.SinkAdded{Sink: "events", Address: "e:50052", Class: "grid"},
		event.SinkAdded{Sink: "copy", Address: "f:50052", Class: "extern"},
		event.SinkRemoved{Sink: "copy"},
	}
	var voters []event.Voter
	for i := 1; i <= 3; i++ {
		agent, node := event.AgentID(fmt.Sprintf("agent-%d", i)), event.NodeID(fmt.Sprintf("node-%d", i))
		bodies = append(bodies,
			event.AgentRegistered{AgentID: agent, Hostname: "h", Platform: "process", AgentEndpoint: "h:8001", MaxStorageNodes: 4, Version: "0.1.0", Zone: "a", Labels: map[string]string{"disk": "ssd"}, StoreID: store},
			event.SpawnRequested{NodeID: node, AgentID: agent, Port: 50052, StoragePath: "nodes", MemoryLimitMB: 512},
			event.SpawnSucceeded{NodeID: node, AgentID: agent, PID: 77, Port: 50052, Endpoint: "h:50052", StoreID: store[:31] + fmt.Sprint(i), Start: 1})
		voters = append(voters, event.Voter{ReplicaID: event.NewReplicaID(string(node), store), NodeID: node})
	}
	exit := int32(2)
	return slices.Concat(bodies, []event.Body{
		event.ShardMapCreated{Strategy: "hash", Shards: 1, Replicas: 3},
		event.ShardCreated{ShardID: "shard-0", Voters: voters},
		event.ShardLeaderChanged{ShardID: "shard-0", NodeID: "node-1", Term: 1},
		event.SpawnRequested{NodeID: "node-4", AgentID: "agent-1"},
		event.SpawnFailed{NodeID: "node-4", AgentID: "agent-1", Error: "no port"},
		event.StopRequested{NodeID: "node-4", AgentID: "agent-1"},
		event.StopFailed{NodeID: "node-4", AgentID: "agent-1", Error: "still alive"},
		event.StopSucceeded{NodeID: "node-4", AgentID: "agent-1"},
		event.NodeCrashed{NodeID: "node-2", AgentID: "agent-2", ExitCode: &exit, Signal: "killed", OOM: true, StderrTail: "panic", Start: 1},
		event.NodeCrashed{NodeID: "node-3", AgentID: "agent-3", Start: 1},
		event.NodeRestarted{NodeID: "node-2", AgentID: "agent-2", RestartCount: 1, NewPID: 78, Port: 50052, Endpoint: "h:50052", Start: 2},
		event.NodeRestarted{NodeID: "node-3", AgentID: "agent-3", RestartCount: 1, NewPID: 79, Port: 50052, Endpoint: "h:50052", Start: 2},
		event.AgentDegraded{AgentID: "agent-3", SecondsSinceHeartbeat: 15.5},
		event.AgentOffline{AgentID: "agent-3", LastSeen: testEpoch + 2_000_000_000},
		event.AgentHeartbeat{AgentID: "agent-3", StorageNodeCount: 1, Load: event.Load{CPU: 0.25, MemoryMB: 1, DiskMB: 2}, Nodes: []event.NodeReport{{NodeID: "node-3", Status: "running", PID: 79, Endpoint: "h:50052", RestartCount: 1}}},
		event.TxnCommitted{TxnID: event.TxnID{1}, Attempt: 7, Begin: event.Position{N: 1, Seq: 5}, Issued: testEpoch + 1_000_000_000, Shards: []event.ShardID{"shard-0"}, OpCount: 2, Coordinator: "master-1"},
		event.TxnAborted{TxnID: event.TxnID{2}, Attempt: 9, Shards: []event.ShardID{"shard-0"}, Reason: "conflict", Begin: event.Position{N: 1, Seq: 6}},
		event.TxnCompleted{TxnIDs: []event.TxnID{{1}}, Horizon: event.Position{N: 1, Seq: 4}},
		event.MasterUnreachable{MasterID: "master-2", LastContact: testEpoch},
		event.MasterRecovered{MasterID: "master-2", LastContact: testEpoch},
		event.MasterLeft{MasterID: "master-2"},
		setting("one"),
		event.AssociationTypeAdded{Name: "hypernym"},
		event.StateChecked{AtIndex: 1024, Digest: [32]byte{1}, LocalDigest: [32]byte{2}, Agree: []event.ReplicaID{self}},
		event.ClockSkew{MasterID: "master-1", SkewMS: 1500},
		event.AgentRegistered{AgentID: "agent-4", Hostname: "h", Platform: "docker", MaxStorageNodes: 1, Version: "0.1.0"},
		event.AgentUnregistered{AgentID: "agent-4", Reason: "decommissioned"},
		event.SpawnRequested{NodeID: "node-5", AgentID: "agent-1"},
		event.SpawnSucceeded{NodeID: "node-5", AgentID: "agent-1", PID: 80, Port: 50053, Endpoint: "h:50053", StoreID: store, Start: 3},
		event.FeedAcked{Sink: "events", SinkID: "store-0"}, // what its rewind is from
		event.FeedRewound{Sink: "events", SinkID: "store-1", Replaces: "store-0"},
		event.ReplicaAssigned{ShardID: "shard-0", NodeID: "node-5", Role: event.RoleLearner, ReplicaID: event.NewReplicaID("node-5", store), Replaces: voters[0].ReplicaID},
		event.ReplicaPromoted{ShardID: "shard-0", NodeID: "node-5", ReplicaID: event.NewReplicaID("node-5", store), Configuration: 31},
		event.ReplicaRemoved{ShardID: "shard-0", NodeID: "node-1", Reason: "replaced", ReplicaID: voters[0].ReplicaID, Configuration: 33},
		event.ReplicaAssigned{ShardID: "shard-0", NodeID: "node-1", Role: event.RoleLearner, ReplicaID: event.NewReplicaID("node-1", store[1:]+"0")}, // is under way
	}, goldenReadings())
}

// goldenReadings has every type of what nodes and masters measure.
func goldenReadings() []event.Body {
	shards := []event.ShardID{"shard-0", "shard-1"}
	return []event.Body{
		event.StorageMetrics{NodeID: "node-1", ShardID: "shard-0", ConceptCount: 9, EdgeCount: 8, VectorCount: 7, WriteThroughput: 1.5, ReadLatencyUS: 250, MemoryUsageMB: 64},
		event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGraph, QueryDepth: 3, ResultCount: 2, LatencyMS: 1.25, Confidence: 0.5},
		event.EmbeddingLatency{ServiceInstance: "node-1", BatchSize: 8, LatencyMS: 31.5, Dimension: 768, CacheHit: true},
		event.HNSWIndexBuilt{NodeID: "node-1", ShardID: "shard-0", VectorCount: 7, BuildTimeMS: 12, Dimension: 768},
		event.HNSWIndexLoaded{NodeID: "node-1", ShardID: "shard-0", VectorCount: 7, LoadTimeMS: 3, Persisted: true},
		event.PathfindingMetrics{NodeID: "master-1", SourceID: "a", TargetID: "b", PathLength: 2, PathsExplored: 5, LatencyMS: 0.5, Strategy: "bidirectional_bfs"},
		event.ReconciliationComplete{NodeID: "node-1", ShardID: "shard-0", EntriesProcessed: 100, ReconciliationTimeMS: 4, DiskFlush: true},
		event.CrossShardQuery{Shards: shards, LatencyMS: 2.5, SlowestShard: "shard-1", ResultCount: 3},
		event.EmbeddingServiceHealthy{InstanceID: "node-1", Endpoint: "http://e:8888", SuccessRate: 1, CacheHitRate: 0.25},
		event.EmbeddingServiceDegraded{InstanceID: "node-1", Endpoint: "http://e:8888", ErrorRate: 0.5, Reason: "refused"},
	}
}
