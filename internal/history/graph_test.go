package history

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

// TestGraph: what the model answers, operation by operation, each on what those before it left.
func TestGraph(t *testing.T) {
	type op = transport.Op
	type res = transport.OpResult
	learn := func(id string) op { return op{Kind: transport.OpLearnConcept, ID: id} }
	link := func(from, to string, typ uint32) op {
		return op{Kind: transport.OpLearnAssociation, ID: from, Target: to, AssocType: typ}
	}
	neighbors := func(id string) op { return op{Kind: transport.OpReadNeighbors, ID: id} }
	read := func(id string) op { return op{Kind: transport.OpRead, ID: id} }
	add := func(n int64) op { return op{Kind: transport.OpAdd, ID: "a", Key: "n", Number: n} }
	g := graph{}
	for i, tc := range []struct {
		ops    []op
		want   []res // nil: not looked at
		failed []int
	}{
		{[]op{read("a"), neighbors("a"), {Kind: transport.OpAbsent, ID: "a"}}, []res{{}, {}, {}}, nil},
		{[]op{{Kind: transport.OpExists, ID: "a"}, link("a", "b", 0), add(1), {Kind: transport.OpSetAttribute, ID: "a"}, {Kind: transport.OpVersion, ID: "a"},
			{Kind: transport.OpAttributeEquals, ID: "a"}, {Kind: transport.OpAttributeAtLeast, ID: "a"}, {Kind: "sing", ID: "a"}}, nil, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{[]op{learn("a"), learn("b"), learn("c"), link("a", "b", 0), link("a", "c", 0), link("a", "b", 1), neighbors("a")}, []res{{}, {}, {}, {}, {}, {}, {Neighbors: []string{"b", "c"}}}, nil},
		{[]op{add(5), add(-7), read("a"), {Kind: transport.OpVersion, ID: "a", Version: 3}}, []res{{Value: 5}, {Value: -2}, {Found: true, Version: 3, Attributes: map[string]string{"n": "-2"}}, {}}, nil},
		{[]op{add(1), {Kind: transport.OpAttributeAtLeast, ID: "a", Key: "n"}}, nil, []int{1}},
		{[]op{read("a")}, []res{{Found: true, Version: 3, Attributes: map[string]string{"n": "-2"}}}, nil},
		{[]op{add(math.MinInt64)}, nil, []int{0}},
		{[]op{{Kind: transport.OpSetAttribute, ID: "a", Key: "n", Value: "many"}, add(1)}, nil, []int{1}},
		{[]op{link("a", "b", 0), {Kind: transport.OpDeleteAssociationType, ID: "a", Target: "b", AssocType: 0}, neighbors("a")}, []res{{}, {}, {Neighbors: []string{"c", "b"}}}, nil},
		{[]op{{Kind: transport.OpDeleteAssociation, ID: "a", Target: "b"}, link("a", "b", 0), neighbors("a")}, []res{{}, {}, {Neighbors: []string{"c", "b"}}}, nil},
		{[]op{{Kind: transport.OpDeleteConcept, ID: "b"}, {Kind: transport.OpDeleteConcept, ID: "x"}, neighbors("a"), learn("b"), neighbors("b"), read("b")},
			[]res{{}, {}, {Neighbors: []string{"c"}}, {}, {}, {Found: true, Version: 1}}, nil},
		{[]op{add(0), read("a"), {Kind: transport.OpSetAttribute, ID: "a", Key: "n", Value: "x"}, read("a")}, []res{{Value: -2}, {Found: true, Version: 4, Attributes: map[string]string{"n": "-2"}},
			{}, {Found: true, Version: 5, Attributes: map[string]string{"n": "x"}}}, nil},
		{[]op{link("b", "b", 0), {Kind: transport.OpDeleteConcept, ID: "b"}, {Kind: transport.OpAbsent, ID: "b"}}, []res{{}, {}, {}}, nil},
	} {
		next, got, failed := g.run(tc.ops)
		if !reflect.DeepEqual(failed, tc.failed) {
			t.Fatalf("%d: failed %v, want %v", i, failed, tc.failed)
		}
		for k := range tc.want {
			if !sameResult(got[k], tc.want[k]) {
				t.Errorf("%d: %s: %+v, want %+v", i, sayOp(tc.ops[k]), got[k], tc.want[k])
			}
		}
		if failed != nil && !next.equal(g) {
			t.Errorf("%d: what failed has changed something", i)
		}
		g = next
	}
	if other, _, _ := (graph{}).run([]op{learn("a"), learn("c"), link("a", "c", 0)}); other.equal(g) {
		t.Error("graphs of other attributes are equal")
	}
	if a, b := fmt.Sprint(len(g.rows)), "2"; a != b {
		t.Errorf("%s rows, want %s", a, b)
	}
}
