package storagenode

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

func mapMessage(seq uint64) *transport.ShardMapOk {
	m := testMap(shardmap.Forming, 2, "node-1", "node-2", "node-3")
	m.Epoch.Seq = seq
	for s := range m.Shards {
		for r := range m.Shards[s].Replicas {
			m.Shards[s].Replicas[r].AgentID, m.Shards[s].Replicas[r].Endpoint = "agent-1", "127.0.0.1:50053"
		}
	}
	return &transport.ShardMapOk{Map: *m, GridID: testGrid, Incarnation: event.Incarnation{N: 1, Random: [8]byte{7}}, Horizon: event.Position{N: 1, Seq: 3}}
}

// changedMessage has what came with changes of members.
func changedMessage() *transport.ShardMapOk {
	msg := mapMessage(8)
	s := &msg.Map.Shards[0]
	s.Configuration, s.Replicas[0].Leaving, s.Replicas[2].Role = 17, true, shardmap.Learner
	return msg
}

// TestMapFileGolden: a file that any version wrote stays readable. shardmap.mp is from before members changed.
func TestMapFileGolden(t *testing.T) {
	before, err := readMap(filepath.Join("testdata", mapFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mapMessage(7), before); diff != "" {
		t.Error(diff)
	}
	golden := filepath.Join("testdata", "shardmap-members.mp")
	path := filepath.Join(t.TempDir(), mapFile)
	if err := writeMap(path, changedMessage()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the file's bytes have changed:\ngot  %x\nwant %x", got, want)
	}
	back, err := readMap(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changedMessage(), back); diff != "" {
		t.Error(diff)
	}
}

func TestMapCacheTakesOnlyWhatIsNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), mapFile)
	open := func() *mapCache {
		c, err := newMapCache("node-1", testGrid, path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	if c.current().known() {
		t.Fatal("a map is known without a file")
	}
	if _, err := c.address(replicaID("node-1", 0)); err == nil {
		t.Error("an address without a map")
	}
	for _, step := range []struct {
		seq, want uint64
	}{{7, 7}, {6, 7}, {7, 7}, {9, 9}} {
		if err := c.update(mapMessage(step.seq)); err != nil {
			t.Fatal(err)
		}
		if got := c.current().Epoch.Seq; got != step.want {
			t.Errorf("after %d the map is of %d, want %d", step.seq, got, step.want)
		}
		if got := open().current().Epoch.Seq; got != step.want {
			t.Errorf("after %d the file is of %d, want %d", step.seq, got, step.want)
		}
	}
	if addr, err := c.address(replicaID("node-1", 0)); err != nil || addr != "127.0.0.1:50053" {
		t.Errorf("address %q, %v", addr, err)
	}
	foreign := mapMessage(100)
	foreign.GridID = "another"
	if err := c.update(foreign); err == nil {
		t.Error("another grid's map was taken")
	}
	older := mapMessage(100)
	older.Incarnation.Random[0]++
	wantKind(t, c.update(older), event.KindOldIncarnation)
	if got := c.current().Epoch.Seq; got != 9 {
		t.Errorf("a refused map changed the present one to %d", got)
	}
}

func TestADamagedMapFileIsNotUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), mapFile)
	if err := writeMap(path, mapMessage(7)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if _, err := decodeMap(bad); err == nil {
			t.Fatalf("a flipped bit in byte %d of %d was not found", i, len(whole))
		}
	}
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := newMapCache("node-1", testGrid, path)
	if err == nil || !strings.Contains(err.Error(), path) || c.current().known() {
		t.Errorf("a cut file: %v", err)
	}
}

func FuzzDecodeMap(f *testing.F) {
	for _, seed := range []*transport.ShardMapOk{mapMessage(7), {}} {
		b, err := transport.EncodeMessage(nil, seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(appendSum(b))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		msg, err := decodeMap(b)
		if (err == nil) == (msg == nil) {
			t.Fatalf("message %v and error %v", msg, err)
		}
		if !bytes.Equal(before, b) {
			t.Fatal("the input was changed")
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"replicas":[{"shard_id":"shard-0","replica_id":"node-1.00000000000000000000000000000000"}]}`))
	f.Add([]byte(`{"replicas":[{"shard_id":"../x","replica_id":"n"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, manifestFile), b, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := loadManifest(dir)
		if err != nil {
			return
		}
		for _, e := range m.Replicas {
			if filepath.Dir(filepath.Join(dir, string(e.ShardID))) != dir {
				t.Fatalf("shard id %q leaves the directory", e.ShardID)
			}
		}
	})
}
