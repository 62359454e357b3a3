package fsm

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestHandlersComplete: each emitted type has a handler, and no other.
func TestHandlersComplete(t *testing.T) {
	for _, typ := range event.Types() {
		h, ok := handlers[typ]
		if ok != event.Info(typ).Emitted {
			t.Errorf("%s: emitted %v, has a handler %v", typ, event.Info(typ).Emitted, ok)
		}
		if ok && h.evolve == nil {
			t.Errorf("%s has no evolve", typ)
		}
	}
	if len(handlers) == 0 {
		t.Error("no handlers")
	}
}

// TestDerivedCannotBeProposed: who could propose these could lie about the grid.
func TestDerivedCannotBeProposed(t *testing.T) {
	r := formed(t, 3, 1)
	for _, b := range []event.Body{
		event.AgentRecovered{AgentID: "agent-1"}, event.ClusterHealthy{}, event.ClusterDegraded{}, event.ClusterCritical{},
		event.ShardFormed{ShardID: "shard-0"}, event.ShardQuorumLost{ShardID: "shard-0"}, event.ShardQuorumRestored{ShardID: "shard-0"},
	} {
		wantKind(t, b.Type().String(), r.do(b), event.KindInvalid)
	}
}

// TestRefusalLeavesHistory: the digest of the history does not move on a refusal.
func TestRefusalLeavesHistory(t *testing.T) {
	r := formed(t, 3, 1)
	before := r.m.View()
	for _, b := range []event.Body{
		event.AgentHeartbeat{AgentID: "nobody"}, event.AgentUnregistered{AgentID: "agent-1"}, event.StopRequested{NodeID: "node-1", AgentID: "agent-1"},
		event.ShardLeaderChanged{ShardID: "shard-0", NodeID: "node-2", Term: 1}, event.SinkRemoved{Sink: "x"}, event.TxnCommitted{},
	} {
		if a := r.do(b); a.Err == nil {
			t.Errorf("%s was accepted", b.Type())
		}
	}
	after := r.m.View()
	if before.Digest() != after.Digest() || before.Seq() != after.Seq() {
		t.Error("a refusal changed the history")
	}
	if before.LocalDigest() == after.LocalDigest() {
		t.Error("the raft index is not part of the local state")
	}
}

// TestStops: what cannot be applied ends the machine, and nothing of the batch is published.
func TestStops(t *testing.T) {
	good, err := event.AppendCommand(nil, event.NewCommand("test", started))
	if err != nil {
		t.Fatal(err)
	}
	unknown := bytes.Clone(good)
	i := bytes.Index(unknown, []byte{0xcd, 307 >> 8, 307 & 0xff})
	unknown[i+1], unknown[i+2] = 0xea, 0x60
	for name, e := range map[string]Entry{
		"not a command":       {EntryMeta{Index: 9, Level: 1}, [][]byte{good, {0xc1}}},
		"unknown type":        {EntryMeta{Index: 9, Level: 1}, [][]byte{good, unknown}},
		"an index again":      {EntryMeta{Index: 5, Level: 1}, [][]byte{good}},
		"a level too high":    {EntryMeta{Index: 9, Level: SupportedLevel + 1}, [][]byte{good}},
		"an empty command":    {EntryMeta{Index: 9, Level: 1}, [][]byte{nil}},
		"bytes behind it":     {EntryMeta{Index: 9, Level: 1}, [][]byte{append(bytes.Clone(good), 0)}},
		"a body not its type": {EntryMeta{Index: 9, Level: 1}, [][]byte{good[:len(good)-1]}},
	} {
		m := NewMachine()
		if _, _, err := m.Apply(EntryMeta{Index: 5, Level: 1}, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Apply(e.Meta, e.Commands); err == nil {
			t.Errorf("%s: applied", name)
		}
		if m.View().Seq() != 0 || m.View().RaftIndex() != 5 {
			t.Errorf("%s: published event %d", name, m.View().Seq())
		}
		if _, _, err := m.Apply(EntryMeta{Index: 10, Level: 1}, [][]byte{good}); err == nil {
			t.Errorf("%s: the machine goes on", name)
		}
		if err := m.Replay(nil); err == nil {
			t.Errorf("%s: the machine replays", name)
		}
	}
}

// TestTime: strictly increasing whatever the leaders' clocks say.
func TestTime(t *testing.T) {
	r := newReplica(t)
	r.must(started) // and what it brings about
	r.now -= 3600 * second
	r.must(event.AgentRegistered{AgentID: "a"})
	r.now += 7200 * second
	r.must(event.AgentHeartbeat{AgentID: "a"})
	last := int64(0)
	for _, e := range r.events(1) {
		if e.Time <= last {
			t.Errorf("event %d at %d, the one before at %d", e.Seq, e.Time, last)
		}
		last = e.Time
	}
	if last != epoch+3600*second {
		t.Errorf("the last event is at %d, the leader said %d", last, epoch+3600*second)
	}
}

// TestBadText: content that the feed could not hold is refused, and free text is mended.
func TestBadText(t *testing.T) {
	r := formed(t, 1, 0)
	wantKind(t, "name", r.do(event.AgentRegistered{AgentID: "agent-2", Hostname: "\xff"}), event.KindInvalid)
	wantKind(t, "cause", r.apply(&event.Command{Type: event.TypeAgentHeartbeat, Body: event.AgentHeartbeat{AgentID: "agent-1"}, Cause: 99})[0], event.KindInvalid)
	r.must(event.NodeCrashed{NodeID: "node-1", AgentID: "agent-1", StderrTail: strings.Repeat("\xff", 9000), Start: 1})
	for _, e := range r.events(1) {
		if _, err := event.JSON(e); err != nil {
			t.Error(err)
		}
	}
}

// TestTooLargeIsRefused: a body that only grows over the limit when it is written in full is an answer, not the end.
func TestTooLargeIsRefused(t *testing.T) {
	r := formed(t, 1, 0)
	reports := make([]event.NodeReport, maxNodesOfAgent)
	for i := range reports {
		reports[i] = event.NodeReport{NodeID: "node-1", Status: "running", Endpoint: strings.Repeat("x", 60)}
	}
	b := event.AgentHeartbeat{AgentID: "agent-1", Nodes: reports}
	if _, err := event.AppendBody(nil, b); err == nil {
		t.Fatal("the body is not too large")
	}
	c := event.NewCommand("test", b)
	run := run{s: r.m.work, meta: EntryMeta{Index: 99}}
	before := r.m.work.Digest()
	a, err := run.command(c)
	if err != nil || kind(a) != event.KindTooLarge || len(run.records) != 0 || r.m.work.Digest() != before {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestReadersSeeWholeBatches while the machine applies; the race detector looks on.
func TestReadersSeeWholeBatches(t *testing.T) {
	r := formed(t, 3, 2)
	done := make(chan struct{})
	fault := make(chan error, 1)
	go func() {
		defer close(fault)
		for {
			s := r.m.View()
			if err := check(s); err != nil {
				fault <- err
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	for i := range 300 {
		r.now += second
		r.must(event.AgentHeartbeat{AgentID: "agent-1", StorageNodeCount: uint32(i)})
		r.must(event.SettingChanged{Key: "k", Value: "v"})
	}
	close(done)
	if err := <-fault; err != nil {
		t.Error(err)
	}
}
