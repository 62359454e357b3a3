package fsm

import (
	"bytes"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// epoch is when tests begin: 2026-10-18T02:20:00Z, unix µs.
const epoch = int64(1792290000000000)

const second = int64(1e6)

// fatal is what testing.T and rapid.T have in common.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// replica is a machine with its log clock and the feed it has made.
type replica struct {
	t     fatal
	m     *Machine
	index uint64
	now   int64
	feed  [][]byte
	log   []Entry
}

func newReplica(t fatal) *replica {
	return &replica{t: t, m: NewMachine(), now: epoch}
}

// apply puts commands into one entry, applies it and checks the invariants.
func (r *replica) apply(commands ...*event.Command) []Answer {
	r.t.Helper()
	r.index++
	e := Entry{Meta: EntryMeta{Index: r.index, Time: r.now, Level: 1}}
	for _, c := range commands {
		b, err := event.AppendCommand(nil, c)
		if err != nil {
			r.t.Fatalf("encode %s: %v", c.Type, err)
		}
		e.Commands = append(e.Commands, b)
	}
	r.log = append(r.log, e)
	before := r.m.View().Seq()
	answers, records, err := r.m.Apply(e.Meta, e.Commands)
	if err != nil {
		r.t.Fatalf("apply: %v", err)
	}
	for i, rec := range records {
		if rec.Seq != before+uint64(i)+1 {
			r.t.Fatalf("record %d has seq %d behind %d", i, rec.Seq, before)
		}
		r.feed = append(r.feed, rec.Bytes)
	}
	if err := check(r.m.View()); err != nil {
		r.t.Fatalf("behind entry %d: %v", r.index, err)
	}
	return answers
}

// do applies one event as a command of its own entry.
func (r *replica) do(body event.Body) Answer {
	r.t.Helper()
	return r.apply(event.NewCommand("test", body))[0]
}

// must is do, and the event has to be accepted.
func (r *replica) must(body event.Body) Answer {
	r.t.Helper()
	a := r.do(body)
	if a.Err != nil {
		r.t.Fatalf("%s: %v", body.Type(), a.Err)
	}
	return a
}

// events decodes the feed from seq on.
func (r *replica) events(from uint64) []*event.Envelope {
	r.t.Helper()
	var all []*event.Envelope
	for _, b := range r.feed {
		e, err := event.DecodeEnvelope(b)
		if err != nil {
			r.t.Fatalf("decode: %v", err)
		}
		if e.Seq >= from {
			all = append(all, e)
		}
	}
	return all
}

func snapshotOf(t fatal, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("snapshot: %d of %d bytes, %v", n, b.Len(), err)
	}
	return b.Bytes()
}

// reborn is a machine from a snapshot of s.
func reborn(t fatal, s *State) *Machine {
	t.Helper()
	back, err := ReadState(bytes.NewReader(snapshotOf(t, s)))
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	m := NewMachine()
	if err := m.Restore(back); err != nil {
		t.Fatalf("restore: %v", err)
	}
	if err := check(m.View()); err != nil {
		t.Fatalf("restored: %v", err)
	}
	return m
}

var started = event.IncarnationStarted{GridID: "grid-a", Incarnation: event.Incarnation{N: 1}, Reason: "test", Level: 1}

const storeHex = "00112233445566778899aabbccddee"

// formed is a grid of n agents with a running node each, and shards of three replicas (or one, with fewer agents).
func formed(t fatal, agents, shards int) *replica {
	t.Helper()
	r := newReplica(t)
	r.must(started)
	names := []event.AgentID{"agent-1", "agent-2", "agent-3", "agent-4", "agent-5"}[:agents]
	for i, a := range names {
		r.must(event.AgentRegistered{AgentID: a, MaxStorageNodes: 2, StoreID: "store-" + string(a)})
		id := r.m.View().NextNodeID()
		r.must(event.SpawnRequested{NodeID: id, AgentID: a})
		r.must(event.SpawnSucceeded{NodeID: id, AgentID: a, PID: uint32(100 + i), Endpoint: "host:" + string(id), StoreID: "s-" + string(id), Start: 1})
	}
	replicas := uint32(1)
	if agents >= 3 {
		replicas = 3
	}
	if shards == 0 {
		return r
	}
	r.must(event.ShardMapCreated{Strategy: "hash", Shards: uint32(shards), Replicas: replicas})
	for i := range shards {
		r.must(shardCreated(i, int(replicas)))
		r.must(event.ShardLeaderChanged{ShardID: event.ShardID(shardName(i)), NodeID: "node-1", Term: 1})
	}
	return r
}

// raise puts the newest level in force.
func raise(r *replica) {
	r.t.Helper()
	r.must(event.MasterJoined{MasterID: "master-1", Suffrage: "voter", ReplicaID: "master-1", Level: SupportedLevel})
	r.must(event.LevelRaised{To: SupportedLevel})
}

func shardName(i int) string { return "shard-" + string(rune('0'+i)) }

// shardCreated is shard i with voters on node-1, node-2, …
func shardCreated(i, replicas int) event.ShardCreated {
	b := event.ShardCreated{ShardID: event.ShardID(shardName(i))}
	for n := range replicas {
		node := nodeID(uint64(n + 1))
		b.Voters = append(b.Voters, event.Voter{NodeID: node, ReplicaID: event.NewReplicaID(string(node), storeHex+string(rune('0'+i))+string(rune('0'+n)))})
	}
	return b
}

func kind(a Answer) event.Kind {
	if a.Err == nil {
		return ""
	}
	return a.Err.Kind
}

func wantKind(t *testing.T, what string, a Answer, want event.Kind) {
	t.Helper()
	if kind(a) != want {
		t.Errorf("%s: answer %+v (%v), want kind %q", what, a, a.Err, want)
	}
}
