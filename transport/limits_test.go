package transport

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestValidate(t *testing.T) {
	nan64 := math.NaN()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	long := strings.Repeat("x", MaxID+1)
	concept := func(change func(*LearnConcept)) *LearnConcept {
		c := &LearnConcept{ConceptID: "a", Content: "text", Embedding: make([]float32, 4), Strength: 1, Confidence: 1, Metadata: &Metadata{}}
		change(c)
		return c
	}
	search := func(change func(*VectorSearch)) *VectorSearch {
		s := &VectorSearch{QueryVector: []float32{1, 0, 0, 0}, K: 1}
		change(s)
		return s
	}
	op := func(o Op) *Write { return &Write{Ops: []Op{{Kind: OpLearnAssociation, ID: "a", Target: "b"}, o}} }
	attrs := map[string]string{}
	for i := range MaxAttributes + 1 {
		attrs[fmt.Sprint(i)] = ""
	}
	many := func(n int) []Any {
		r := make([]Any, n)
		for i := range r {
			r[i].Value = &GetStats{}
		}
		return r
	}
	tests := []struct {
		name string
		req  any
		kind event.Kind // empty: passes
		want string
	}{
		{"good concept", concept(func(*LearnConcept) {}), "", ""},
		{"no embedding", concept(func(c *LearnConcept) { c.Embedding = nil }), "", ""},
		{"largest id", &QueryConcept{ConceptID: long[:MaxID]}, "", ""},
		{"largest content", concept(func(c *LearnConcept) { c.Content = strings.Repeat("x", MaxContent) }), "", ""},
		{"query", &Query{Request: Any{&QueryConcept{ConceptID: "a"}}, Consistency: Stale, TimeoutMillis: MaxQueryMillis}, "", ""},
		{"query of nothing", &Query{}, event.KindInvalid, "request is missing"},
		{"query of a query", &Query{Request: Any{&Query{Request: Any{&GetStats{}}}}}, event.KindInvalid, "a Query, which cannot be inside a Query"},
		{"query of a batch", &Query{Request: Any{&Batch{Requests: many(1)}}}, event.KindInvalid, "a Batch, which cannot be inside a Query"},
		{"query of a write", &Query{Request: Any{concept(func(*LearnConcept) {})}}, event.KindInvalid, "LearnConcept: want a read"},
		{"query of the masters", &Query{Request: Any{&ListAgents{}}}, event.KindInvalid, "ListAgents: want a read of the storage protocol"},
		{"query of a bad read", &Query{Request: Any{&QueryConcept{}}}, event.KindInvalid, "QueryConcept: concept_id is empty"},
		{"query with a consistency of masters", &Query{Request: Any{&GetStats{}}, Consistency: Leader}, event.KindInvalid, "consistency is \"leader\""},
		{"query for ever", &Query{Request: Any{&GetStats{}}, TimeoutMillis: MaxQueryMillis + 1}, event.KindTooLarge, "timeout_millis is 60001"},
		{"empty id", &QueryConcept{}, event.KindInvalid, "concept_id is empty"},
		{"long id", &QueryConcept{ConceptID: long}, event.KindTooLarge, "513 bytes: at most 512"},
		{"id with NUL", &GetNeighbors{ConceptID: "a\x00b"}, event.KindInvalid, "NUL"},
		{"id not UTF-8", &GetAssociation{SourceID: "a", TargetID: "\xff"}, event.KindInvalid, "target_id is not UTF-8"},
		{"content", concept(func(c *LearnConcept) { c.Content = strings.Repeat("x", MaxContent+1) }), event.KindTooLarge, "content"},
		{"dimension", concept(func(c *LearnConcept) { c.Embedding = make([]float32, 5) }), event.KindInvalid, "5 dimensions: this grid's vectors have 4"},
		{"many dimensions", concept(func(c *LearnConcept) { c.Embedding = make([]float32, MaxDimension+1) }), event.KindTooLarge, "2049"},
		{"NaN in a vector", concept(func(c *LearnConcept) { c.Embedding[2] = nan }), event.KindInvalid, "embedding[2] is NaN"},
		{"infinite strength", concept(func(c *LearnConcept) { c.Strength = inf }), event.KindInvalid, "strength is +Inf"},
		{"NaN confidence", concept(func(c *LearnConcept) { c.Confidence = nan }), event.KindInvalid, "confidence"},
		{"tags", concept(func(c *LearnConcept) { c.Metadata.Tags = make([]string, MaxTags+1) }), event.KindTooLarge, "tags is 101"},
		{"attributes", concept(func(c *LearnConcept) { c.Metadata.Attributes = attrs }), event.KindTooLarge, "attributes is 101"},
		{"content not UTF-8", concept(func(c *LearnConcept) { c.Content = "a\xff" }), event.KindInvalid, "content is not UTF-8"},
		{"tag not UTF-8", concept(func(c *LearnConcept) { c.Metadata.Tags = []string{"t", "\xff"} }), event.KindInvalid, "tag"},
		{"attribute not UTF-8", concept(func(c *LearnConcept) { c.Metadata.Attributes = map[string]string{"k\xff": "v"} }), event.KindInvalid, "attribute"},
		{"value not UTF-8", concept(func(c *LearnConcept) { c.Metadata.Attributes = map[string]string{"k": "\xff"} }), event.KindInvalid, "attribute"},
		{"learnt content not UTF-8", &LearnConceptV2{Content: "\xff"}, event.KindInvalid, "content is not UTF-8"},
		{"learnt contents not UTF-8", &LearnBatch{Contents: []string{"a", "\xff"}}, event.KindInvalid, "contents[1] is not UTF-8"},
		{"transaction not UTF-8", &Txn{Ops: []Op{{Kind: OpLearnConcept, ID: "a", Content: "\xff"}}}, event.KindInvalid, "ops[0]: content is not UTF-8"},
		{"routed write not UTF-8", &Routed{Request: Any{&Write{Ops: []Op{{Kind: OpLearnConcept, ID: "a", Metadata: &Metadata{Tags: []string{"\xff"}}}}}}}, event.KindInvalid, "ops[0]: tag"},
		{"routed prepare not UTF-8", &Routed{Request: Any{&Prepare{Ops: []Op{{Kind: OpLearnConcept, ID: "a", Content: "\xff"}}}}}, event.KindInvalid, "ops[0]: content"},
		{"a write in the log, not UTF-8", &Write{Ops: []Op{{Kind: OpLearnConcept, ID: "a", Content: "\xff"}}}, "", ""},
		{"association", &LearnAssociation{SourceID: "a", TargetID: "b", Confidence: 1}, "", ""},
		{"association without source", &LearnAssociation{TargetID: "b"}, event.KindInvalid, "source_id"},
		{"association with NaN", &LearnAssociation{SourceID: "a", TargetID: "b", Confidence: nan}, event.KindInvalid, "confidence"},
		{"deepest path", &FindPath{StartID: "a", EndID: "b", MaxDepth: MaxPathDepth}, "", ""},
		{"too deep a path", &FindPath{StartID: "a", EndID: "b", MaxDepth: MaxPathDepth + 1}, event.KindTooLarge, "max_depth is 21"},
		{"path without end", &FindPath{StartID: "a"}, event.KindInvalid, "end_id"},
		{"neighbours", &Neighbors{ConceptID: "a", Direction: "both", Limit: MaxNeighborsLimit}, "", ""},
		{"neighbours sideways", &Neighbors{ConceptID: "a", Direction: "sideways"}, event.KindInvalid, "out, in or both"},
		{"neighbours beyond", &Neighbors{ConceptID: "a", Direction: "in", Limit: MaxNeighborsLimit + 1}, event.KindTooLarge, "limit"},
		{"expand", &Expand{ConceptIDs: []string{"a"}, Direction: "in"}, "", ""},
		{"expand both", &Expand{ConceptIDs: []string{"a"}, Direction: "both"}, event.KindInvalid, "out, in"},
		{"expand a bad id", &Expand{ConceptIDs: []string{"a", ""}, Direction: "in"}, event.KindInvalid, "concept_ids[1]"},
		{"expand too many", &Expand{ConceptIDs: make([]string, MaxExpand+1), Direction: "in"}, event.KindTooLarge, "10001"},
		{"largest batch", &Batch{Requests: many(MaxBatch)}, "", ""},
		{"batch too large", &Batch{Requests: many(MaxBatch + 1)}, event.KindTooLarge, "1001"},
		{"batch in a batch", &Batch{Requests: []Any{{&Batch{}}}}, event.KindInvalid, "requests[0] is a Batch"},
		{"hole in a batch", &Batch{Requests: []Any{{}}}, event.KindInvalid, "requests[0] is missing"},
		{"no ops", &Write{}, event.KindInvalid, "no ops"},
		{"largest write", &Write{Ops: manyOps(MaxOps)}, "", ""},
		{"too many ops", &Txn{Ops: manyOps(MaxOps + 1)}, event.KindTooLarge, "1001"},
		{"unknown op", op(Op{Kind: "explode", ID: "a"}), event.KindInvalid, `ops[1]: unknown kind "explode"`},
		{"op without target", op(Op{Kind: OpLinkIn, ID: "a"}), event.KindInvalid, "ops[1]: target is empty"},
		{"op with NaN", op(Op{Kind: OpLearnConcept, ID: "a", Strength: nan}), event.KindInvalid, "ops[1]: strength"},
		{"prepare", &Prepare{Ops: []Op{{Kind: OpLinkOut, ID: "a", Target: long}}}, event.KindTooLarge, "ops[0]: target"},
		{"good search", search(func(*VectorSearch) {}), "", ""},
		{"largest search", search(func(s *VectorSearch) { s.K, s.EFSearch = MaxK, MaxEF }), "", ""},
		{"search for none", search(func(s *VectorSearch) { s.K = 0 }), event.KindInvalid, "k is 0"},
		{"search for too many", search(func(s *VectorSearch) { s.K = MaxK + 1 }), event.KindTooLarge, "k is 1001"},
		{"search among too many", search(func(s *VectorSearch) { s.EFSearch = MaxEF + 1 }), event.KindTooLarge, "ef_search is 10001"},
		{"search for nothing", search(func(s *VectorSearch) { s.QueryVector = nil }), event.KindInvalid, "query_vector is empty"},
		{"search for zeros", search(func(s *VectorSearch) { s.QueryVector = make([]float32, 4) }), event.KindInvalid, "query_vector is zero"},
		{"search in another dimension", search(func(s *VectorSearch) { s.QueryVector = make([]float32, 3) }), event.KindInvalid, "query_vector has 3 dimensions"},
		{"search in many dimensions", search(func(s *VectorSearch) { s.QueryVector = make([]float32, MaxDimension+1) }), event.KindTooLarge, "2049"},
		{"search for NaN", search(func(s *VectorSearch) { s.QueryVector[1] = nan }), event.KindInvalid, "query_vector[1] is NaN"},
		{"search for infinity", search(func(s *VectorSearch) { s.QueryVector[3] = inf }), event.KindInvalid, "query_vector[3] is +Inf"},
		{"search by many tags", search(func(s *VectorSearch) { s.Tags = make([]string, MaxTags+1) }), event.KindTooLarge, "tags is 101"},
		{"search by many attributes", search(func(s *VectorSearch) { s.Attributes = attrs }), event.KindTooLarge, "attributes is 101"},
		{"inside routed", &Routed{Request: Any{&QueryConcept{}}}, event.KindInvalid, "concept_id"},
		{"routed nothing", &Routed{}, event.KindInvalid, "request is missing"},
		{"no limits", &GetStats{}, "", ""},
		{"delete", &DeleteConcept{ConceptID: "a"}, "", ""},
		{"delete a long id", &DeleteConcept{ConceptID: long}, event.KindTooLarge, "513 bytes"},
		{"delete an association without target", &DeleteAssociation{SourceID: "a"}, event.KindInvalid, "target_id"},
		{"a delete alone", &Write{Ops: []Op{{Kind: OpDeleteConcept, ID: "a"}}}, "", ""},
		{"a delete beside others", op(Op{Kind: OpDeleteConcept, ID: "a"}), "", ""},
		{"a delete in a transaction", &Txn{Ops: []Op{{Kind: OpDeleteAssociation, ID: "a", Target: "b"}}}, "", ""},
		{"a half in a transaction", &Txn{Ops: []Op{{Kind: OpUnlinkOutType, ID: "a", Target: "b"}}}, event.KindInvalid, "half an operation"},
		{"an attribute that is no text", &Txn{Ops: []Op{{Kind: OpSetAttribute, ID: "a", Key: "\xff"}}}, event.KindInvalid, "UTF-8"},
		{"a read without an id", &Write{Ops: []Op{{Kind: OpRead}}}, event.KindInvalid, "id is empty"},
		{"a prepare of nothing", &Prepare{}, event.KindInvalid, "no ops"},
		{"a part that closes an attempt", &Prepare{Part: 1}, "", ""},
		{"a part with a bad op", &Prepare{Part: 1, Ops: []Op{{Kind: OpUnlinkIn, ID: "a"}}}, event.KindInvalid, "target"},
		{"query", &QueryByMetadata{Order: "desc", Limit: MaxPageLimit}, "", ""},
		{"query too much", &QueryByMetadata{Limit: MaxPageLimit + 1}, event.KindTooLarge, "limit is 10001"},
		{"query in no order", &QueryByMetadata{Order: "random"}, event.KindInvalid, "asc or desc"},
		{"query from NaN", &QueryByMetadata{From: &nan64}, event.KindInvalid, "from is NaN"},
		{"query for many tags", &QueryByMetadata{Tags: make([]string, MaxTags+1)}, event.KindTooLarge, "tags is 101"},
		{"query for many attributes", &QueryByMetadata{Attributes: attrs}, event.KindTooLarge, "attributes is 101"},
		{"query with a foreign cursor", &QueryByMetadata{Cursor: "AAAA"}, event.KindInvalid, "cursor"},
		{"scan", &Scan{Prefix: "a"}, "", ""},
		{"scan a long prefix", &Scan{Prefix: long}, event.KindTooLarge, "prefix"},
		{"scan too much", &Scan{Limit: MaxPageLimit + 1}, event.KindTooLarge, "limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Validate(tt.req, 4)
			if tt.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, &event.Error{Kind: tt.kind}) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), VariantName(tt.req)+": ") {
				t.Errorf("%v, want %s with %q", err, tt.kind, tt.want)
			}
		})
	}
	if err := Validate(&LearnConcept{ConceptID: "a", Embedding: make([]float32, 100)}, 0); err != nil {
		t.Errorf("a dimension nobody has fixed: %v", err)
	}
}

func manyOps(n int) []Op {
	ops := make([]Op, n)
	for i := range ops {
		ops[i] = Op{Kind: OpLearnAssociation, ID: "a", Target: "b"}
	}
	return ops
}
