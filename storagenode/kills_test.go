package storagenode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// childVariable holds the configuration of a node that is a process of its own.
const childVariable = "GRID_TEST_NODE"

// childConfig is a node of a killable cluster. What it does not name is as in production: time-outs, sizes, fsync.
type childConfig struct {
	Data, Listen, Master string
	Node                 event.NodeID
	Init                 bool
}

// runChild is one node until it is killed, its disk fails, or whoever started it is gone.
func runChild(encoded string) int {
	var c childConfig
	if err := json.Unmarshal([]byte(encoded), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg := DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Dimension = c.Data, c.Listen, killDimension
	cfg.Grid = &Grid{ID: testGrid, NodeID: c.Node, AgentID: "agent-1", Masters: []string{c.Master}, Init: c.Init}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg.Groups.TrailingLogs, cfg.Groups.SegmentBytes = trailing, 256<<10
	n, err := Open(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, parentGone := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test, however that ends
		parentGone()
	}()
	go snapshots(ctx, n)
	if err := n.Wait(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// snapshots takes one every trailing/2 entries: a life of a second is too short for raft's own clock, and it shall see
// truncated logs, and followers that need what is truncated.
func snapshots(ctx context.Context, n *Node) {
	for next := uint64(0); pause(ctx, 20*time.Millisecond) == nil; {
		for _, r := range n.replicas.all() {
			if r.group.Wait(ctx, next) != nil {
				return
			}
			next = r.engine.Applied() + trailing/2
			if err := r.group.Snapshot(); err != nil {
				n.fail(err)
			}
		}
	}
}

const (
	killDimension = 8
	killShard     = event.ShardID("shard-0")
	killKeys      = 40 // of each writer
	killWriters   = 4
	trailing      = 300
)

// killCluster is one replica group of three processes, the master that they watch, and who writes to them.
type killCluster struct {
	t      *testing.T
	dir    string
	master *testMaster
	pool   *transport.Pool
	ids    []event.NodeID
	ports  map[event.NodeID]string

	mu       sync.Mutex
	children map[event.NodeID]*child // guarded by mu
}

type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	ended  chan struct{}
	killed bool // guarded by mu
}

func newKillCluster(t *testing.T) *killCluster {
	network := transport.TCP()
	k := &killCluster{
		t: t, dir: t.TempDir(), ports: map[event.NodeID]string{}, children: map[event.NodeID]*child{},
		pool: transport.NewPool(transport.PoolConfig{Network: network}),
		ids:  []event.NodeID{"node-1", "node-2", "node-3"},
	}
	k.master = newTestMasterAt(t, network, "127.0.0.1:0")
	ports := freePorts(t, len(k.ids))
	for i, id := range k.ids {
		k.ports[id] = ports[i]
		k.start(id, true)
	}
	t.Cleanup(k.close)
	k.master.change(func(m *shardmap.Map) {
		*m = *testMap(shardmap.Forming, 1, "node-1", "node-2", "node-3")
		m.Epoch = event.Position{N: 1, Seq: 10}
		for i := range m.Shards[0].Replicas {
			m.Shards[0].Replicas[i].Endpoint = k.ports[m.Shards[0].Replicas[i].NodeID]
		}
	})
	k.master.await("the first leader", func() bool { return k.leaderLocked() != "" })
	return k
}

// freePorts finds ports below those that the system gives to outgoing connections: a killed node must get its own again.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var free []string
	for port := 12000 + rand.IntN(6000); len(free) < n && port < 20000; port++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			free = append(free, addr)
		}
	}
	if len(free) < n {
		t.Fatalf("no %d free ports", n)
	}
	return free
}

// log has what all lives of a node said.
func (k *killCluster) log(id event.NodeID) string { return filepath.Join(k.dir, string(id)+".log") }

func (k *killCluster) leaderLocked() event.NodeID {
	if s, ok := k.master.state.Map.ByID(killShard); ok {
		return s.Leader
	}
	return ""
}

func (k *killCluster) leader() event.NodeID {
	k.master.mu.Lock()
	defer k.master.mu.Unlock()
	return k.leaderLocked()
}

func (k *killCluster) start(id event.NodeID, init bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.startLocked(id, init)
}

func (k *killCluster) startLocked(id event.NodeID, init bool) {
	encoded, err := json.Marshal(childConfig{Data: filepath.Join(k.dir, string(id)), Listen: k.ports[id], Master: k.master.addr, Node: id, Init: init})
	if err != nil {
		k.t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(encoded))
	log, err := os.OpenFile(k.log(id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close() // the child has its own descriptor
	c.cmd.Stderr, c.cmd.Stdout = log, log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		k.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.children[id] = c
	go k.await(id, c)
}

// await takes note of a child's end. A machine that is busy enough lets a disk seem to hang: such a node leaves by itself, as it
// must, and is started again, as an agent does.
func (k *killCluster) await(id event.NodeID, c *child) {
	defer close(c.ended)
	err := c.cmd.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.killed {
		return
	}
	log, _ := os.ReadFile(k.log(id))
	if !bytes.Contains(log[max(0, len(log)-2000):], []byte("the disk does not answer within")) {
		k.t.Errorf("%s ended by itself: %v", id, err)
		return
	}
	k.t.Logf("%s left: its disk did not answer", id)
	k.startLocked(id, false)
}

// kill ends a replica as a power switch does for the process, and waits until it is gone.
func (k *killCluster) kill(id event.NodeID) {
	k.mu.Lock()
	c := k.children[id]
	c.killed = true
	k.mu.Unlock()
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		k.t.Errorf("kill %s: %v", id, err)
	}
	<-c.ended
	c.stdin.Close()
}

func (k *killCluster) close() {
	for _, id := range k.ids {
		k.kill(id)
		if k.t.Failed() {
			log, _ := os.ReadFile(k.log(id))
			k.t.Logf("--- %s\n%s", id, log[max(0, len(log)-20_000):])
		}
	}
	if err := k.pool.Close(); err != nil {
		k.t.Error(err)
	}
}

// do asks the shard's leader until it answers. A repeated write keeps its request id, so it takes effect once.
func (k *killCluster) do(ctx context.Context, q *transport.Routed) (any, error) {
	q.TimeoutMillis = 2000
	for turn := 0; ; turn++ {
		addr := k.ports[k.ids[turn%len(k.ids)]]
		if id := k.leader(); turn%2 == 0 && id != "" {
			addr = k.ports[id]
		}
		ask, cancel := context.WithTimeout(ctx, 3*time.Second)
		ok, err := transport.Call[transport.RoutedOk](ask, k.pool, addr, q)
		cancel()
		switch {
		case err == nil:
			return ok.Reply.Value, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w; the last answer: %w", context.Cause(ctx), err)
		case !passes(err):
			return nil, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// passes tells whether an error is one of a group that is losing processes.
func passes(err error) bool {
	var e *event.Error
	if !errors.As(err, &e) {
		return true // a connection
	}
	switch e.Kind {
	case event.KindNotLeader, event.KindUnavailable, event.KindUnknownOutcome, event.KindBusy, event.KindWrongShard, event.KindDeadline:
		return true
	}
	return false
}

// owner writes to keys of its own, one write after the other, so what it was told is all there is to know of them.
type owner struct {
	k    *killCluster
	n    int
	rand *rand.Rand

	issued, acked [killKeys]atomic.Uint64 // versions
	links         map[[2]int]float32      // source, target; of the owner's goroutine
	writes        atomic.Int64
}

func (o *owner) key(i int) string { return fmt.Sprintf("owner-%d/key-%d", o.n, i) }

// content is long enough for a version to fill pages, and says which it is.
func (o *owner) content(i int, version uint64) string {
	return fmt.Sprintf("%s version %d %0*d", o.key(i), version, 100+int(version%7)*100, version)
}

func (o *owner) concept(i int, version uint64) *transport.LearnConcept {
	v := make([]float32, killDimension)
	v[i%killDimension], v[(i+1)%killDimension] = 1, float32(version)
	return &transport.LearnConcept{
		ConceptID: o.key(i), Content: o.content(i, version), Embedding: v, Strength: 1, Confidence: 1,
		Metadata: &transport.Metadata{Attributes: map[string]string{"version": fmt.Sprint(version)}, Tags: []string{"owner-" + fmt.Sprint(o.n)}},
	}
}

// learn writes the next version of a key.
func (o *owner) learn(ctx context.Context, i int) error {
	version := o.issued[i].Add(1)
	if _, err := o.k.do(ctx, write(killShard, o.concept(i, version))); err != nil {
		return fmt.Errorf("%s version %d: %w", o.key(i), version, err)
	}
	o.acked[i].Store(version)
	return nil
}

// link makes, changes or deletes an association between two of the owner's keys. A delete that is repeated gets its first
// answer, so what it says is known too.
func (o *owner) link(ctx context.Context) error {
	pair := [2]int{o.rand.IntN(killKeys), o.rand.IntN(killKeys)}
	source, target, typ := o.key(pair[0]), o.key(pair[1]), uint32(1)
	_, there := o.links[pair]
	if o.rand.IntN(3) > 0 {
		confidence := float32(o.rand.IntN(1000)) / 1000
		_, err := o.k.do(ctx, write(killShard, &transport.LearnAssociation{SourceID: source, TargetID: target, AssocType: typ, Confidence: confidence}))
		o.links[pair] = confidence
		return err
	}
	reply, err := o.k.do(ctx, write(killShard, &transport.DeleteAssociation{SourceID: source, TargetID: target, AssocType: &typ}))
	if err != nil {
		return err
	}
	if got := reply.(*transport.DeleteAssociationOk); got.Deleted != there {
		return fmt.Errorf("delete %s -> %s: deleted %v, but it was there: %v", source, target, got.Deleted, there)
	}
	delete(o.links, pair)
	return nil
}

// run writes until stop is closed.
func (o *owner) run(ctx context.Context, stop <-chan struct{}) error {
	for i := range killKeys {
		if err := o.learn(ctx, i); err != nil {
			return err
		}
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		var err error
		if o.rand.IntN(3) == 0 {
			err = o.link(ctx)
		} else {
			err = o.learn(ctx, o.rand.IntN(killKeys))
		}
		if err != nil {
			return err
		}
		o.writes.Add(1)
	}
}

// read asks for a key: the answer is no older than what was acknowledged before, and nothing that was never written.
func (o *owner) read(ctx context.Context, i int) error {
	from := o.acked[i].Load()
	reply, err := o.k.do(ctx, ask(killShard, &transport.QueryConcept{ConceptID: o.key(i)}))
	if err != nil {
		return err
	}
	got := reply.(*transport.QueryConceptOk)
	if !got.Found && from == 0 {
		return nil
	}
	for version := max(from, 1); version <= o.issued[i].Load(); version++ {
		if got.Content == o.content(i, version) && got.Metadata != nil && got.Metadata.Attributes["version"] == fmt.Sprint(version) {
			return nil
		}
	}
	return fmt.Errorf("%s reads %+v; version %d was acknowledged before", o.key(i), got, from)
}

// check compares all that the owner wrote, when it writes no more.
func (o *owner) check(ctx context.Context) error {
	links := 0
	for i := range killKeys {
		if err := o.read(ctx, i); err != nil {
			return err
		}
		reply, err := o.k.do(ctx, ask(killShard, &transport.Neighbors{ConceptID: o.key(i), Direction: "out", Limit: 1000}))
		if err != nil {
			return err
		}
		for _, n := range reply.(*transport.NeighborsOk).Items {
			found := false
			for pair, confidence := range o.links {
				found = found || pair[0] == i && o.key(pair[1]) == n.ID && confidence == n.Confidence
			}
			if !found {
				return fmt.Errorf("%s has a link %+v; acknowledged are %v", o.key(i), n, o.links)
			}
			links++
		}
	}
	if links != len(o.links) {
		return fmt.Errorf("%d links of owner %d, want %d", links, o.n, len(o.links))
	}
	return nil
}

// sameContent waits until all replicas have applied the same entries, and compares their hashes.
func (k *killCluster) sameContent(ctx context.Context) {
	k.t.Helper()
	q := ask(killShard, &transport.ContentHash{})
	q.Consistency = stale
	for {
		var hashes []transport.ContentHashOk
		for _, id := range k.ids {
			if ok, err := transport.Call[transport.RoutedOk](ctx, k.pool, k.ports[id], q); err == nil {
				hashes = append(hashes, *ok.Reply.Value.(*transport.ContentHashOk))
			}
		}
		if len(hashes) == len(k.ids) && hashes[0].Applied == hashes[1].Applied && hashes[0].Applied == hashes[2].Applied {
			if hashes[0].Digest != hashes[1].Digest || hashes[0].Digest != hashes[2].Digest {
				k.t.Errorf("the replicas differ at entry %d: %x", hashes[0].Applied, hashes)
			}
			k.t.Logf("three replicas equal at entry %d: %x", hashes[0].Applied, hashes[0].Digest[:8])
			return
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			k.t.Fatalf("the replicas did not come to the same entry: %+v: %v", hashes, err)
		}
	}
}

// TestReplicasSurviveKills kills a random replica with SIGKILL at a random moment, again and again, while four writers write
// and a reader reads. Nothing that was acknowledged is missing or altered, and the replicas end with equal content.
// GRID_KILLS says how often (default 20).
func TestReplicasSurviveKills(t *testing.T) {
	kills, seed := 20, rand.Uint64()
	if v := os.Getenv("GRID_KILLS"); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, seed %d", kills, seed)
	k := newKillCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+2*time.Second*time.Duration(kills))
	defer cancel()
	owners := make([]*owner, killWriters)
	stop := make(chan struct{})
	var working sync.WaitGroup
	for i := range owners {
		o := &owner{k: k, n: i, rand: rand.New(rand.NewPCG(seed, uint64(i))), links: map[[2]int]float32{}}
		owners[i] = o
		working.Go(func() {
			if err := o.run(ctx, stop); err != nil {
				t.Errorf("owner %d: %v", o.n, err)
			}
		})
	}
	working.Go(func() { k.readUntil(ctx, stop, owners) })

	nemesis := rand.New(rand.NewPCG(seed, 1000))
	for range kills {
		id := k.ids[nemesis.IntN(len(k.ids))]
		if nemesis.IntN(2) == 0 {
			id = k.leader()
		}
		if pause(ctx, time.Duration(nemesis.IntN(300))*time.Millisecond) != nil {
			break
		}
		k.kill(id)
		switch nemesis.IntN(10) {
		case 0, 1, 2: // the others go on without it for a while
			_ = pause(ctx, time.Duration(nemesis.IntN(600))*time.Millisecond)
		case 3: // and for so long that the log alone does not bring it back
			o := owners[0]
			for until := o.writes.Load() + trailing/2; o.writes.Load() < until && !t.Failed() && pause(ctx, 20*time.Millisecond) == nil; {
			}
		}
		k.start(id, false)
	}
	close(stop)
	working.Wait()
	k.verify(ctx, owners)
	// All at once, too.
	for _, id := range k.ids {
		k.kill(id)
	}
	for _, id := range k.ids {
		k.start(id, false)
	}
	k.verify(ctx, owners)
}

func (k *killCluster) readUntil(ctx context.Context, stop <-chan struct{}, owners []*owner) {
	for reads := 0; ; reads++ {
		select {
		case <-stop:
			k.t.Logf("%d reads", reads)
			return
		default:
		}
		if err := owners[rand.IntN(len(owners))].read(ctx, rand.IntN(killKeys)); err != nil {
			k.t.Errorf("read: %v", err)
			return
		}
	}
}

// verify compares everything with what was acknowledged.
func (k *killCluster) verify(ctx context.Context, owners []*owner) {
	k.t.Helper()
	var writes int64
	edges := 0
	for _, o := range owners {
		if err := o.check(ctx); err != nil {
			k.t.Errorf("owner %d: %v", o.n, err)
		}
		writes += o.writes.Load()
		edges += len(o.links)
	}
	reply, err := k.do(ctx, ask(killShard, &transport.GetStats{}))
	if err != nil {
		k.t.Fatal(err)
	}
	s := reply.(*transport.StatsOk)
	if s.Concepts != killKeys*killWriters || s.Vectors != s.Concepts || s.Edges != uint64(edges) {
		k.t.Errorf("%d concepts, %d vectors, %d edges; want %d, as many, %d", s.Concepts, s.Vectors, s.Edges, killKeys*killWriters, edges)
	}
	k.t.Logf("%d writes acknowledged", writes)
	k.sameContent(ctx)
}
