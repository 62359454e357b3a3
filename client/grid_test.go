package client

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGrid stands in for masters and storage nodes at the seam of the wire: real transport servers on a memory network, in
// virtual time, over shards that are Go maps. What it fakes is replication: the replicas of a shard share one store.
type fakeGrid struct {
	network *transport.Memory
	servers []*transport.Server
	wg      sync.WaitGroup

	mu       sync.Mutex
	current  *transport.ShardMapOk
	moved    chan struct{} // closed and replaced when current is
	shards   map[event.ShardID]*fakeShard
	down     map[event.NodeID]bool // answers nothing
	leaders  map[event.ShardID]event.NodeID
	requests []received
	txns     []*transport.Txn
	deleted  []transport.OpResult // of every transaction that deletes
	watches  int
	next     uint64 // of txn sequences

	forwards  bool // masters send requests on
	forwarded []*transport.Routed
	// fault, when set, is asked before a routed request is answered; an error is the answer. nth counts from 1.
	fault func(node event.NodeID, r *transport.Routed, nth int) error
	// watchFault is asked before a watch begins.
	watchFault func() error
}

// received is a routed request as a node got it.
type received struct {
	node event.NodeID
	*transport.Routed
}

const fakeMaster = "master-1:7002"

func nodeID(i int) event.NodeID          { return event.NodeID(fmt.Sprintf("node-%d", i+1)) }
func endpoint(n event.NodeID) string     { return string(n) + ":50053" }
func mapAt(n, seq uint64) event.Position { return event.Position{N: n, Seq: seq} }

// inGrid runs f against a grid of nodes and shards; every node holds every shard, and shard i is led by node i modulo nodes.
func inGrid(t *testing.T, nodes, shards int, f func(t *testing.T, g *fakeGrid)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGrid(t, nodes, shards)
		f(t, g)
		g.close()
	})
}

func newFakeGrid(t fataler, nodes, shards int) *fakeGrid {
	g := &fakeGrid{network: transport.NewMemory(), moved: make(chan struct{}), shards: map[event.ShardID]*fakeShard{},
		down: map[event.NodeID]bool{}, leaders: map[event.ShardID]event.NodeID{}}
	m := shardmap.Map{Epoch: mapAt(1, 10), Strategy: shardmap.StrategyHash, Base: uint32(shards), Replicas: uint32(nodes)}
	for i := range shards {
		s := shardmap.Shard{ID: shardmap.ID(uint64(i)), State: shardmap.Formed, Leader: nodeID(i % nodes), Term: 1}
		for j := range nodes {
			s.Replicas = append(s.Replicas, shardmap.Replica{ReplicaID: event.NewReplicaID(string(nodeID(j)), "00"), NodeID: nodeID(j),
				Endpoint: endpoint(nodeID(j)), Role: shardmap.Voter})
		}
		m.Shards = append(m.Shards, s)
		g.shards[s.ID] = newFakeShard()
		g.leaders[s.ID] = s.Leader
	}
	g.current = &transport.ShardMapOk{Map: m, GridID: "grid", Incarnation: event.Incarnation{N: 1}}
	for i := range nodes {
		g.serve(t, endpoint(nodeID(i)), func(ctx context.Context, _ *transport.Session, req any) (any, error) {
			return g.answer(ctx, nodeID(i), req)
		})
	}
	g.serve(t, fakeMaster, g.master)
	return g
}

type fataler interface{ Fatal(args ...any) }

func (g *fakeGrid) serve(t fataler, addr string, h transport.Handler) {
	l, err := g.network.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	s := transport.NewServer(transport.ServerConfig{Handler: h, Log: slog.New(slog.DiscardHandler)})
	g.servers = append(g.servers, s)
	g.wg.Go(func() { _ = s.Serve(context.Background(), l) })
}

func (g *fakeGrid) close() {
	for _, s := range g.servers {
		_ = s.Close()
	}
	g.wg.Wait()
}

// client is a client of the grid that the test closes.
func (g *fakeGrid) client(t fataler) *Client {
	c, err := New(Config{Masters: []string{fakeMaster}, Network: g.network})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (g *fakeGrid) locked(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// publish changes a copy of the map and gives it the next seq.
func (g *fakeGrid) publish(change func(m *transport.ShardMapOk)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := *g.current
	next.Map.Shards = slices.Clone(next.Map.Shards)
	next.Map.Epoch.Seq++
	change(&next)
	g.current = &next
	close(g.moved)
	g.moved = make(chan struct{})
}

// lead makes a node the leader of a shard, and the map say so or not.
func (g *fakeGrid) lead(shard event.ShardID, node event.NodeID, published bool) {
	g.locked(func() { g.leaders[shard] = node })
	if published {
		g.publish(func(m *transport.ShardMapOk) {
			n, _ := shardmap.Number(shard)
			m.Map.Shards[n].Leader = node
		})
	}
}

func (g *fakeGrid) received() []received {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// answer is a node's answer to a routed request.
func (g *fakeGrid) answer(ctx context.Context, node event.NodeID, req any) (any, error) {
	r, ok := req.(*transport.Routed)
	if !ok {
		return nil, fmt.Errorf("a node got %T", req)
	}
	g.mu.Lock()
	g.requests = append(g.requests, received{node, r})
	nth, fault, down, leader, shard, epoch := len(g.requests), g.fault, g.down[node], g.leaders[r.ShardID], g.shards[r.ShardID], g.current.Map.Epoch
	g.mu.Unlock()
	if down {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if fault != nil {
		if err := fault(node, r, nth); err != nil {
			return nil, err
		}
	}
	switch {
	case shard == nil:
		return nil, &event.Error{Kind: event.KindWrongShard, Message: "no such shard", Epoch: epoch.Seq}
	case node != leader && r.Consistency != Stale:
		return nil, &event.Error{Kind: event.KindNotLeader, Message: "not here", Leader: string(leader)}
	}
	reply, seq, err := shard.do(r)
	if err != nil {
		return nil, err
	}
	return &transport.RoutedOk{ShardSeq: seq, Epoch: epoch, ReadMode: Linearizable, Reply: transport.Any{Value: reply}}, nil
}

// master answers what a client asks of masters.
func (g *fakeGrid) master(ctx context.Context, s *transport.Session, req any) (any, error) {
	switch r := req.(type) {
	case *transport.WatchShardMap:
		return nil, g.watch(ctx, s, r.Epoch)
	case *transport.Txn:
		return g.txn(r)
	case *transport.Routed:
		return g.forward(ctx, r)
	case *transport.WatchEvents:
		return nil, fakeFeed(ctx, s, r.From)
	}
	return nil, fmt.Errorf("a master got %T", req)
}

// forward sends a request on, unless the grid is of a version that does not.
func (g *fakeGrid) forward(ctx context.Context, r *transport.Routed) (any, error) {
	g.mu.Lock()
	g.forwarded = append(g.forwarded, r)
	forwards, leader := g.forwards, g.leaders[r.ShardID]
	g.mu.Unlock()
	if !forwards {
		return nil, &event.Error{Kind: event.KindUnsupported, Message: "Routed is not a request of this grid"}
	}
	return g.answer(ctx, leader, r)
}

func (g *fakeGrid) watch(ctx context.Context, s *transport.Session, from event.Position) error {
	g.mu.Lock()
	g.watches++
	fault := g.watchFault
	g.mu.Unlock()
	if fault != nil {
		if err := fault(); err != nil {
			return err
		}
	}
	for first := true; ; first = false {
		g.mu.Lock()
		current, moved := g.current, g.moved
		g.mu.Unlock()
		if !first || from.Less(current.Map.Epoch) {
			if err := s.Send(ctx, current); err != nil {
				return err
			}
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// txn applies associations to both ends' shards, all or none.
func (g *fakeGrid) txn(r *transport.Txn) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.txns = append(g.txns, r)
	if r.Ops[0].Kind.Deletes() {
		g.next++
		return &transport.TxnOk{TxnID: r.RequestID, Seq: g.next, Results: g.deleted}, nil
	}
	shardOf := func(id string) *fakeShard {
		s, _ := g.current.Map.Shard(id)
		return g.shards[s.ID]
	}
	learnt := map[string]bool{}
	for i, o := range r.Ops {
		if o.Kind == transport.OpLearnConcept {
			learnt[o.ID] = true
			continue
		}
		for _, id := range []string{o.ID, o.Target} {
			if !learnt[id] && !shardOf(id).has(id) {
				return nil, &event.Error{Kind: event.KindPrecondition, Message: "no concept " + id, OpNumber: uint32(i) + 1}
			}
		}
	}
	for _, o := range r.Ops {
		if o.Kind == transport.OpLearnConcept {
			shardOf(o.ID).learn(o)
			continue
		}
		shardOf(o.ID).linkOut(o)
		shardOf(o.Target).linkIn(o)
	}
	g.next++
	return &transport.TxnOk{TxnID: r.RequestID, Seq: g.next}, nil
}

// fakeShard is one shard's data.
type fakeShard struct {
	mu       sync.Mutex
	seq      uint64
	done     map[event.RequestID]any // the request table
	concepts map[string]*transport.LearnConcept
	out, in  map[string][]transport.Op
}

func newFakeShard() *fakeShard {
	return &fakeShard{done: map[event.RequestID]any{}, concepts: map[string]*transport.LearnConcept{}, out: map[string][]transport.Op{}, in: map[string][]transport.Op{}}
}

func (s *fakeShard) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.concepts[id] != nil
}

func (s *fakeShard) learn(o transport.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.concepts[o.ID] = &transport.LearnConcept{ConceptID: o.ID, Content: o.Content, Embedding: o.Embedding}
}

func (s *fakeShard) linkOut(o transport.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	link(s.out, o.ID, o)
}

func (s *fakeShard) linkIn(o transport.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	link(s.in, o.Target, o)
}

// link adds an association, or updates its confidence in its place.
func link(index map[string][]transport.Op, id string, o transport.Op) {
	for i, have := range index[id] {
		if have.ID == o.ID && have.Target == o.Target && have.AssocType == o.AssocType {
			index[id][i].Confidence = o.Confidence
			return
		}
	}
	index[id] = append(index[id], o)
}

// do answers a request once: a request id that was seen gets its first answer.
func (s *fakeShard) do(r *transport.Routed) (reply any, seq uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.done[r.RequestID]; ok {
		return first, s.seq, nil
	}
	switch q := r.Request.Value.(type) {
	case *transport.LearnConcept:
		s.seq++
		s.concepts[q.ConceptID] = q
		reply = &transport.LearnConceptOk{Sequence: s.seq}
	case *transport.LearnAssociation:
		if s.concepts[q.SourceID] == nil || s.concepts[q.TargetID] == nil {
			return nil, 0, &event.Error{Kind: event.KindPrecondition, Message: "no such concept"}
		}
		s.seq++
		link(s.out, q.SourceID, associationOp(q))
		link(s.in, q.TargetID, associationOp(q))
		reply = &transport.LearnAssociationOk{Sequence: s.seq}
	case *transport.DeleteConcept:
		if len(s.out[q.ConceptID]) > 0 {
			return nil, 0, &event.Error{Kind: event.KindNeedsTxn, Message: "an end lives elsewhere"}
		}
		s.seq++
		reply = &transport.DeleteConceptOk{Deleted: s.concepts[q.ConceptID] != nil, Sequence: s.seq}
		delete(s.concepts, q.ConceptID)
	case *transport.DeleteAssociation:
		s.seq++
		reply = &transport.DeleteAssociationOk{Sequence: s.seq}
	case *transport.Write:
		s.seq++
		for _, o := range q.Ops {
			if o.Kind == transport.OpLearnAssociation {
				link(s.out, o.ID, o)
				link(s.in, o.Target, o)
				continue
			}
			s.concepts[o.ID] = &transport.LearnConcept{ConceptID: o.ID, Content: o.Content, Embedding: o.Embedding}
		}
		reply = &transport.WriteOk{Sequence: s.seq}
	default:
		return s.lookUp(q), s.seq, nil
	}
	if r.RequestID.IsZero() {
		return nil, 0, &event.Error{Kind: event.KindInvalid, Message: "a write without a request id"}
	}
	s.done[r.RequestID] = reply
	return reply, s.seq, nil
}

// lookUp answers a read.
func (s *fakeShard) lookUp(req any) any {
	switch q := req.(type) {
	case *transport.Exists:
		ok := &transport.ExistsOk{Known: make([]bool, len(q.ConceptIDs))}
		for i, id := range q.ConceptIDs {
			ok.Known[i] = s.concepts[id] != nil
		}
		return ok
	case *transport.Embed:
		ok := &transport.EmbedOk{Embeddings: make([][]float32, len(q.Texts))}
		for i, text := range q.Texts {
			ok.Embeddings[i] = []float32{float32(len(text))}
		}
		return ok
	case *transport.QueryConcept:
		if c := s.concepts[q.ConceptID]; c != nil {
			return &transport.QueryConceptOk{Found: true, ConceptID: c.ConceptID, Content: c.Content}
		}
		return &transport.QueryConceptOk{ConceptID: q.ConceptID}
	case *transport.GetNeighbors:
		return &transport.GetNeighborsOk{NeighborIDs: distinct(s.out[q.ConceptID], false)}
	case *transport.Neighbors:
		ok := &transport.NeighborsOk{}
		for _, o := range s.out[q.ConceptID] {
			ok.Items = append(ok.Items, transport.Neighbor{ID: o.Target, Type: o.AssocType, Confidence: o.Confidence, Direction: "out"})
		}
		return ok
	case *transport.GetAssociation:
		for _, o := range s.out[q.SourceID] {
			if o.Target == q.TargetID {
				return &transport.GetAssociationOk{Found: true, SourceID: o.ID, TargetID: o.Target, AssocType: o.AssocType, Confidence: o.Confidence}
			}
		}
		return &transport.GetAssociationOk{SourceID: q.SourceID, TargetID: q.TargetID}
	case *transport.Expand:
		ok := &transport.ExpandOk{}
		for _, id := range q.ConceptIDs {
			n := distinct(s.out[id], false)
			if q.Direction == "in" {
				n = distinct(s.in[id], true)
			}
			ok.Neighbors, ok.Known = append(ok.Neighbors, n), append(ok.Known, s.concepts[id] != nil)
		}
		return ok
	case *transport.GetStats:
		ok := &transport.StatsOk{Concepts: uint64(len(s.concepts)), UptimeSeconds: 5, Written: s.seq}
		for _, list := range s.out {
			ok.Edges += uint64(len(list))
		}
		return ok
	case *transport.GetAllConceptIds:
		ok := &transport.GetAllConceptIdsOk{}
		for id := range s.concepts {
			ok.ConceptIDs = append(ok.ConceptIDs, id)
		}
		slices.Sort(ok.ConceptIDs)
		return ok
	case *transport.QueryByMetadata:
		p := pageOf(s.items(), q, 5)
		return &transport.QueryByMetadataOk{Items: p.items, Cursor: p.cursor}
	case *transport.Scan:
		return s.scan(q)
	case *transport.Classify:
		return &transport.ClassifyOk{Concepts: s.classified(q.ConceptIDs)}
	case *transport.Links:
		ok := &transport.LinksOk{}
		for _, id := range q.ConceptIDs {
			ok.Links = append(ok.Links, s.edges(id, q.Direction))
		}
		return ok
	case *transport.Survey:
		page := s.scan(&transport.Scan{Limit: 3, Cursor: q.Cursor})
		ok := &transport.SurveyOk{Cursor: page.Cursor}
		for _, item := range page.Items {
			ok.Concepts = append(ok.Concepts, s.classified([]string{item.ConceptID})...)
		}
		return ok
	case *transport.QueryBySemantic:
		ok := &transport.QueryBySemanticOk{}
		for _, item := range s.scan(&transport.Scan{Limit: uint32(transport.LimitOf(q))}).Items {
			ok.Concepts = append(ok.Concepts, transport.SemanticConcept{ConceptID: item.ConceptID, Content: s.concepts[item.ConceptID].Content})
		}
		return ok
	case *transport.Flush:
		return transport.FlushOk{}
	case *transport.HealthCheck:
		return &transport.HealthCheckOk{Healthy: true, Status: "ok", UptimeSeconds: 5}
	}
	return nil
}

func distinct(ops []transport.Op, sources bool) []string {
	ids := []string{}
	for _, o := range ops {
		id := o.Target
		if sources {
			id = o.ID
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *fakeShard) items() (items []transport.ConceptItem) {
	for id := range s.concepts {
		items = append(items, transport.ConceptItem{ConceptID: id})
	}
	return items
}

func (s *fakeShard) scan(q *transport.Scan) *transport.ScanOk {
	after, err := transport.DecodeCursor(q)
	if err != nil {
		panic(err)
	}
	ok := &transport.ScanOk{}
	items := s.items()
	slices.SortFunc(items, func(a, b transport.ConceptItem) int { return strings.Compare(a.ConceptID, b.ConceptID) })
	for _, item := range items {
		if after != nil && item.ConceptID <= after.ID {
			continue
		}
		if len(ok.Items) == int(q.Limit) {
			ok.Cursor = transport.EncodeCursor(q, transport.Place{ID: ok.Items[len(ok.Items)-1].ConceptID})
			return ok
		}
		ok.Items = append(ok.Items, item)
	}
	return ok
}

// classified says of every concept that it is about the same, and of those whose content is "no" that they deny it.
func (s *fakeShard) classified(ids []string) (all []transport.Classified) {
	for _, id := range ids {
		c := transport.Classified{ConceptID: id}
		if found := s.concepts[id]; found != nil {
			c.Known, c.Passes, c.Statement = true, true, transport.Statement{Subject: 1, Negated: found.Content == "no"}
		}
		all = append(all, c)
	}
	return all
}

func (s *fakeShard) edges(id, direction string) (edges []transport.Edge) {
	ops := s.out[id]
	if direction == "in" {
		ops = s.in[id]
	}
	for _, o := range ops {
		other := o.Target
		if direction == "in" {
			other = o.ID
		}
		edges = append(edges, transport.Edge{ID: other, Confidence: o.Confidence})
	}
	return edges
}
