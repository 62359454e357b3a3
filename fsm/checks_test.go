package fsm

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestBatchesDoNotMatter: entry by entry and 1,024 at a time a log gives the same feed, state and checks; so does a replica
// that goes on from a snapshot, as far as it can know.
func TestBatchesDoNotMatter(t *testing.T) {
	r := newReplica(t)
	r.must(event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Level: 2})
	r.must(event.AgentRegistered{AgentID: "agent-1"})
	for range 3100 {
		r.now += second
		raw := encoded(event.NewCommand("agent-1", event.AgentHeartbeat{AgentID: "agent-1", StorageNodeCount: uint32(r.now)}))
		r.index++
		r.log = append(r.log, Entry{Meta: EntryMeta{Index: r.index, Time: r.now, Level: 2}, Commands: [][]byte{raw}})
	}
	r.log = r.log[2:] // the first two are applied
	one, many, again := reborn(t, r.m.View()), reborn(t, r.m.View()), reborn(t, r.m.View())
	var feeds [3][]Record
	for i, e := range r.log {
		for j, m := range []*Machine{one, again} {
			_, records, err := m.Apply(e.Meta, e.Commands)
			if err != nil {
				t.Fatal(err)
			}
			feeds[j] = append(feeds[j], records...)
		}
		if i == 1500 {
			again = reborn(t, again.View())
		}
	}
	for batch := range slices.Chunk(r.log, 1024) {
		_, records, err := many.ApplyBatch(batch)
		if err != nil {
			t.Fatal(err)
		}
		feeds[2] = append(feeds[2], records...)
	}
	want := snapshotOf(t, one.View())
	for name, m := range map[string]*Machine{"1,024 at a time": many, "restarted": again} {
		if !bytes.Equal(snapshotOf(t, m.View()), want) || m.View().Chain() != one.View().Chain() {
			t.Errorf("%s: another state", name)
		}
	}
	for i := range feeds[0] {
		if !bytes.Equal(feeds[0][i].Bytes, feeds[1][i].Bytes) || !bytes.Equal(feeds[0][i].Bytes, feeds[2][i].Bytes) {
			t.Fatalf("record %d differs", i)
		}
	}
	checks := one.Checks()
	if len(checks) != 3 || checks[0].Index != 1024 || checks[2].Index != 3072 || checks[2].Seq != checks[1].Seq+1024 {
		t.Fatalf("checks %v", checks)
	}
	if !slices.Equal(many.Checks(), checks) || !slices.Equal(again.Checks(), checks[1:]) {
		t.Errorf("1,024 at a time: %v; restarted: %v; want %v", many.Checks(), again.Checks(), checks)
	}
}

// TestCheckIsOfItsEntry: what is noted for a multiple of 1,024 is the state with that entry and without the next one,
// whether or not there is such an entry, and only the newest are kept.
func TestCheckIsOfItsEntry(t *testing.T) {
	r := formed(t, 1, 0)
	at := func(index uint64) *State {
		r.index = index - 1
		r.must(event.AgentHeartbeat{AgentID: "agent-1", StorageNodeCount: uint32(index)})
		return r.m.View()
	}
	want := func(when string, indexes []uint64, states ...*State) {
		t.Helper()
		got := r.m.Checks()
		if len(got) != len(indexes) {
			t.Fatalf("%s: %v, want %v", when, got, indexes)
		}
		for i, c := range got {
			s := states[i]
			if c != (Check{Index: indexes[i], Seq: s.Seq(), Chain: s.Chain(), Digest: s.Digest(), Local: s.LocalDigest()}) {
				t.Errorf("%s: %+v is not of event %d", when, c, s.Seq())
			}
		}
	}
	at(1023)
	exact := at(1024)
	want("at the entry itself", nil)
	at(1025)
	want("behind it", []uint64{1024}, exact)
	before := at(3000)
	at(3073) // 3072 was raft's own
	want("with a gap", []uint64{1024, 2048, 3072}, exact, r.states(1025), before)
	r.m = reborn(t, r.m.View())
	want("restarted", nil)
	at(1024 * 200)
	if got := r.m.Checks(); len(got) != ChecksKept || got[0].Index != 1024*(200-ChecksKept) || got[ChecksKept-1].Index != 1024*199 {
		t.Errorf("a long gap: %d checks from %d", len(got), got[0].Index)
	}
}

// states is the state behind the entry at index, made again from the log.
func (r *replica) states(index uint64) *State {
	r.t.Helper()
	m := NewMachine()
	for _, e := range r.log {
		if e.Meta.Index > index {
			break
		}
		if _, _, err := m.Apply(e.Meta, e.Commands); err != nil {
			r.t.Fatalf("apply: %v", err)
		}
	}
	return m.View()
}

// checked is a grid of level 2 with a comparison on record.
func checked(t fatal) *replica {
	r := newReplica(t)
	r.must(event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Level: 2})
	r.must(event.MasterJoined{MasterID: "master-1", Suffrage: "voter", Level: 2})
	r.index = 2000
	r.must(event.StateChecked{AtIndex: 1024, AtSeq: 2, Digest: [32]byte{1}, LocalDigest: [32]byte{2}, Agree: []event.ReplicaID{"master-1.a", "master-2.b"}, Differ: []event.ReplicaID{"master-3.c"}})
	return r
}

// TestSnapshotOfLevel2 is TestSnapshotGolden for what level 2 brought.
func TestSnapshotOfLevel2(t *testing.T) {
	r := checked(t)
	got := snapshotOf(t, r.m.View())
	path := filepath.Join("testdata", "snapshot-level2.golden")
	if *rewriteSnapshot {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(bytes.TrimSpace(text)) != hex.EncodeToString(got) {
		t.Error("the snapshot of the same history has other bytes")
	}
	back := reborn(t, r.m.View()).View()
	c := back.LastCheck()
	if c.Index != 1024 || c.Digest != [32]byte{1} || c.Local != [32]byte{2} || !slices.Equal(c.Differ, []event.ReplicaID{"master-3.c"}) || c.Seq != back.Seq() {
		t.Errorf("the last check is %+v", c)
	}
	if back.Digest() != r.m.View().Digest() {
		t.Error("the digests differ")
	}
	for at := range got { // the check is covered by the digest
		bad := bytes.Clone(got)
		bad[at] ^= 1
		if bad = resum(bad); bytes.Equal(bad, got) {
			continue
		}
		if _, err := ReadState(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d can be changed", at)
		}
	}
}

// TestOlderVersion: a machine that does not know a level's rules stops where they come into force, and takes no state of it.
func TestOlderVersion(t *testing.T) {
	r := formed(t, 1, 0)
	r.must(event.MasterJoined{MasterID: "master-1", Suffrage: "voter", Level: 2})
	r.must(event.LevelRaised{To: 2})
	r.must(event.ClockSkew{MasterID: "master-1", SkewMS: 5000})
	old := NewMachineAt(1)
	for i, e := range r.log {
		_, _, err := old.Apply(e.Meta, e.Commands)
		if raised := i >= len(r.log)-2; (err != nil) != raised {
			t.Fatalf("entry %d of %d: %v", i, len(r.log), err)
		}
	}
	if old.View().Level() != 1 {
		t.Error("it published the state behind the raise")
	}
	old = NewMachineAt(1)
	if err := old.Restore(r.m.View()); err == nil || old.View().Seq() != 0 {
		t.Errorf("a state of level 2 was taken: %v", err)
	}
	if err := old.Replay(r.feed); err == nil {
		t.Error("a feed of level 2 was replayed")
	}
	m := NewMachineAt(1)
	if _, _, err := m.Apply(EntryMeta{Index: 1, Level: 2}, nil); err == nil {
		t.Error("an entry of level 2 was applied")
	}
}

// TestDiffers: a state that is not the majority's finds out from the log, also when it refuses the event, and only once it
// knows what it had there.
func TestDiffers(t *testing.T) {
	r := checked(t)
	r.index = 3000
	r.must(event.SettingChanged{Key: "k"})
	own := r.m.Checks()[1]
	agree := []event.ReplicaID{"master-1.a", "master-2.b"}
	same := event.StateChecked{AtIndex: 2048, AtSeq: own.Seq, Digest: own.Digest, LocalDigest: own.Local, Agree: agree}
	for name, b := range map[string]event.StateChecked{
		"history":         {AtIndex: 2048, AtSeq: own.Seq, Digest: [32]byte{1}, LocalDigest: own.Local, Agree: agree},
		"local":           {AtIndex: 2048, AtSeq: own.Seq, Digest: own.Digest, Agree: agree},
		"a future event":  {AtIndex: 2048, AtSeq: own.Seq + 99, Digest: [32]byte{1}, Agree: agree},
		"of an old entry": {AtIndex: 1024, Digest: [32]byte{9}, Agree: agree},
	} {
		m := NewMachine()
		if _, _, err := m.ApplyBatch(r.log); err != nil {
			t.Fatal(err)
		}
		m.differs = nil // the comparison in checked is made up
		for i, body := range []event.StateChecked{same, b} {
			if _, _, err := m.Apply(EntryMeta{Index: 3002 + uint64(i), Time: r.now, Level: 2}, [][]byte{encoded(event.NewCommand("master-1", body))}); err != nil {
				t.Fatal(err)
			}
			if differs := m.Differs() != nil; differs != (i == 1) {
				t.Errorf("%s: comparison %d: differs %v", name, i, differs)
			}
		}
		m = reborn(t, m.View())
		if _, _, err := m.Apply(EntryMeta{Index: 3004, Time: r.now, Level: 2}, [][]byte{encoded(event.NewCommand("master-1", b))}); err != nil || m.Differs() != nil {
			t.Errorf("%s: restored: %v, %v", name, m.Differs(), err)
		}
	}
}
