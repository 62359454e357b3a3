package storagenode

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// beyond are requests that break one limit each, and the error that the protocol page calls for.
func beyond() map[string]struct {
	req  any
	kind event.Kind
} {
	changed := func(change func(c *transport.LearnConcept)) any {
		c := concept("bad")
		c.Metadata = &transport.Metadata{}
		change(c)
		return c
	}
	many := map[string]string{}
	for i := range transport.MaxAttributes + 1 {
		many[fmt.Sprint(i)] = ""
	}
	nan, long := float32(math.NaN()), strings.Repeat("x", transport.MaxID+1)
	type bad = struct {
		req  any
		kind event.Kind
	}
	return map[string]bad{
		"NaN in a vector":      {changed(func(c *transport.LearnConcept) { c.Embedding = []float32{1, nan, 1, 1} }), event.KindInvalid},
		"infinite strength":    {changed(func(c *transport.LearnConcept) { c.Strength = float32(math.Inf(1)) }), event.KindInvalid},
		"2,049 dimensions":     {changed(func(c *transport.LearnConcept) { c.Embedding = make([]float32, transport.MaxDimension+1) }), event.KindTooLarge},
		"another dimension":    {changed(func(c *transport.LearnConcept) { c.Embedding = make([]float32, 5) }), event.KindInvalid},
		"10 MiB + 1":           {changed(func(c *transport.LearnConcept) { c.Content = strings.Repeat("x", transport.MaxContent+1) }), event.KindTooLarge},
		"513 bytes of id":      {changed(func(c *transport.LearnConcept) { c.ConceptID = long }), event.KindTooLarge},
		"NUL in an id":         {changed(func(c *transport.LearnConcept) { c.ConceptID = "a\x00" }), event.KindInvalid},
		"an id that is no UTF": {changed(func(c *transport.LearnConcept) { c.ConceptID = "\xff" }), event.KindInvalid},
		"content no UTF":       {changed(func(c *transport.LearnConcept) { c.Content = "a\xff" }), event.KindInvalid},
		"a tag no UTF":         {changed(func(c *transport.LearnConcept) { c.Metadata.Tags = []string{"\xff"} }), event.KindInvalid},
		"101 tags":             {changed(func(c *transport.LearnConcept) { c.Metadata.Tags = make([]string, transport.MaxTags+1) }), event.KindTooLarge},
		"101 attributes":       {changed(func(c *transport.LearnConcept) { c.Metadata.Attributes = many }), event.KindTooLarge},
		"confidence NaN":       {&transport.LearnAssociation{SourceID: "a", TargetID: "b", Confidence: nan}, event.KindInvalid},
		"depth 21":             {&transport.FindPath{StartID: "a", EndID: "b", MaxDepth: transport.MaxPathDepth + 1}, event.KindTooLarge},
		"delete of a long id":  {&transport.DeleteConcept{ConceptID: long}, event.KindTooLarge},
		"query of 101 tags":    {&transport.QueryByMetadata{Tags: make([]string, transport.MaxTags+1)}, event.KindTooLarge},
		"a page of 10,001":     {&transport.Scan{Limit: transport.MaxPageLimit + 1}, event.KindTooLarge},
	}
}

// TestLimitsOnEveryPath sends each of them alone, routed, in a batch and in a routed batch, all over one connection, which
// goes on afterwards; nothing is stored.
func TestLimitsOnEveryPath(t *testing.T) {
	network := transport.NewMemory()
	n := openAlone(t, network, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 2*testLimit)
	defer cancel()
	conn, err := transport.DialConn(ctx, transport.DialConfig{Network: network, Addr: n.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, id := range []string{"a", "b"} {
		c := concept(id)
		c.Embedding = []float32{1, 2, 3, 4}
		must[transport.LearnConceptOk](t)(conn.Call(ctx, c))
	}
	shard := n.replicas.all()[0].shard
	before, _, err := n.replicas.all()[0].engine.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := func(req any) *transport.Batch { return &transport.Batch{Requests: []transport.Any{{Value: req}}} }
	inBatch := func(reply any, err error) error {
		if err != nil {
			return err
		}
		if r, ok := reply.(*transport.RoutedOk); ok {
			reply = r.Reply.Value
		}
		e, ok := reply.(*transport.BatchOk).Replies[0].Value.(*event.Error)
		if !ok {
			return nil
		}
		return e
	}
	for name, bad := range beyond() {
		for path, send := range map[string]func() error{
			"plain":           func() error { return second(conn.Call(ctx, bad.req)) },
			"routed":          func() error { return second(conn.Call(ctx, write(shard, bad.req))) },
			"in a batch":      func() error { return inBatch(conn.Call(ctx, batch(bad.req))) },
			"in a routed one": func() error { return inBatch(conn.Call(ctx, write(shard, batch(bad.req)))) },
		} {
			t.Run(name+", "+path, func(t *testing.T) { wantKind(t, send(), bad.kind) })
		}
	}
	full := &transport.Batch{Requests: make([]transport.Any, transport.MaxBatch+1)}
	for i := range full.Requests {
		full.Requests[i].Value = &transport.GetStats{}
	}
	wantKind(t, second(conn.Call(ctx, full)), event.KindTooLarge)
	if stats := must[transport.StatsOk](t)(conn.Call(ctx, &transport.GetStats{})); stats.Concepts != 2 || stats.Written != 2 {
		t.Errorf("stats %+v", stats)
	}
	if after, _, err := n.replicas.all()[0].engine.Digest(t.Context()); err != nil || after != before {
		t.Errorf("the state has changed (%v)", err)
	}
}

// TestQueriesOnANode: the new reads answer over the wire.
func TestQueriesOnANode(t *testing.T) {
	c := oneShard(t, never)
	for i := range 5 {
		req := concept(fmt.Sprint("c", i))
		req.Metadata = &transport.Metadata{Tags: []string{"t"}}
		must[transport.LearnConceptOk](t)(c.route(write("shard-0", req)))
	}
	page := must[transport.QueryByMetadataOk](t)(c.route(ask("shard-0", &transport.QueryByMetadata{Tags: []string{"t"}, Order: "desc", Limit: 3})))
	if len(page.Items) != 3 || page.Items[0].ConceptID != "c4" || page.Cursor == "" {
		t.Errorf("page %+v", page)
	}
	rest := must[transport.ScanOk](t)(c.route(ask("shard-0", &transport.Scan{Prefix: "c"})))
	if len(rest.Items) != 5 || rest.Items[4].ConceptID != "c4" || rest.Cursor != "" {
		t.Errorf("scan %+v", rest)
	}
}
