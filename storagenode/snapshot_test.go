package storagenode

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestSnapshotOfAnOlderVersion: before records stood in their place, raft's store held snapshots with their content. One of
// these is restored, and what it says of the group is believed.
func TestSnapshotOfAnOlderVersion(t *testing.T) {
	const stored, owner = "2-9-1795408008521", "node-0.c31aa6103b5e8ad8dbd6b36757366040"
	dir, network := t.TempDir(), transport.NewMemory()
	joining := raftgroup.CreateConfig{GroupID: string(aloneShard), LocalID: owner, Join: true, SegmentBytes: 1 << 20}
	if err := raftgroup.Create(filepath.Join(dir, raftDir), joining); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, raftDir, "snapshots", stored), os.DirFS(filepath.Join("testdata", stored))); err != nil {
		t.Fatal(err)
	}
	fatal := func(err error) { t.Error(err) }
	e, err := engine.Open(filepath.Join(dir, engineDir), engine.Options{ShardID: aloneShard, Dimension: 4, Log: testLog(t), Fatal: fatal})
	if err != nil {
		t.Fatal(err)
	}
	l, err := network.Listen("old:1")
	if err != nil {
		t.Fatal(err)
	}
	host := raftgroup.NewHost(l, raftgroup.HostConfig{GridID: testGrid, Incarnation: event.Incarnation{N: 1}, Log: testLog(t)})
	served := make(chan error, 1)
	go func() { served <- host.Serve(context.Background()) }()
	g, err := raftgroup.Open(raftgroup.Config{
		GroupID: string(aloneShard), LocalID: owner, Dir: filepath.Join(dir, raftDir), Host: host, Network: network,
		Addresses: func(event.ReplicaID) (string, error) { return "old:1", nil }, Timeouts: raftgroup.LANShards(), FSM: e, Applied: e.Applied,
		SnapshotThreshold: 1000, TrailingLogs: 1000, SegmentBytes: 1 << 20, Fatal: fatal, Log: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := e.IDs("", 10)
	if err != nil || !slices.Equal(ids, []string{"a", "b", "c", "v"}) || e.Applied() != 9 {
		t.Errorf("restored %q at entry %d (%v)", ids, e.Applied(), err)
	}
	if got := e.Stats(); got != (engine.Stats{Concepts: 4, Edges: 2, Vectors: 1, Written: 6}) {
		t.Errorf("%+v", got)
	}
	if p := g.Peers(); len(p) != 1 || p[0].ID != owner || p[0].Suffrage != raftgroup.Voter {
		t.Errorf("the group is %+v", p)
	}
	for _, err := range []error{g.Close(), host.Close(), <-served, e.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
}
