package storagenode

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestGroupSurvivesItsLeader(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	const shard = event.ShardID("shard-0")
	for i := range 20 {
		must[transport.LearnConceptOk](t)(c.route(write(shard, concept(fmt.Sprint("before-", i)))))
	}
	leader, term := c.leader(shard, 0)
	// A retry with the same request id, to whoever leads next, gets the first answer.
	once := write(shard, concept("once"))
	first := must[transport.LearnConceptOk](t)(c.route(once))
	c.stop(leader)
	if _, later := c.leader(shard, term); later <= term {
		t.Fatalf("term %d after %d", later, term)
	}
	if again := must[transport.LearnConceptOk](t)(c.route(once)); again.Sequence != first.Sequence {
		t.Errorf("the retry got sequence %d, the first answer was %d", again.Sequence, first.Sequence)
	}
	must[transport.LearnConceptOk](t)(c.route(write(shard, concept("after"))))
	stats := must[transport.StatsOk](t)(c.route(ask(shard, &transport.GetStats{})))
	if stats.Concepts != 22 || stats.Written != 22 {
		t.Errorf("%d concepts, %d written, want 22", stats.Concepts, stats.Written)
	}
	// The stopped one comes back from its disk, with the cached map, and follows: a stale read there sees the rest in time.
	n := c.start(leader, false)
	index, err := n.replicas.all()[0].readIndexOf(c, shard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if err := n.replicas.all()[0].group.Wait(ctx, index); err != nil {
		t.Fatal(err)
	}
	q := ask(shard, &transport.QueryConcept{ConceptID: "after"})
	q.Consistency = stale
	ok, err := c.send(leader, q)
	if err != nil || ok.ReadMode != stale || !ok.Reply.Value.(*transport.QueryConceptOk).Found {
		t.Errorf("stale read on the restarted replica: %+v, %v", ok, err)
	}
}

// readIndexOf is the shard's present read index, asked of its leader.
func (r *replica) readIndexOf(c *testCluster, shard event.ShardID) (uint64, error) {
	id, _ := c.leader(shard, 0)
	ok, err := c.send(id, ask(shard, &transport.HealthCheck{}))
	if err != nil {
		return 0, err
	}
	return ok.ShardSeq, nil
}

func TestWholeGroupRestartsFromDisk(t *testing.T) {
	c := newCluster(t, 3, 2, nil)
	ids := map[event.ShardID][]string{}
	for _, shard := range []event.ShardID{"shard-0", "shard-1"} {
		ids[shard] = c.owned(shard, "c", 10)
		for _, id := range ids[shard] {
			must[transport.LearnConceptOk](t)(c.route(write(shard, concept(id))))
		}
		for i := range 9 {
			link := &transport.LearnAssociation{SourceID: ids[shard][i], TargetID: ids[shard][i+1], AssocType: 3, Confidence: 0.5}
			must[transport.LearnAssociationOk](t)(c.route(write(shard, link)))
		}
	}
	_, term0 := c.leader("shard-0", 0)
	_, term1 := c.leader("shard-1", 0)
	nodes := []event.NodeID{"node-1", "node-2", "node-3"}
	for _, id := range nodes {
		c.stop(id)
	}
	c.master.stop() // they start with the cached map …
	for _, id := range nodes {
		c.start(id, false)
	}
	c.master.start(c.master.addr) // … and report to the masters when those are back
	c.leader("shard-0", term0)
	c.leader("shard-1", term1)
	for shard, list := range ids {
		got := must[transport.GetAllConceptIdsOk](t)(c.route(ask(shard, &transport.GetAllConceptIds{})))
		slices.Sort(list)
		if !slices.Equal(got.ConceptIDs, list) {
			t.Errorf("%s has %q, want %q", shard, got.ConceptIDs, list)
		}
		stats := must[transport.StatsOk](t)(c.route(ask(shard, &transport.GetStats{})))
		if stats.Edges != 9 {
			t.Errorf("%s has %d edges, want 9", shard, stats.Edges)
		}
	}
}

func TestServesWithoutMastersFromTheCachedMap(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept("a"))))
	c.stop("node-1")
	c.master.stop()
	defer c.master.start(c.master.addr)
	n := c.start("node-1", false)
	r := n.replicas.all()[0]
	c.awaitLeading(r)
	ok, err := c.send("node-1", ask("shard-0", &transport.QueryConcept{ConceptID: "a"}))
	if got := must[transport.QueryConceptOk](t)(ok.Reply.Value, err); !got.Found {
		t.Error("the concept is not found without masters")
	}
	if _, err := c.send("node-1", write("shard-0", concept("b"))); err != nil {
		t.Errorf("write without masters: %v", err)
	}
}

// awaitLeading waits until r leads.
func (c *testCluster) awaitLeading(r *replica) {
	c.t.Helper()
	limit := time.After(testLimit)
	for {
		changed := r.group.LeaderChanged()
		if r.group.IsLeader() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			c.t.Fatal("the replica does not lead")
		}
	}
}

func TestRefusals(t *testing.T) {
	c := newCluster(t, 3, 2, nil)
	leader, _ := c.leader("shard-0", 0)
	follower := event.NodeID("node-1")
	if follower == leader {
		follower = "node-2"
	}
	own, foreign := c.owned("shard-0", "x", 1)[0], c.owned("shard-1", "x", 1)[0]
	epoch := c.nodes[leader].maps.current().Epoch

	e := wantKind(t, second(c.send(leader, write("shard-0", concept(foreign)))), event.KindWrongShard)
	if e.Epoch < epoch.Seq {
		t.Errorf("wrong shard: epoch %d, the node knew %d before", e.Epoch, epoch.Seq)
	}
	wantKind(t, second(c.send(leader, ask("shard-0", &transport.QueryConcept{ConceptID: foreign}))), event.KindWrongShard)
	wantKind(t, second(c.send(leader, ask("shard-0", &transport.Expand{ConceptIDs: []string{own, foreign}, Direction: "out"}))), event.KindWrongShard)
	link := &transport.LearnAssociation{SourceID: own, TargetID: foreign, Confidence: 1}
	wantKind(t, second(c.send(leader, write("shard-0", link))), event.KindWrongShard)
	wantKind(t, second(c.send(leader, ask("shard-9", &transport.GetStats{}))), event.KindWrongShard)
	ahead := ask("shard-9", &transport.GetStats{})
	ahead.Epoch = event.Position{N: 1, Seq: epoch.Seq + 1000}
	wantKind(t, second(c.send(leader, ahead)), event.KindUnavailable)

	e = wantKind(t, second(c.send(follower, write("shard-0", concept(own)))), event.KindNotLeader)
	if e.Leader != string(leader) {
		t.Errorf("not leader: the hint is %q, want %q", e.Leader, leader)
	}
	wantKind(t, second(c.send(follower, ask("shard-0", &transport.QueryConcept{ConceptID: own}))), event.KindNotLeader)

	wantKind(t, second(c.send(leader, ask("shard-0", concept(own)))), event.KindInvalid) // a write without a request id
	wantKind(t, second(c.send(leader, write("shard-0", concept("")))), event.KindInvalid)
	wantKind(t, second(c.send(leader, write("shard-0", concept(strings.Repeat("x", 513))))), event.KindTooLarge)
	vector := concept(own)
	vector.Embedding = []float32{1, 2, 3}
	wantKind(t, second(c.send(leader, write("shard-0", vector))), event.KindInvalid)
	wantKind(t, second(c.send(leader, ask("shard-0", &transport.FindPath{StartID: own, EndID: own, MaxDepth: 3}))), event.KindUnsupported)
	wantKind(t, second(c.send(leader, ask("shard-0", &transport.Heartbeat{}))), event.KindUnsupported)

	unknown := own + "-absent"
	must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept(own))))
	if s, _ := c.master.state.Map.Shard(unknown); s.ID == "shard-0" {
		e = wantKind(t, second(c.send(leader, write("shard-0", &transport.LearnAssociation{SourceID: own, TargetID: unknown, Confidence: 1}))), event.KindPrecondition)
		if !strings.Contains(e.Message, unknown) {
			t.Errorf("the refusal does not name the unknown end: %s", e.Message)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestPlainRequestsInAGrid(t *testing.T) {
	c := newCluster(t, 1, 2, nil)
	addr := c.nodes["node-1"].Addr()
	call := func(q any) (any, error) {
		ctx, cancel := context.WithTimeout(t.Context(), testLimit)
		defer cancel()
		return c.pool.Call(ctx, addr, q)
	}
	zero, one := c.owned("shard-0", "p", 2), c.owned("shard-1", "p", 1)
	for _, id := range append(slices.Clone(zero), one...) {
		must[transport.LearnConceptOk](t)(call(concept(id)))
	}
	must[transport.LearnAssociationOk](t)(call(&transport.LearnAssociation{SourceID: zero[0], TargetID: zero[1], Confidence: 1}))
	wantKind(t, second(call(&transport.LearnAssociation{SourceID: zero[0], TargetID: one[0], Confidence: 1})), event.KindRefused)
	wantKind(t, second(call(&transport.FindPath{StartID: zero[0], EndID: zero[1], MaxDepth: 5})), event.KindRefused)
	wantKind(t, second(call(&transport.GetStats{})), event.KindRefused)
	wantKind(t, second(call(&transport.Write{Ops: []transport.Op{conceptOp("a")}})), event.KindInvalid)
	wantKind(t, second(call(&transport.Txn{Ops: []transport.Op{conceptOp("a")}})), event.KindUnsupported)
	must[transport.FlushOk](t)(call(&transport.Flush{}))
	if h := must[transport.HealthCheckOk](t)(call(&transport.HealthCheck{})); !h.Healthy || h.Status != "ok" {
		t.Errorf("health: %+v", h)
	}
	// One batch over both shards: each write goes to its shard, the replies stay in order.
	reply := must[transport.BatchOk](t)(call(&transport.Batch{Requests: []transport.Any{
		{Value: concept(one[0])}, {Value: concept(zero[0])}, {Value: &transport.QueryConcept{ConceptID: one[0]}}, {Value: &transport.GetStats{}},
	}}))
	for i, want := range []string{"*transport.LearnConceptOk", "*transport.LearnConceptOk", "*transport.QueryConceptOk", "*event.Error"} {
		if got := fmt.Sprintf("%T", reply.Replies[i].Value); got != want {
			t.Errorf("reply %d is a %s, want a %s", i, got, want)
		}
	}
}

func TestAReplicaWhoseDirectoryIsGoneIsRefused(t *testing.T) {
	for _, lost := range []string{"", identityFile, raftDir, engineDir} {
		t.Run("lost "+lost, func(t *testing.T) {
			c := newCluster(t, 1, 2, nil)
			kept := c.owned("shard-1", "k", 1)[0]
			must[transport.LearnConceptOk](t)(c.route(write("shard-1", concept(kept))))
			c.stop("node-1")
			gone := filepath.Join(c.dir, "node-1", shardsDir, "shard-0", lost)
			if err := os.RemoveAll(gone); err != nil {
				t.Fatal(err)
			}
			n := c.start("node-1", false)
			if _, err := os.Stat(gone); !os.IsNotExist(err) {
				t.Errorf("%s was made again (%v)", gone, err)
			}
			e := wantKind(t, second(c.send("node-1", ask("shard-0", &transport.GetStats{}))), event.KindUnavailable)
			if !strings.Contains(e.Message, gone) {
				t.Errorf("the refusal does not name %s: %s", gone, e.Message)
			}
			if h := n.health(); h.Healthy || !strings.Contains(h.Status, gone) {
				t.Errorf("health does not report it: %+v", h)
			}
			if got := must[transport.QueryConceptOk](t)(c.route(ask("shard-1", &transport.QueryConcept{ConceptID: kept}))); !got.Found {
				t.Error("the other replica does not serve")
			}
		})
	}
}

func TestDirectories(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	open := func(what string, cfg Config, want string) {
		t.Helper()
		n, err := Open(cfg)
		if err == nil {
			_ = n.Close()
			t.Errorf("%s: opened", what)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", what, err, want)
		}
	}
	cfg := c.config("node-1", false)
	other := cfg
	other.Listen = "node-1:50054"
	open("a second process", other, "in use by process")
	other = c.config("node-2", false)
	open("a missing directory without --init", other, "--init")
	if _, err := os.Stat(other.Data); !os.IsNotExist(err) {
		t.Errorf("the refused start made %s", other.Data)
	}
	c.stop("node-1")
	other = cfg
	grid := *cfg.Grid
	grid.NodeID = "node-7"
	other.Grid = &grid
	open("another node's directory", other, "belongs to node node-1")
	grid.NodeID, grid.ID = "node-1", "another"
	open("another grid's directory", other, "not to another")
	alone := DefaultConfig()
	alone.Data, alone.Listen, alone.Network, alone.Log = cfg.Data, cfg.Listen, c.network, cfg.Log
	open("a grid's directory, alone", alone, "belongs to node node-1")
	if err := os.Rename(filepath.Join(cfg.Data, manifestFile), filepath.Join(c.dir, "kept")); err != nil {
		t.Fatal(err)
	}
	open("without its manifest", cfg, "manifest")
	if err := os.Rename(filepath.Join(cfg.Data, identityFile), filepath.Join(c.dir, "kept-identity")); err != nil {
		t.Fatal(err)
	}
	init := cfg
	grid.NodeID, grid.ID, grid.Init = "node-1", testGrid, true
	init.Grid = &grid
	open("without its identity, with --init", init, "holds")
	for _, name := range []string{manifestFile, identityFile} {
		kept := map[string]string{manifestFile: "kept", identityFile: "kept-identity"}[name]
		if err := os.Rename(filepath.Join(c.dir, kept), filepath.Join(cfg.Data, name)); err != nil {
			t.Fatal(err)
		}
	}
	c.start("node-1", true) // --init again changes nothing for a directory that is there
}
