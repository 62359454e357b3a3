package storagenode

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

const joinedShard = event.ShardID("shard-0")

// catchUpCluster is a group of one voter with something in its log and its store, and a node beside it that is to join.
type catchUpCluster struct {
	*testCluster
	source source
	group  *raftgroup.Group // the source's
	a      assignment
	read   atomic.Int64 // bytes that the joining node has read of others
	limit  atomic.Int64 // and how many it may; 0: any number
}

// limited is a network on which a node's connections end when it has read too much.
type limited struct {
	transport.Network
	c *catchUpCluster
}

func (l limited) Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := l.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return limitedConn{conn, l.c}, nil
}

type limitedConn struct {
	net.Conn
	c *catchUpCluster
}

func (l limitedConn) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if read, limit := l.c.read.Add(int64(n)), l.c.limit.Load(); limit > 0 && read > limit {
		return 0, errors.Join(errors.New("cut"), l.Conn.Close())
	}
	return n, err
}

func newCatchUp(t *testing.T) *catchUpCluster {
	c := &catchUpCluster{a: assignment{shard: joinedShard, replica: replicaID("node-2", 77)}}
	c.testCluster = newCluster(t, 1, 1, func(cfg *Config) {
		if cfg.Grid.NodeID == "node-2" {
			cfg.Network = limited{cfg.Network, c}
		}
	})
	noise := rand.NewChaCha8([32]byte{1}) // or the store makes little of it
	for i := range 50 {
		full := concept(fmt.Sprint("c-", i))
		b := make([]byte, 60<<10)
		_, _ = noise.Read(b) // never fails
		full.Content = base64.StdEncoding.EncodeToString(b)
		full.Embedding = []float32{float32(i), 1, 2, 3}
		must[transport.LearnConceptOk](t)(c.route(write(joinedShard, full)))
	}
	n := c.start("node-2", true)
	c.master.mu.Lock()
	state := c.master.state
	c.master.mu.Unlock()
	if err := n.takeMap(&state); err != nil { // at once
		t.Fatal(err)
	}
	c.fromLeader()
	return c
}

// fromLeader makes the present leader the source.
func (c *catchUpCluster) fromLeader() {
	r := c.nodes["node-1"].replicas.all()[0]
	c.source, c.group = source{replica: r.id, address: c.nodes["node-1"].Addr()}, r.group
}

func (c *catchUpCluster) catchUp() error {
	ctx, cancel := context.WithTimeout(c.t.Context(), testLimit)
	defer cancel()
	n := c.nodes["node-2"]
	if e, ok := n.replicas.entry(c.a.shard); ok && e.ReplicaID == c.a.replica {
		return nil
	}
	b, err := n.fetch(ctx, c.a, c.source)
	if err != nil {
		return err
	}
	return n.makeBegun(c.a, b)
}

// join makes the fetched replica a member, opens it, and compares it with the source.
func (c *catchUpCluster) join() *replica {
	c.t.Helper()
	c.master.change(func(m *shardmap.Map) {
		s, _ := m.ByID(joinedShard)
		s.Replicas = append(s.Replicas, shardmap.Replica{ReplicaID: c.a.replica, NodeID: "node-2", Endpoint: c.nodes["node-2"].Addr(), Role: shardmap.Learner})
	})
	c.stop("node-2")
	c.start("node-2", false)
	ctx, cancel := context.WithTimeout(c.t.Context(), testLimit)
	defer cancel()
	prev, _ := c.group.Configuration()
	if _, err := c.group.AddLearner(ctx, c.a.replica, prev); err != nil {
		c.t.Fatal(err)
	}
	must[transport.LearnConceptOk](c.t)(c.route(write(joinedShard, concept("behind it"))))
	r := c.nodes["node-2"].replicas.all()[0]
	applied := c.group.Applied()
	if err := r.group.Wait(ctx, applied); err != nil {
		c.t.Fatal(err)
	}
	want, _, err1 := c.nodes["node-1"].replicas.all()[0].engine.Digest(ctx)
	got, at, err2 := r.engine.Digest(ctx)
	if err1 != nil || err2 != nil || got != want {
		c.t.Fatalf("at entry %d the replicas differ (%v, %v)", at, err1, err2)
	}
	return r
}

// A replica begins with the state of another one, fetched as files, and goes on with the log; no snapshot is sent.
func TestCatchUp(t *testing.T) {
	c := newCatchUp(t)
	if err := c.catchUp(); err != nil {
		t.Fatal(err)
	}
	n := c.nodes["node-2"]
	if _, err := os.Stat(n.fetchDir(joinedShard)); !os.IsNotExist(err) {
		t.Errorf("what was fetched is still there: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(c.nodes["node-1"].shardDir(joinedShard), checkpointsDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("the source keeps %q (%v)", left, err)
	}
	if err := c.catchUp(); err != nil { // it is there: nothing to do
		t.Fatal(err)
	}
	before := c.read.Load()
	c.join()
	if sent := c.read.Load() - before; sent > 1<<20 {
		t.Errorf("%d bytes came behind it: the state was sent again", sent)
	}
	files, err := filepath.Glob(filepath.Join(n.shardDir(joinedShard), raftDir, "snapshots", "*", "state.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Size() > 200 {
		t.Errorf("%s: %v, %v", files[0], info.Size(), err)
	}
}

// A connection that ends costs what was on its way, as long as the checkpoint is there. Damage of what has arrived is found.
func TestCatchUpGoesOn(t *testing.T) {
	c := newCatchUp(t)
	whole := c.nodes["node-1"].replicas.all()[0].engine
	if err := whole.Flush(); err != nil {
		t.Fatal(err)
	}
	c.limit.Store(c.read.Load() + 5<<19) // two and a half pieces of a file
	err := c.catchUp()
	if err == nil {
		t.Fatal("fetched over a connection that was cut")
	}
	first, files := c.fetched()
	if len(files) == 0 {
		t.Fatalf("nothing arrived before the cut: %v", err)
	}
	largest := slices.MaxFunc(files, func(a, b string) int { return int(fileSize(t, a) - fileSize(t, b)) })
	if fileSize(t, largest) < 1<<20 {
		t.Fatalf("%s has %d bytes: the test shows nothing", largest, fileSize(t, largest))
	}
	c.limit.Store(0)
	before := c.read.Load()
	if err := c.catchUp(); err != nil {
		t.Fatal(err)
	}
	total := storeSize(t, c.nodes["node-2"].shardDir(joinedShard))
	if again := c.read.Load() - before; again > total-1<<20 {
		t.Errorf("%d bytes of %d came the second time: it began again", again, total)
	}
	if first == [16]byte{} {
		t.Error("no checkpoint is known from the first try")
	}
	c.join()
}

// A file that is damaged on the way to the disk is fetched again; what a longer or foreign file is, too.
func TestCatchUpFindsDamage(t *testing.T) {
	c := newCatchUp(t)
	c.limit.Store(c.read.Load() + 5<<19)
	if err := c.catchUp(); err == nil {
		t.Fatal("fetched over a connection that was cut")
	}
	c.limit.Store(0)
	_, files := c.fetched()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	longer := append(make([]byte, 10<<20), "longer than it is there"...)
	if err := os.WriteFile(files[0], longer, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(files[0]), "000099.sst"), []byte("foreign"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.catchUp(); err != nil {
		t.Fatal(err)
	}
	c.join()
}

// A source that was restarted has no checkpoint any more: its state is fetched anew, and what had arrived goes.
func TestCatchUpBeginsAgain(t *testing.T) {
	c := newCatchUp(t)
	c.limit.Store(c.read.Load() + 5<<19)
	if err := c.catchUp(); err == nil {
		t.Fatal("fetched over a connection that was cut")
	}
	c.limit.Store(0)
	first, _ := c.fetched()
	made := filepath.Join(c.nodes["node-1"].shardDir(joinedShard), checkpointsDir, "*")
	if all, err := filepath.Glob(made); err != nil || len(all) != 1 {
		t.Fatalf("%q, %v: want one checkpoint", all, err)
	}
	_, term := c.leader(joinedShard, 0)
	c.stop("node-1")
	if err := os.MkdirAll(filepath.Join(filepath.Dir(made), "left by a crash"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.start("node-1", false)
	c.leader(joinedShard, term)
	if all, err := filepath.Glob(made); err != nil || len(all) != 0 {
		t.Fatalf("%q, %v: want no checkpoint after a start", all, err)
	}
	c.fromLeader()
	c.limit.Store(c.read.Load() + 1<<20)
	if err := c.catchUp(); err == nil {
		t.Fatal("fetched over a connection that was cut")
	}
	c.limit.Store(0)
	if second, _ := c.fetched(); second == first {
		t.Error("it goes on with a checkpoint that is gone")
	}
	if err := c.catchUp(); err != nil {
		t.Fatal(err)
	}
	c.join()
}

// fetched is what the joining node has so far.
func (c *catchUpCluster) fetched() (id [16]byte, files []string) {
	c.t.Helper()
	dir := c.nodes["node-2"].fetchDir(joinedShard)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return fetched(dir), files
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// storeSize is the bytes of a replica's store.
func storeSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, engineDir, "store-*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		size += fileSize(t, f)
	}
	return size
}

func TestCheckpointRequestsAreChecked(t *testing.T) {
	c := newCatchUp(t)
	call := func(q any) (any, error) {
		ctx, cancel := context.WithTimeout(t.Context(), testLimit)
		defer cancel()
		return c.pool.Call(ctx, c.source.address, q)
	}
	open := func(by string) *transport.OpenCheckpoint {
		m := c.nodes["node-1"].maps.current()
		return &transport.OpenCheckpoint{GridID: testGrid, Incarnation: m.incarnation, ShardID: joinedShard, For: event.ReplicaID(by)}
	}
	other := open("a")
	other.GridID = "another"
	wantKind(t, second(call(other)), event.KindOldIncarnation)
	other = open("a")
	other.ShardID = "shard-9"
	wantKind(t, second(call(other)), event.KindWrongShard)
	wantKind(t, second(call(&transport.OpenCheckpoint{})), event.KindInvalid)

	got := must[transport.OpenCheckpointOk](t)(call(open("a")))
	again := open("a")
	again.Checkpoint = got.Checkpoint
	if same := must[transport.OpenCheckpointOk](t)(call(again)); same.Checkpoint != got.Checkpoint {
		t.Error("a checkpoint that is known was made again")
	}
	read := func(name string, offset uint64, bytes uint32) error {
		return second(call(&transport.ReadCheckpoint{ShardID: joinedShard, Checkpoint: got.Checkpoint, Name: name, Offset: offset, Bytes: bytes}))
	}
	file := got.Files[0]
	if err := read(file.Name, file.Bytes, 10); err != nil {
		t.Errorf("read the end: %v", err)
	}
	wantKind(t, read(file.Name, file.Bytes+1, 10), event.KindInvalid)
	wantKind(t, read("../../IDENTITY", 0, 10), event.KindInvalid)
	wantKind(t, read(file.Name, 0, transport.MaxCheckpointRead+1), event.KindTooLarge)
	newer := must[transport.OpenCheckpointOk](t)(call(open("a"))) // without its id: in place of the former
	wantKind(t, read(file.Name, 0, 10), event.KindNotFound)
	if newer.Checkpoint == got.Checkpoint {
		t.Error("two checkpoints with one id")
	}
	for i := range maxCheckpoints - 1 {
		must[transport.OpenCheckpointOk](t)(call(open(fmt.Sprint("b", i))))
	}
	wantKind(t, second(call(open("one too many"))), event.KindBusy)
	must[transport.CloseCheckpointOk](t)(call(&transport.CloseCheckpoint{ShardID: joinedShard, Checkpoint: newer.Checkpoint}))
	must[transport.CloseCheckpointOk](t)(call(&transport.CloseCheckpoint{ShardID: joinedShard, Checkpoint: newer.Checkpoint}))
	must[transport.OpenCheckpointOk](t)(call(open("one too many")))
}

func TestFetchedNamesAreChecked(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, names := range [][]string{{}, {""}, {".."}, {"a/b"}, {`a\b`}, {"a\x00"}, {"a", "a"}, {long}} {
		var files []transport.CheckpointFile
		for _, name := range names {
			files = append(files, transport.CheckpointFile{Name: name, Bytes: 1})
		}
		if err := checkFiles(files); err == nil {
			t.Errorf("%q: taken", names)
		}
	}
	if err := checkFiles([]transport.CheckpointFile{{Name: "000001.sst"}, {Name: "MANIFEST-000002", Bytes: 7}}); err != nil {
		t.Error(err)
	}
}

// A checkpoint that nobody reads goes, and not before.
func TestCheckpointEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoint")
	synctest.Test(t, func(t *testing.T) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c := newCheckpoints(testLog(t), 1<<20)
		if err := c.add(&checkpoint{shard: "s", dir: dir, reply: &transport.OpenCheckpointOk{}}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(checkpointIdle - time.Second)
			if _, ok := c.use("s", checkpointID{}); !ok {
				t.Fatal("it went while it was used")
			}
		}
		time.Sleep(checkpointIdle - time.Second)
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Fatalf("its files are still there: %v", err)
		}
		c.close()
		if err := c.add(&checkpoint{reply: &transport.OpenCheckpointOk{}}); err == nil {
			t.Fatal("one was made behind the end")
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{perSecond: 1 << 20}
		start := time.Now()
		done := make(chan error)
		for range 11 {
			go func() { done <- p.wait(t.Context(), 1<<19) }()
		}
		for range 11 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 5*time.Second { // the first does not wait
			t.Errorf("5.5 MiB at 1 MiB/s took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
