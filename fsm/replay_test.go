package fsm

import (
	"bytes"
	"slices"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// checkReplay: the feed alone, through evolve alone, gives the same history; and the log alone the same state.
func checkReplay(t fatal, r *replica) {
	t.Helper()
	want := r.m.View()
	m := NewMachine()
	if err := m.Replay(r.feed); err != nil {
		t.Fatalf("replay: %v", err)
	}
	if got := m.View(); got.Digest() != want.Digest() || got.Chain() != want.Chain() {
		t.Fatalf("replayed to event %d with digest %x, want %d with %x", got.Seq(), got.Digest(), want.Seq(), want.Digest())
	}
	if err := check(m.View()); err != nil {
		t.Fatalf("replayed: %v", err)
	}
	all := NewMachine()
	if _, records, err := all.ApplyBatch(r.log); err != nil || len(records) != len(r.feed) {
		t.Fatalf("the log in one batch: %d records, want %d, %v", len(records), len(r.feed), err)
	}
	if !bytes.Equal(snapshotOf(t, all.View()), snapshotOf(t, want)) {
		t.Fatalf("the log in one batch gives another state")
	}
	if kept, once := r.m.Checks(), all.Checks(); !slices.Equal(kept, once[len(once)-len(kept):]) {
		t.Fatalf("the log in one batch gives other checks: %v, want %v", once, kept)
	}
}

// TestReplayRefuses what does not follow, or is not what was recorded.
func TestReplayRefuses(t *testing.T) {
	r := formed(t, 3, 1)
	swapped := bytes.Clone(r.feed[3])
	swapped[len(swapped)-40] ^= 1
	other := newReplica(t)
	other.must(started)
	for name, feed := range map[string][][]byte{
		"a gap":          append(r.feed[:2:2], r.feed[3]),
		"twice":          append(r.feed[:2:2], r.feed[1]),
		"a changed byte": append(r.feed[:3:3], swapped),
		"not an event":   {{0x90}},
		"not the first":  r.feed[1:],
	} {
		m := NewMachine()
		if err := m.Replay(feed); err == nil {
			t.Errorf("%s: replayed to %d", name, m.View().Seq())
		}
	}
}

// TestReplayOfAnInconsistentFeed: a chain that was computed again over events that make no sense is an error, not a panic.
func TestReplayOfAnInconsistentFeed(t *testing.T) {
	base := formed(t, 1, 0)
	for _, b := range []event.Body{
		event.AgentDegraded{AgentID: "x"}, event.AgentOffline{AgentID: "x"}, event.AgentRecovered{AgentID: "x"},
		event.SpawnRequested{NodeID: "node-1"}, event.SpawnRequested{NodeID: "y"}, event.SpawnSucceeded{NodeID: "node-9"}, event.SpawnFailed{NodeID: "x"},
		event.StopRequested{NodeID: "x"}, event.StopSucceeded{NodeID: "x"}, event.StopFailed{NodeID: "x"}, event.NodeCrashed{NodeID: "x"},
		event.NodeRestarted{NodeID: "x"}, event.ShardCreated{ShardID: "shard-1"}, event.ShardCreated{ShardID: "x"}, event.ShardFormed{ShardID: "shard-0"},
		event.ShardLeaderChanged{ShardID: "x"}, event.ShardQuorumLost{ShardID: "x"}, event.ShardQuorumRestored{ShardID: "x"},
		event.MasterUnreachable{MasterID: "x"}, event.MasterRecovered{MasterID: "x"}, event.IncarnationStarted{Level: 99}, event.LevelRaised{To: 99},
	} {
		s := base.m.View()
		b, err := event.Seal(nil, s.Chain(), &event.Envelope{Seq: s.Seq() + 1, Type: b.Type(), Time: s.Time() + 1, Body: b})
		if err != nil {
			t.Fatal(err)
		}
		m := NewMachine()
		if err := m.Replay(append(base.feed[:len(base.feed):len(base.feed)], b)); err == nil {
			t.Errorf("%x was replayed", b)
		}
	}
}
