package storagenode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// answers is something that answers requests: a node alone, or a grid of shards through the client library.
type answers func(req any) (any, error)

// aloneAnswers is one node with one shard.
func aloneAnswers(t *testing.T) answers {
	n := openAlone(t, transport.NewMemory(), t.TempDir())
	return func(req any) (any, error) {
		ctx, cancel := context.WithTimeout(t.Context(), testLimit)
		defer cancel()
		return n.handle(ctx, nil, req)
	}
}

// gridAnswers is a grid of shards on one node. Its transactions are the two halves of an association, without their coordinator.
func gridAnswers(t *testing.T, shards int) answers {
	c := newCluster(t, 1, shards, nil)
	lib, err := client.New(client.Config{Masters: []string{c.master.addr}, Network: c.network, Txn: c.halves})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lib.Close() })
	return func(req any) (any, error) {
		ctx, cancel := context.WithTimeout(t.Context(), testLimit)
		defer cancel()
		return lib.Do(ctx, req)
	}
}

func (c *testCluster) halves(_ context.Context, txn *transport.Txn) (*transport.TxnOk, error) {
	for _, op := range txn.Ops {
		for _, half := range []struct {
			kind transport.OpKind
			at   string
		}{{transport.OpLinkOut, op.ID}, {transport.OpLinkIn, op.Target}} {
			op.Kind = half.kind
			c.master.mu.Lock()
			s, err := c.master.state.Map.Shard(half.at)
			c.master.mu.Unlock()
			if err == nil {
				_, err = c.route(write(s.ID, &transport.Write{Ops: []transport.Op{op}}))
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return &transport.TxnOk{TxnID: txn.RequestID, Seq: 1}, nil
}

// theStory is data whose meaning is written down: learnt in this order, one after the other.
var theStory = []any{
	said("smoking", "Smoking causes damage to cells", 0.9),
	said("damage", "Damage enables a tumour in the patient", 0.8),
	said("tumour", "A tumour causes illness", 0.8),
	said("screening", "Screening prevents illness of the patient", 0.7),
	said("illness", "the illness", 0.5),
	said("safe", "The drug is safe", 1),
	said("unsafe", "The drug is not safe", 1),
	said("law", "Every contract must be signed", 1),
	said("dose9", "The maximum dose is 9 grams", 1),
	said("dose5", "the maximum dose is 5 grams", 1),
	leads("smoking", "damage", 1, 0.5), leads("damage", "tumour", 1, 0.5), leads("tumour", "illness", 1, 1), leads("smoking", "illness", 1, 0.125),
	leads("smoking", "illness", 0, 0.25), leads("illness", "safe", 2, 1), leads("safe", "unsafe", 0, 1), leads("screening", "illness", 0, 1),
}

func said(id, content string, confidence float32) any {
	return &transport.LearnConcept{ConceptID: id, Content: content, Strength: 1, Confidence: confidence}
}

func leads(from, to string, kind uint32, confidence float32) any {
	return &transport.LearnAssociation{SourceID: from, TargetID: to, AssocType: kind, Confidence: confidence}
}

func ptr[T any](v T) *T { return &v }

// path is a path whose concepts came one after the other.
func path(confidence float32, types map[string]uint32, domains []string, ids ...string) transport.SemanticPath {
	return transport.SemanticPath{Concepts: ids, Confidence: confidence, TypeDistribution: types, Domains: domains, IsTemporallyOrdered: true}
}

type types = map[string]uint32

// whatItMeans are requests about the story and their answers.
var whatItMeans = []struct{ req, want any }{
	{&transport.FindCausalChain{StartID: "smoking", MaxDepth: 20}, &transport.FindCausalChainOk{Paths: []transport.SemanticPath{
		path(0.5, types{"causal": 2}, []string{"medical", "scientific"}, "smoking", "damage"),
		path(0.25, types{"causal": 3}, []string{"medical", "scientific"}, "smoking", "damage", "tumour"),
		path(0.25, types{"causal": 3, "entity": 1}, []string{"medical", "scientific"}, "smoking", "damage", "tumour", "illness"),
	}}},
	{&transport.FindCausalChain{StartID: "smoking", CausalType: ptr("Direct"), MaxDepth: 20}, &transport.FindCausalChainOk{Paths: []transport.SemanticPath{
		path(0.5, types{"causal": 2}, []string{"medical", "scientific"}, "smoking", "damage"),
		path(0.125, types{"causal": 1, "entity": 1}, []string{"medical", "scientific"}, "smoking", "illness"),
	}}},
	{&transport.FindCausalChain{StartID: "nobody", MaxDepth: 20}, &transport.FindCausalChainOk{Paths: []transport.SemanticPath{}}},
	{&transport.FindPathSemantic{StartID: "smoking", EndID: "illness", MaxDepth: 5}, &transport.FindPathSemanticOk{Paths: []transport.SemanticPath{
		path(0.25, types{"causal": 1, "entity": 1}, []string{"medical", "scientific"}, "smoking", "illness"),
		path(0.25, types{"causal": 3, "entity": 1}, []string{"medical", "scientific"}, "smoking", "damage", "tumour", "illness"),
	}}},
	{&transport.FindPathSemantic{StartID: "smoking", EndID: "illness", MaxDepth: 5, MaxPaths: 5, Filter: &transport.SemanticFilter{RequiredTerms: []string{"PATIENT"}}},
		&transport.FindPathSemanticOk{Paths: []transport.SemanticPath{
			path(0.25, types{"causal": 1, "entity": 1}, []string{"medical", "scientific"}, "smoking", "illness"),
		}}},
	{&transport.FindPathSemantic{StartID: "illness", EndID: "smoking", MaxDepth: 20}, &transport.FindPathSemanticOk{Paths: []transport.SemanticPath{}}},
	{&transport.FindTemporalChain{StartID: ptr("tumour"), EndID: ptr("unsafe"), MaxDepth: ptr(uint32(3))}, &transport.FindTemporalChainOk{Paths: []transport.SemanticPath{
		path(1, types{"causal": 1, "entity": 2, "negation": 1}, []string{"medical"}, "tumour", "illness", "safe", "unsafe"),
	}}},
	{&transport.FindTemporalChain{StartID: ptr("tumour"), EndID: ptr("unsafe"), MaxDepth: ptr(uint32(3)), Before: ptr("2001-01-01")},
		&transport.FindTemporalChainOk{Paths: []transport.SemanticPath{}}},
	{&transport.FindTemporalChain{StartTime: ptr(time.Now().Unix() - 3600), EndTime: ptr(time.Now().Unix() + 3600), Domain: ptr("medical")},
		&transport.FindTemporalChainOk{Paths: []transport.SemanticPath{
			path(1, types{"causal": 1, "entity": 2, "negation": 1}, []string{"medical"}, "screening", "illness", "safe", "unsafe"),
		}}},
	{&transport.FindTemporalChain{StartTime: ptr(int64(0)), EndTime: ptr(int64(1e9))}, &transport.FindTemporalChainOk{Paths: []transport.SemanticPath{}}},
	{&transport.FindContradictions{Domain: ptr("Medical")}, &transport.FindContradictionsOk{Contradictions: [][]string{
		{"dose5", "dose9", "the same statement with different amounts"}, {"safe", "unsafe", "one denies what the other states"},
	}}},
	{&transport.FindContradictions{ConceptID: ptr("illness"), MaxDepth: ptr(uint32(2))}, &transport.FindContradictionsOk{Contradictions: [][]string{
		{"safe", "unsafe", "one denies what the other states"},
	}}},
	{&transport.FindContradictions{ConceptID: ptr("illness"), MaxDepth: ptr(uint32(1))}, &transport.FindContradictionsOk{Contradictions: [][]string{}}},
	{&transport.QueryBySemantic{Filter: &transport.SemanticFilter{SemanticType: ptr("rule")}}, &transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{
		{ConceptID: "law", Content: "Every contract must be signed", SemanticType: "rule", Domain: "legal", Confidence: 1},
	}}},
	{&transport.QueryBySemantic{Filter: &transport.SemanticFilter{HasCausalRelation: true, MinConfidence: 0.5}, Limit: ptr(uint32(2))},
		&transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{
			{ConceptID: "damage", Content: "Damage enables a tumour in the patient", SemanticType: "causal", Domain: "medical", Confidence: 0.8},
			{ConceptID: "illness", Content: "the illness", SemanticType: "entity", Domain: "medical", Confidence: 0.5},
		}}},
	{&transport.QueryBySemantic{Filter: &transport.SemanticFilter{TemporalBefore: ptr(int64(1e9))}}, &transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{}}},
}

// TestSemanticRequests: the same data gives the same answers on a node alone and over one, two and four shards: those that are
// written down, and for data that nobody thought about those of the node alone.
func TestSemanticRequests(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	chance, questions := randomStory(r), randomQuestions(r)
	var first []any
	for _, shards := range []int{0, 1, 2, 4} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) {
			ask := aloneAnswers(t)
			if shards > 0 {
				ask = gridAnswers(t, shards)
			}
			learnAll(t, ask, theStory)
			for _, q := range whatItMeans {
				got, err := ask(q.req)
				if d := cmp.Diff(q.want, got); err != nil || d != "" {
					t.Errorf("%+v: %v\n%s", q.req, err, d)
				}
			}
			learnAll(t, ask, chance)
			var replies []any
			for _, q := range questions {
				reply, err := ask(q)
				if err != nil {
					t.Fatalf("%+v: %v", q, err)
				}
				replies = append(replies, reply)
			}
			if first == nil {
				first = replies
			}
			if d := cmp.Diff(first, replies); d != "" {
				t.Error(d)
			}
		})
	}
	if n := len(fmt.Sprint(first...)); n < 1000 {
		t.Errorf("the answers have %d characters: they compare nothing", n)
	}
}

func learnAll(t *testing.T, ask answers, story []any) {
	t.Helper()
	for _, req := range story {
		if _, err := ask(req); err != nil {
			t.Fatalf("%+v: %v", req, err)
		}
	}
}

func randomStory(r *rand.Rand) (story []any) {
	contents := []string{"the stone %d", "Rain causes flood %d", "The river is %d meters wide", "The dam isn't safe", "The dam is safe", "Walls prevent flood %d"}
	for i := range 30 {
		story = append(story, said(fmt.Sprint("r", i), fmt.Sprintf(contents[r.IntN(len(contents))]+" %[1]d", i%7), float32(r.IntN(5))/4))
	}
	for range 90 {
		story = append(story, leads(fmt.Sprint("r", r.IntN(30)), fmt.Sprint("r", r.IntN(30)), uint32(r.IntN(3)), float32(1+r.IntN(4))/4))
	}
	return story
}

func randomQuestions(r *rand.Rand) (all []any) {
	for range 15 {
		a, b, depth := fmt.Sprint("r", r.IntN(31)), fmt.Sprint("r", r.IntN(31)), uint32(r.IntN(6))
		all = append(all, &transport.FindPathSemantic{StartID: a, EndID: b, MaxDepth: depth, Filter: &transport.SemanticFilter{MinConfidence: 0.25}},
			&transport.FindTemporalChain{StartID: &a, EndID: &b, MaxDepth: &depth}, &transport.FindCausalChain{StartID: a, MaxDepth: depth},
			&transport.FindContradictions{ConceptID: &a, MaxDepth: &depth}, &transport.QueryBySemantic{Filter: &transport.SemanticFilter{RequiredTerms: []string{fmt.Sprint(r.IntN(9))}}, Limit: &depth})
	}
	span := &transport.FindTemporalChain{StartTime: ptr(int64(0)), EndTime: ptr(time.Now().Unix() + 3600)}
	return append(all, span, &transport.FindContradictions{}, &transport.QueryBySemantic{})
}

// TestSemanticRefusals: what is not a request, what one node of several shards cannot answer, and what belongs to other shards.
func TestSemanticRefusals(t *testing.T) {
	ask := aloneAnswers(t)
	for _, bad := range []any{
		&transport.QueryBySemantic{Filter: &transport.SemanticFilter{SemanticType: ptr("poem")}}, &transport.FindContradictions{Domain: ptr("music")},
		&transport.FindCausalChain{StartID: "a", CausalType: ptr("magic")}, &transport.Links{ConceptIDs: []string{"a"}, Direction: "up"},
		&transport.Survey{Cursor: "AAAA"}, &transport.Classify{ConceptIDs: []string{""}},
	} {
		wantKind(t, second(ask(bad)), event.KindInvalid)
	}
	c := newCluster(t, 1, 2, nil)
	addr := c.nodes["node-1"].Addr()
	own, foreign := c.owned("shard-0", "x", 1)[0], c.owned("shard-1", "x", 1)[0]
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	for _, walk := range []any{&transport.FindCausalChain{StartID: own}, &transport.FindContradictions{}, &transport.FindPathSemantic{StartID: own, EndID: own}} {
		wantKind(t, second(c.pool.Call(ctx, addr, walk)), event.KindRefused)
		wantKind(t, second(c.send("node-1", onShard0(walk))), event.KindUnsupported)
	}
	wantKind(t, second(c.pool.Call(ctx, addr, &transport.QueryBySemantic{})), event.KindRefused)
	for _, read := range []any{&transport.Classify{ConceptIDs: []string{own, foreign}}, &transport.Links{ConceptIDs: []string{foreign}, Direction: "in"}} {
		wantKind(t, second(c.send("node-1", onShard0(read))), event.KindWrongShard)
	}
}

func onShard0(req any) *transport.Routed { return ask("shard-0", req) }

// TestSemanticInEventStorage: what masters ship means nothing here; what somebody else learns does.
func TestSemanticInEventStorage(t *testing.T) {
	cfg := aloneConfig(t, transport.NewMemory(), t.TempDir())
	cfg.Events = true
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ask := func(req any) (any, error) { return n.handle(t.Context(), nil, req) }
	for id, kind := range map[string]string{"event-0000000000000007": "", "agent-001": "entity", "ts-5": "time", "event-7": "", "note": ""} {
		req := concept(id)
		req.Metadata = &transport.Metadata{Attributes: map[string]string{"kind": kind, "timestamp": "2020-01-01T00:00:00Z"}}
		must[transport.LearnConceptOk](t)(ask(req))
	}
	learnAll(t, ask, []any{leads("agent-001", "event-0000000000000007", 1, 1), leads("note", "event-7", 1, 1)})
	got := must[transport.QueryBySemanticOk](t)(ask(&transport.QueryBySemantic{Filter: &transport.SemanticFilter{TemporalBefore: ptr(int64(1577836800))}}))
	if len(got.Concepts) != 2 || got.Concepts[0].ConceptID != "event-7" || got.Concepts[1].ConceptID != "note" {
		t.Errorf("got %+v", got.Concepts)
	}
	for start, chains := range map[string]int{"agent-001": 0, "note": 1} {
		if ok := must[transport.FindCausalChainOk](t)(ask(&transport.FindCausalChain{StartID: start, MaxDepth: 5})); len(ok.Paths) != chains {
			t.Errorf("%s leads to %+v", start, ok.Paths)
		}
	}
}

// TestSemanticQueryOfMuchContent is refused above a bound, and paged through below it.
func TestSemanticQueryOfMuchContent(t *testing.T) {
	ask := aloneAnswers(t)
	for i := range 4 {
		learnAll(t, ask, []any{said(fmt.Sprint("big", i), string(make([]byte, 9<<20)), 1)})
	}
	for from := 0; from < 1500; from += 500 {
		b := &transport.Batch{}
		for n := range 500 {
			b.Requests = append(b.Requests, transport.Any{Value: concept(fmt.Sprintf("s%05d", from+n))})
		}
		learnAll(t, ask, []any{b})
	}
	wantKind(t, second(ask(&transport.QueryBySemantic{})), event.KindTooLarge)
	q := &transport.QueryBySemantic{Filter: &transport.SemanticFilter{RequiredTerms: []string{"ABOUT"}}, Limit: ptr(uint32(1400))}
	if ok := must[transport.QueryBySemanticOk](t)(ask(q)); len(ok.Concepts) != 1400 || ok.Concepts[1399].ConceptID != "s01399" {
		t.Errorf("%d concepts", len(ok.Concepts))
	}
}
