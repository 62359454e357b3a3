package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

// alone is the map of a storage node that runs without masters. With masters it is left out of the Config: the client
// watches theirs.
type alone struct{ m shardmap.Map }

func newAlone(addr string) *alone {
	return &alone{shardmap.Map{Epoch: event.Position{N: 1, Seq: 1}, Strategy: shardmap.StrategyHash, Base: 1, Replicas: 1, Shards: []shardmap.Shard{{
		ID: "shard-0", State: shardmap.Formed, Leader: "node-0",
		Replicas: []shardmap.Replica{{NodeID: "node-0", Endpoint: addr, Role: shardmap.Voter}},
	}}}}
}

func (a *alone) Map() *shardmap.Map { return &a.m }

func (a *alone) WaitNewer(ctx context.Context, _ event.Position) error {
	<-ctx.Done()
	return ctx.Err()
}

// startNode runs a storage node alone, on a free port and in a directory of its own.
func startNode() (addr string, stop func()) {
	dir, err := os.MkdirTemp("", "client-example")
	if err != nil {
		log.Fatal(err)
	}
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Log = dir+"/node", "127.0.0.1:0", slog.New(slog.DiscardHandler)
	node, err := storagenode.Open(cfg)
	if err != nil {
		log.Fatal(err)
	}
	return node.Addr(), func() {
		if err := errors.Join(node.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

// What a program does with a client, against a real storage node.
func Example() {
	addr, stop := startNode()
	defer stop()

	noTxn := func(context.Context, *transport.Txn) (*transport.TxnOk, error) {
		return nil, errors.New("one shard needs no transactions")
	}
	// In a grid: client.New(client.Config{Masters: []string{"host:7002"}})
	c, err := client.New(client.Config{Map: newAlone(addr), Txn: noTxn})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx := context.Background()
	for id, content := range map[string]string{"dog": "a domestic animal", "wolf": "a wild animal", "animal": "a living being"} {
		if err := c.LearnConcept(ctx, &transport.LearnConcept{ConceptID: id, Content: content, Strength: 1, Confidence: 1}); err != nil {
			log.Fatal(err)
		}
	}
	for _, e := range [][2]string{{"dog", "wolf"}, {"wolf", "animal"}} {
		if err := c.LearnAssociation(ctx, &transport.LearnAssociation{SourceID: e[0], TargetID: e[1], Confidence: 0.9}); err != nil {
			log.Fatal(err)
		}
	}
	dog, err := c.Concept(ctx, "dog")
	if err != nil {
		log.Fatal(err)
	}
	path, found, err := c.Path(ctx, "dog", "animal", 5)
	if err != nil {
		log.Fatal(err)
	}
	stats, err := c.Stats(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dog.Content)
	fmt.Println(found, path)
	fmt.Println(stats.Concepts, "concepts,", stats.Edges, "associations")

	err = c.LearnAssociation(ctx, &transport.LearnAssociation{SourceID: "dog", TargetID: "unicorn"})
	fmt.Println("no unicorns:", errors.Is(err, &event.Error{Kind: event.KindPrecondition}))
	// Output:
	// a domestic animal
	// true [dog wolf animal]
	// 3 concepts, 2 associations
	// no unicorns: true
}

// A batch answers each request in its place.
func ExampleClient_Batch() {
	addr, stop := startNode()
	defer stop()
	c, err := client.New(client.Config{Map: newAlone(addr), Txn: func(context.Context, *transport.Txn) (*transport.TxnOk, error) {
		return nil, errors.New("one shard needs no transactions")
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	replies, err := c.Batch(context.Background(),
		&transport.LearnConcept{ConceptID: "a", Content: "first"},
		&transport.LearnConcept{ConceptID: "", Content: "has no id"},
		&transport.QueryConcept{ConceptID: "a"})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range replies {
		switch r := r.(type) {
		case *event.Error:
			fmt.Println("error:", r)
		case *transport.QueryConceptOk:
			fmt.Println("content:", r.Content)
		default:
			fmt.Println(transport.VariantName(r))
		}
	}
	// Output:
	// LearnConceptOk
	// error: LearnConcept: concept_id is empty
	// content: first
}

// dial makes a client of a grid; a program has only its masters' addresses to give.
func dial(masters []string, network transport.Network) *client.Client {
	c, err := client.New(client.Config{Masters: masters, Network: network})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// A query says what it allows: here answers of any replica, and without shards that do not answer.
func ExampleClient_Query() {
	masters, network, stop := client.StartFakeGrid()
	defer stop()
	c := dial(masters, network)
	defer c.Close()
	for _, id := range []string{"bee", "fly", "moth"} {
		if err := c.LearnConcept(context.Background(), &transport.LearnConcept{ConceptID: id, Content: "an insect"}); err != nil {
			log.Fatal(err)
		}
	}

	ok, err := c.Query(context.Background(), &transport.Query{
		Request:       transport.Any{Value: &transport.GetAllConceptIds{}},
		Partial:       true,
		Consistency:   client.Stale,
		TimeoutMillis: 500,
	})
	if err != nil {
		log.Fatal(err) // no shard answered, or the request is at fault
	}
	for _, m := range ok.Missing {
		fmt.Println("without", m.ShardID, "because", m.Message)
	}
	fmt.Println(ok.Reply.Value.(*transport.GetAllConceptIdsOk).ConceptIDs, "of", len(ok.Reads), "shards")
	// Output: [bee fly moth] of 2 shards
}

// A transaction is all or nothing, over any shards. Its error says whether it surely did not happen.
func ExampleClient_Txn() {
	masters, network, stop := client.StartFakeGrid()
	defer stop()
	c := dial(masters, network)
	defer c.Close()

	ctx := context.Background()
	_, err := c.Txn(ctx, []transport.Op{
		{Kind: transport.OpLearnConcept, ID: "bee", Content: "an insect"},
		{Kind: transport.OpLearnConcept, ID: "honey", Content: "what bees make"},
		{Kind: transport.OpLearnAssociation, ID: "bee", Target: "honey", Confidence: 1},
	})
	if err != nil {
		log.Fatal(err)
	}
	targets, err := c.Targets(ctx, "bee")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(targets)

	_, err = c.Txn(ctx, []transport.Op{
		{Kind: transport.OpLearnConcept, ID: "wasp", Content: "another insect"},
		{Kind: transport.OpLearnAssociation, ID: "wasp", Target: "nothing", Confidence: 1},
	})
	var refusal *event.Error
	switch {
	case errors.Is(err, &event.Error{Kind: event.KindUnknownOutcome}):
		fmt.Println("it may have happened: send it again with the same request id")
	case errors.As(err, &refusal):
		fmt.Println("it did not happen, for", refusal.Kind, "of operation", refusal.OpNumber)
	}
	wasp, err := c.Concept(ctx, "wasp")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("wasp is there:", wasp.Found)
	// Output:
	// [honey]
	// it did not happen, for precondition of operation 2
	// wasp is there: false
}

// A watch gives each event once, in order, over any change of masters.
func ExampleClient_WatchEvents() {
	masters, network, stop := client.StartFakeGrid()
	defer stop()
	c := dial(masters, network)
	defer c.Close()

	from := client.EventPosition{Incarnation: event.Incarnation{N: 1}, Seq: 1}
	err := c.WatchEvents(context.Background(), from, event.Filter{}, func(step client.Events) error {
		for _, e := range step.Events {
			fmt.Println(e.Seq, e.Type)
		}
		if step.Next.Seq > step.Newest { // everything there was; a program goes on
			return transport.ErrStop
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 setting_changed
	// 2 level_raised
}

// Errors have a kind, which says what to do; the text is for people.
func Example_errors() {
	masters, network, stop := client.StartFakeGrid()
	defer stop()
	c := dial(masters, network)
	defer c.Close()

	err := c.LearnAssociation(context.Background(), &transport.LearnAssociation{SourceID: "bee", TargetID: "nobody"})
	var e *event.Error
	if !errors.As(err, &e) {
		log.Fatal("every error of a client is one")
	}
	switch e.Kind {
	case event.KindPrecondition, event.KindInvalid, event.KindTooLarge:
		fmt.Println("the request is at fault:", e.Kind)
	case event.KindUnavailable, event.KindBusy, event.KindInDoubt:
		fmt.Println("not now: the client has tried until the deadline, and it surely did not happen")
	case event.KindUnknownOutcome, event.KindDeadline:
		fmt.Println("it may have happened: look, or repeat what is safe to repeat")
	}
	// Output: the request is at fault: precondition
}
