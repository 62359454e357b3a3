package storagenode

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
)

// oneShard is a grid of one node and one shard whose leader asks about prepared attempts after doubtAfter.
func oneShard(t *testing.T, doubtAfter time.Duration) *testCluster {
	return newCluster(t, 1, 1, func(cfg *Config) { cfg.InDoubtAfter = doubtAfter })
}

const never = time.Hour

func prepareOf(n byte, start int64, ids ...string) *transport.Prepare {
	p := &transport.Prepare{
		TxnID: event.TxnID{15: n}, Attempt: uint64(n) * 100, Begin: event.Position{N: 1, Seq: 5}, Start: start, Coordinator: "master-1",
		Participants: []event.ShardID{"shard-0", "shard-1"}, Issued: time.Now().UnixMicro(),
	}
	for _, id := range ids {
		p.Ops = append(p.Ops, conceptOp(id))
	}
	return p
}

func finishOf(p *transport.Prepare, commit bool) *transport.Finish {
	return &transport.Finish{TxnID: p.TxnID, Attempt: p.Attempt, Begin: p.Begin, Commit: commit}
}

func (c *testCluster) prepare(p *transport.Prepare) *transport.PrepareOk {
	c.t.Helper()
	return must[transport.PrepareOk](c.t)(c.route(ask("shard-0", p)))
}

func (c *testCluster) finish(f *transport.Finish) {
	c.t.Helper()
	must[transport.FinishOk](c.t)(c.route(ask("shard-0", f)))
}

func (c *testCluster) vote(p *transport.Prepare) {
	c.t.Helper()
	if v := c.prepare(p); !v.Vote {
		c.t.Fatalf("no: %+v", v)
	}
}

func TestInDoubtIsResolvedByInquiry(t *testing.T) {
	for _, committed := range []bool{true, false} {
		c := oneShard(t, 50*time.Millisecond)
		p := prepareOf(1, 1, "a")
		key := attempt{p.TxnID, p.Attempt}
		if committed {
			c.master.decide(key, true)
		}
		c.vote(p)
		// A read that meets the row waits for the outcome, which nobody but the inquiry brings.
		got := must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "a"})))
		if got.Found != committed {
			t.Errorf("committed %t, found %t", committed, got.Found)
		}
		if n := len(c.nodes["node-1"].replicas.all()[0].engine.Prepared()); n != 0 {
			t.Errorf("%d attempts are still prepared", n)
		}
		c.master.mu.Lock()
		if c.master.asked[key] != 1 {
			t.Errorf("asked %d times", c.master.asked[key])
		}
		c.master.mu.Unlock()
	}
}

func TestANewLeaderResolvesWhatItInherits(t *testing.T) {
	c := newCluster(t, 3, 1, func(cfg *Config) { cfg.InDoubtAfter = 200 * time.Millisecond })
	leader, term := c.leader("shard-0", 0)
	p := prepareOf(1, 1, "a")
	c.master.decide(attempt{p.TxnID, p.Attempt}, true)
	// Nobody may ask before the leader is gone: its masters are.
	c.master.stop()
	if v := must[transport.PrepareOk](t)(unwrap(c.send(leader, ask("shard-0", p)))); !v.Vote {
		t.Fatalf("no: %+v", v)
	}
	c.stop(leader)
	c.master.start(c.master.addr)
	c.leader("shard-0", term)
	if got := must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "a"}))); !got.Found {
		t.Error("the committed transaction is not there")
	}
}

func unwrap(ok *transport.RoutedOk, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return ok.Reply.Value, nil
}

func TestReadsWaitForPreparedRows(t *testing.T) {
	c := oneShard(t, never)
	must[transport.LearnConceptOk](t)(c.route(write("shard-0", concept("free"))))
	p := prepareOf(1, 1, "held")
	c.vote(p)
	if got := must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "free"}))); !got.Found {
		t.Error("a free row was not read")
	}
	for _, request := range []any{
		&transport.QueryConcept{ConceptID: "held"}, &transport.GetNeighbors{ConceptID: "held"},
		&transport.Neighbors{ConceptID: "held", Direction: "in"}, &transport.GetAssociation{SourceID: "held", TargetID: "free"},
		&transport.Expand{ConceptIDs: []string{"free", "held"}, Direction: "out"}, &transport.GetStats{}, &transport.GetAllConceptIds{},
		&transport.VectorSearch{QueryVector: []float32{1, 0, 0, 0}, K: 1},
		&transport.Classify{ConceptIDs: []string{"free", "held"}}, &transport.Links{ConceptIDs: []string{"held"}, Direction: "out"}, &transport.Survey{},
		&transport.QueryBySemantic{}, &transport.FindPathSemantic{StartID: "free", EndID: "held", MaxDepth: 2},
		&transport.FindCausalChain{StartID: "held", MaxDepth: 2}, &transport.FindContradictions{},
	} {
		q := ask("shard-0", request)
		q.TimeoutMillis = 30
		e := wantKind(t, second(c.route(q)), event.KindInDoubt)
		if e.Txn != p.TxnID {
			t.Errorf("%T is in doubt about %s, want %s", request, e.Txn, p.TxnID)
		}
	}
	q := ask("shard-0", &transport.QueryConcept{ConceptID: "held"})
	q.Consistency = stale
	if got := must[transport.QueryConceptOk](t)(c.route(q)); got.Found {
		t.Error("a stale read saw what is not committed")
	}
	var reads sync.WaitGroup
	for range 10 {
		reads.Go(func() {
			reply, err := unwrap(c.send("node-1", ask("shard-0", &transport.QueryConcept{ConceptID: "held"})))
			if got, ok := reply.(*transport.QueryConceptOk); err != nil || !ok || !got.Found {
				t.Errorf("a read that waited got %+v, %v", reply, err)
			}
		})
	}
	c.finish(finishOf(p, true))
	reads.Wait()
}

func TestPlainWritesWaitForPreparedRows(t *testing.T) {
	c := oneShard(t, never)
	p := prepareOf(1, 1, "a")
	c.vote(p)
	q := write("shard-0", concept("a"))
	q.TimeoutMillis = 30
	if e := wantKind(t, second(c.route(q)), event.KindLocked); e.Txn != p.TxnID {
		t.Errorf("locked by %s, want %s", e.Txn, p.TxnID)
	}
	r := c.nodes["node-1"].replicas.all()[0]
	var writes sync.WaitGroup
	for range 5 {
		writes.Go(func() {
			if _, err := c.send("node-1", write("shard-0", concept("a"))); err != nil {
				t.Error(err)
			}
		})
	}
	// Other rows are not held up. On a connection of its own: replies come in the order of the requests.
	own := transport.NewPool(transport.PoolConfig{Network: c.network})
	defer own.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if _, err := own.Call(ctx, c.nodes["node-1"].Addr(), write("shard-0", concept("b"))); err != nil {
		t.Error(err)
	}
	c.finish(finishOf(p, false))
	writes.Wait()
	if n := r.queue.waiting(); n != 0 {
		t.Errorf("%d are still in line", n)
	}
	if got, found, err := r.engine.Concept("a"); err != nil || !found || got.Version != 5 {
		t.Errorf("after 5 writes: %+v, %v", got, err)
	}
}

func TestPreparesWaitOrDie(t *testing.T) {
	c := newCluster(t, 1, 1, func(cfg *Config) { cfg.InDoubtAfter, cfg.PrepareWait = never, testLimit })
	holder := prepareOf(5, 500, "a")
	c.vote(holder)
	younger := prepareOf(6, 600, "a", "b")
	begin := time.Now()
	if v := c.prepare(younger); v.Vote || !v.Retry || v.Reason == nil || v.Reason.Kind != event.KindLocked || v.Reason.Txn != holder.TxnID {
		t.Fatalf("the younger one: %+v", v)
	}
	if waited := time.Since(begin); waited > testLimit/2 {
		t.Errorf("the younger one waited %s", waited)
	}
	// Its no is kept: the same attempt never gets a yes any more.
	older := prepareOf(4, 400, "a")
	vote := make(chan *transport.PrepareOk)
	go func() {
		reply, err := unwrap(c.send("node-1", ask("shard-0", older)))
		if err != nil {
			t.Error(err)
		}
		v, _ := reply.(*transport.PrepareOk)
		vote <- v
	}()
	select {
	case v := <-vote:
		t.Fatalf("the older one did not wait: %+v", v)
	case <-time.After(50 * time.Millisecond): // long enough to see it die if it did
	}
	c.finish(finishOf(holder, true))
	if v := <-vote; v == nil || !v.Vote {
		t.Fatalf("the older one after its wait: %+v", v)
	}
	c.finish(finishOf(older, true))
	if v := c.prepare(younger); v.Vote {
		t.Error("a refused attempt got a yes")
	}
	younger.Attempt++
	c.vote(younger)
	c.finish(finishOf(younger, true))
}

func TestPreparesWaitOnlySoLong(t *testing.T) {
	c := newCluster(t, 1, 1, func(cfg *Config) { cfg.InDoubtAfter, cfg.PrepareWait = never, 10*time.Millisecond })
	c.vote(prepareOf(5, 500, "a"))
	if v := c.prepare(prepareOf(4, 400, "a")); v.Vote || !v.Retry {
		t.Fatalf("an older one that waited in vain: %+v", v)
	}
}

func TestAWriteOfManyOpsIsAtomic(t *testing.T) {
	c := oneShard(t, never)
	ops := []transport.Op{conceptOp("x"), conceptOp("y"), {Kind: transport.OpLearnAssociation, ID: "x", Target: "nowhere", Confidence: 1}}
	e := wantKind(t, second(c.route(write("shard-0", &transport.Write{Ops: ops}))), event.KindPrecondition)
	if e.OpNumber != 3 {
		t.Errorf("op %d is at fault, want 3", e.OpNumber)
	}
	ops[2].Target = "y"
	must[transport.WriteOk](t)(c.route(write("shard-0", &transport.Write{Ops: ops})))
	got := must[transport.GetNeighborsOk](t)(c.route(ask("shard-0", &transport.GetNeighbors{ConceptID: "x"})))
	if !slices.Equal(got.NeighborIDs, []string{"y"}) {
		t.Errorf("neighbours %q", got.NeighborIDs)
	}
}

func TestRoutedBatchIsRepeatable(t *testing.T) {
	c := oneShard(t, never)
	q := write("shard-0", &transport.Batch{Requests: []transport.Any{
		{Value: concept("a")}, {Value: concept("b")}, {Value: &transport.LearnAssociation{SourceID: "a", TargetID: "b", Confidence: 1}},
		{Value: &transport.LearnAssociation{SourceID: "a", TargetID: "nowhere", Confidence: 1}}, {Value: &transport.GetNeighbors{ConceptID: "a"}},
		{Value: concept("")},
	}})
	first := must[transport.BatchOk](t)(c.route(q))
	again := must[transport.BatchOk](t)(c.route(q))
	for _, b := range []*transport.BatchOk{first, again} {
		link, _ := b.Replies[2].Value.(*transport.LearnAssociationOk)
		if a, ok := b.Replies[0].Value.(*transport.LearnConceptOk); !ok || link == nil || a.Sequence != link.Sequence {
			t.Errorf("the writes are not one group commit: %+v, %+v", b.Replies[0].Value, b.Replies[2].Value)
		}
		if e, ok := b.Replies[3].Value.(*event.Error); !ok || e.Kind != event.KindPrecondition {
			t.Errorf("an unknown end: %+v", b.Replies[3].Value)
		}
		if n, ok := b.Replies[4].Value.(*transport.GetNeighborsOk); !ok || !slices.Equal(n.NeighborIDs, []string{"b"}) {
			t.Errorf("the read behind the writes: %+v", b.Replies[4].Value)
		}
		if e, ok := b.Replies[5].Value.(*event.Error); !ok || e.Kind != event.KindInvalid {
			t.Errorf("an empty id: %+v", b.Replies[5].Value)
		}
	}
	stats := must[transport.StatsOk](t)(c.route(ask("shard-0", &transport.GetStats{})))
	if stats.Written != 3 {
		t.Errorf("written %d, want 3: the retry wrote again", stats.Written)
	}
}

func TestAloneTakesNoPartInTransactions(t *testing.T) {
	network := transport.NewMemory()
	n := openAlone(t, network, t.TempDir())
	pool := transport.NewPool(transport.PoolConfig{Network: network})
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	_, err := pool.Call(ctx, n.Addr(), ask("shard-0", prepareOf(1, 1, "a")))
	wantKind(t, err, event.KindUnsupported)
}

// blind does not see locks the first few times, as a look that came before a prepare was applied.
type blind struct {
	rowLocks
	looks atomic.Int32
}

func (b *blind) Conflict(row lock.Row, self event.TxnID) (lock.Holder, bool) {
	if b.looks.Add(-1) >= 0 {
		return lock.Holder{}, false
	}
	return b.rowLocks.Conflict(row, self)
}

func TestAWriteThatApplyRefusesForALockIsProposedAgain(t *testing.T) {
	c := oneShard(t, never)
	p := prepareOf(1, 1, "a")
	c.vote(p)
	r := c.nodes["node-1"].replicas.all()[0]
	locks := &blind{rowLocks: r.engine}
	locks.looks.Store(1)
	r.queue = newWaitQueue(locks)
	q := write("shard-0", concept("a"))
	q.TimeoutMillis = 30
	if e := wantKind(t, second(c.route(q)), event.KindLocked); e.Txn != p.TxnID {
		t.Errorf("locked by %s, want %s", e.Txn, p.TxnID)
	}
	locks.looks.Store(1)
	applied := r.engine.Applied()
	written := make(chan error)
	go func() { written <- second(c.send("node-1", write("shard-0", concept("a")))) }()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if err := r.group.Wait(ctx, applied+1); err != nil { // refused by Apply
		t.Fatal(err)
	}
	c.finish(finishOf(p, true))
	if err := <-written; err != nil {
		t.Error(err)
	}
	if got, found, err := r.engine.Concept("a"); err != nil || !found || got.Version != 2 {
		t.Errorf("after the transaction and the write: %+v, %v", got, err)
	}
}

func TestAReadOfSeveralRowsIsRepeatedWhenATransactionComesBetween(t *testing.T) {
	for _, c := range []struct {
		name   string
		rows   []string
		finish bool // while the read looks; else after it has seen the lock
		looks  int
	}{
		{"prepared and finished meanwhile", []string{"a", "b"}, true, 2},
		{"prepared meanwhile", []string{"a", "b"}, false, 2},
		{"one row is one point in time", []string{"b"}, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			grid := oneShard(t, never)
			r := grid.nodes["node-1"].replicas.all()[0]
			p := prepareOf(1, 1, "b")
			looks := 0
			_, err := r.read(t.Context(), c.rows, func() error {
				looks++
				if looks > 1 {
					if _, held := r.engine.Holder("b"); held {
						t.Error("looked while the row is held")
					}
					return nil
				}
				grid.vote(p)
				if c.finish {
					grid.finish(finishOf(p, true))
					return nil
				}
				go func() {
					if _, err := grid.send("node-1", ask("shard-0", finishOf(p, true))); err != nil {
						t.Error(err)
					}
				}()
				return nil
			})
			if err != nil || looks != c.looks {
				t.Errorf("looked %d times, want %d (%v)", looks, c.looks, err)
			}
		})
	}
}

// TestOpsOverTheWire: what a transaction answers, from its votes, from its repetition and from a write of one shard.
func TestOpsOverTheWire(t *testing.T) {
	var mu sync.Mutex
	var passed []fault.Label
	c := newCluster(t, 1, 1, func(cfg *Config) {
		cfg.InDoubtAfter = never
		cfg.Point = func(l fault.Label) {
			mu.Lock()
			defer mu.Unlock()
			passed = append(passed, l)
		}
	})
	w := ask("shard-0", &transport.Write{Ops: []transport.Op{conceptOp("a"), {Kind: transport.OpAdd, ID: "a", Key: "n", Number: 5}}})
	w.RequestID, w.Issued = event.RequestID{9}, time.Now().UnixMicro()
	for range 2 {
		if ok := must[transport.WriteOk](t)(c.route(w)); len(ok.Results) != 2 || ok.Results[1].Value != 5 || ok.ResultsOmitted {
			t.Fatalf("%+v, want the sum, the second time too", ok)
		}
	}
	p := prepareOf(1, 1)
	p.Ops = []transport.Op{{Kind: transport.OpRead, ID: "a"}, {Kind: transport.OpAdd, ID: "b", Key: "n", Number: 1}}
	if v := c.prepare(p); v.Vote || v.OpIndex != 1 || v.Reason.Kind != event.KindPrecondition {
		t.Fatalf("%+v, want a no for op 1", v)
	}
	p.Attempt, p.Ops = 2, []transport.Op{{Kind: transport.OpRead, ID: "a"}, conceptOp("b"), {Kind: transport.OpAdd, ID: "b", Key: "n", Number: 1}}
	v := c.prepare(p)
	if !v.Vote || len(v.Results) != 3 || v.Results[0].Attributes["n"] != "5" || v.Results[2].Value != 1 {
		t.Fatalf("vote %+v", v)
	}
	// a is shared: it can be read, not written.
	if got := must[transport.QueryConceptOk](t)(c.route(ask("shard-0", &transport.QueryConcept{ConceptID: "a"}))); !got.Found {
		t.Error("a row that is shared was not read")
	}
	shut := write("shard-0", concept("a"))
	shut.TimeoutMillis = 20
	wantKind(t, second(c.route(shut)), event.KindLocked)
	results := func() *transport.TxnResultsOk {
		t.Helper()
		return must[transport.TxnResultsOk](t)(c.route(ask("shard-0", &transport.TxnResults{TxnID: p.TxnID, Attempt: p.Attempt})))
	}
	if got := results(); !got.Omitted {
		t.Errorf("%+v before the commit", got)
	}
	c.finish(finishOf(p, true))
	if got := results(); got.Omitted || len(got.Results) != 3 || got.Results[0].Attributes["n"] != "5" || got.Results[2].Value != 1 {
		t.Errorf("%+v, want what the votes answered", got)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []fault.Label{fault.ShardPrepareBefore, fault.ShardPrepareAfter, fault.ShardPrepareBefore, fault.ShardPrepareAfter, fault.ShardFinishBefore, fault.ShardFinishAfter}
	if !slices.Equal(passed, want) {
		t.Errorf("passed %v, want %v", passed, want)
	}
}
