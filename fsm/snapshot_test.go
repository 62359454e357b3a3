package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// full is a grid with something in every section of its state.
func full(t fatal) *replica {
	t.Helper()
	r := formed(t, 3, 2)
	r.must(event.MasterJoined{MasterID: "master-1", Suffrage: "voter", Level: 1})
	r.must(event.SinkAdded{Sink: "events", Address: "h:1", Class: "grid"})
	r.must(event.SettingChanged{Key: "k", Value: "v"})
	r.must(event.AssociationTypeAdded{Name: "hypernym"})
	r.must(event.FeedAcked{Sink: "events", SinkID: "x", Through: 3})
	r.must(event.AgentHeartbeat{AgentID: "agent-1", StorageNodeCount: 1, Load: event.Load{CPU: 0.5}, Nodes: []event.NodeReport{{NodeID: "node-1", Status: "running"}}})
	begin := r.m.View().Position()
	r.must(event.TxnCommitted{TxnID: event.TxnID{1}, Attempt: 7, Begin: begin, Issued: epoch, Shards: []event.ShardID{"shard-0", "shard-1"}})
	r.must(event.TxnAborted{TxnID: event.TxnID{2}, Attempt: 8, Begin: begin, Shards: []event.ShardID{"shard-0"}})
	c := event.NewCommand("agent-1", event.NodeCrashed{NodeID: "node-1", AgentID: "agent-1", Start: 1})
	c.Emitter, c.EmitterSeq = "agent-1.store-agent-1", 1
	r.apply(c)
	refused := event.NewCommand("user", event.SettingChanged{Key: "k", Value: "w", Version: 9})
	refused.RequestID, refused.Issued = event.RequestID{9}, epoch
	r.apply(refused)
	for r.m.View().Seq() < 1030 {
		r.must(event.AgentHeartbeat{AgentID: "agent-2"})
	}
	return r
}

var rewriteSnapshot = flag.Bool("rewrite-snapshot", false, "write the golden snapshot anew; only while no version is released")

// TestSnapshotGolden: a snapshot of any released version stays readable, and the same state is the same bytes for ever.
func TestSnapshotGolden(t *testing.T) {
	r := full(t)
	got := snapshotOf(t, r.m.View())
	path := filepath.Join("testdata", "snapshot.golden")
	if *rewriteSnapshot {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the snapshot of the same history has other bytes (%d, golden %d)", len(got), len(want))
	}
	s, err := ReadState(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if s.Digest() != r.m.View().Digest() || s.LocalDigest() != r.m.View().LocalDigest() {
		t.Error("the digests differ")
	}
	for name, n := range map[string]int{
		"agents": s.agents.len(), "nodes": s.nodes.len(), "shards": s.shards.len(), "txns": s.txns.len(), "masters": s.masters.len(), "settings": s.settings.len(),
		"types": s.types.len(), "sinks": s.sinks.len(), "pulses": s.pulses.len(), "requests": s.requests.len(), "emitters": s.emitters.len(), "cursors": s.cursors.len(),
		"backlog": s.backlog.len(),
	} {
		if n == 0 {
			t.Errorf("the golden snapshot has no %s", name)
		}
	}
}

// TestSnapshotIsExact: it ends where it ends, however its bytes come, and damage anywhere is found.
func TestSnapshotIsExact(t *testing.T) {
	r := full(t)
	b := snapshotOf(t, r.m.View())
	behind := bytes.NewReader(append(bytes.Clone(b), "outbox"...))
	if _, err := ReadState(iotest.OneByteReader(behind)); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(behind); string(rest) != "outbox" {
		t.Errorf("%q is left behind it", rest)
	}
	for n := range len(b) {
		if _, err := ReadState(bytes.NewReader(b[:n])); err == nil {
			t.Fatalf("cut at %d: read", n)
		} else if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for at := range b {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if _, err := ReadState(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d can be changed", at)
		}
	}
}

// resum gives the chunks of a snapshot right checksums, so that what is behind them is tested.
func resum(b []byte) []byte {
	out := bytes.Clone(b)
	at := len(snapshotMagic)
	for n := uint64(0); at+8 <= len(out); n++ {
		size := int(binary.BigEndian.Uint32(out[at:]))
		if size > len(out)-at-8 {
			break
		}
		binary.BigEndian.PutUint32(out[at+4+size:], chunkSum(n, out[at+4:at+4+size]))
		at += 8 + size
	}
	return out
}

// TestSnapshotDigest: content that differs under right checksums is refused by its digests.
func TestSnapshotDigest(t *testing.T) {
	b := snapshotOf(t, formed(t, 1, 1).m.View())
	for at := len(snapshotMagic) + 4; at < len(b); at++ {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if bad = resum(bad); bytes.Equal(bad, b) {
			continue // a checksum, now right again
		}
		if _, err := ReadState(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d can be changed", at)
		}
	}
}

// TestSnapshotErrors of the writer come through.
func TestSnapshotErrors(t *testing.T) {
	full := errors.New("disk full")
	for n := range 3 {
		if _, err := formed(t, 1, 1).m.View().WriteTo(&failing{left: n * 50, err: full}); !errors.Is(err, full) {
			t.Errorf("behind %d bytes: %v", n*50, err)
		}
	}
}

type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestSnapshotManyChunks: a state of several chunks, with rows of every size.
func TestSnapshotManyChunks(t *testing.T) {
	r := formed(t, 1, 0)
	for i := range 900 {
		b := event.NewCommand("user", event.SettingChanged{Key: "k" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)), Value: string(bytes.Repeat([]byte{'x'}, 1+i*4%4096))})
		raw, err := event.AppendCommand(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		r.index++
		if _, _, err := r.m.Apply(EntryMeta{Index: r.index, Time: r.now, Level: 1}, [][]byte{raw}); err != nil {
			t.Fatal(err)
		}
	}
	b := snapshotOf(t, r.m.View())
	if len(b) < 3*chunkTarget {
		t.Fatalf("%d bytes are too few chunks", len(b))
	}
	if !bytes.Equal(snapshotOf(t, reborn(t, r.m.View()).View()), b) {
		t.Error("the snapshot of what was read has other bytes")
	}
}

// FuzzReadState: no snapshot, however damaged, does worse than an error; one that is read is written again the same.
func FuzzReadState(f *testing.F) {
	f.Add(snapshotOf(f, NewMachine().View()))
	f.Add(snapshotOf(f, formed(f, 1, 1).m.View()))
	f.Add(snapshotOf(f, formed(f, 3, 2).m.View()))
	f.Add([]byte(snapshotMagic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadState(bytes.NewReader(resum(b)))
		if err != nil {
			return
		}
		again, err := ReadState(bytes.NewReader(snapshotOf(t, s)))
		if err != nil || again.Digest() != s.Digest() || again.LocalDigest() != s.LocalDigest() {
			t.Fatalf("what was read is written as something else: %v", err)
		}
	})
}

// FuzzSnapshotRows goes behind checksums and digests: rows of any content are an error or a state that can be looked at.
func FuzzSnapshotRows(f *testing.F) {
	for _, s := range []*State{NewMachine().View(), formed(f, 1, 1).m.View(), full(f).m.View()} {
		b := snapshotOf(f, s)
		f.Add(b[len(snapshotMagic)+4 : len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := loader{s: newState()}
		if err := l.chunk(b); err != nil {
			return
		}
		l.s.limits = limitsOf(l.s)
		l.s.refreshMap()
		for a := range l.s.Agents() {
			l.s.Assignments(a.ID)
		}
		for x := range l.s.OpenTxns() {
			l.s.TxnOutcome(x.ID, x.Attempt, x.Begin)
		}
		l.s.Outbox()
		l.s.Cluster()
		if _, err := l.s.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
