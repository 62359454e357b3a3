package txn

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

func TestValidate(t *testing.T) {
	op := func(change func(*transport.Op)) []transport.Op {
		o := transport.Op{Kind: transport.OpLearnAssociation, ID: "a", Target: "b", Confidence: 1}
		change(&o)
		return []transport.Op{o}
	}
	for _, tt := range []struct {
		name string
		ops  []transport.Op
		want event.Kind
	}{
		{"nothing", nil, event.KindInvalid},
		{"a half", op(func(o *transport.Op) { o.Kind = transport.OpLinkIn }), event.KindInvalid},
		{"an unknown kind", op(func(o *transport.Op) { o.Kind = "grow" }), event.KindInvalid},
		{"no target", op(func(o *transport.Op) { o.Target = "" }), event.KindInvalid},
		{"NaN", op(func(o *transport.Op) { o.Confidence = float32(math.NaN()) }), event.KindInvalid},
		{"a long id", op(func(o *transport.Op) { o.ID = strings.Repeat("x", 513) }), event.KindTooLarge},
		{"too many", slices.Repeat(op(func(*transport.Op) {}), 1001), event.KindTooLarge},
	} {
		if err := validate(&transport.Txn{Ops: tt.ops}); !errors.Is(err, &event.Error{Kind: tt.want}) {
			t.Errorf("%s: got %v, want kind %s", tt.name, err, tt.want)
		}
	}
	if err := validate(&transport.Txn{Ops: slices.Repeat(op(func(*transport.Op) {}), 1000)}); err != nil {
		t.Errorf("1,000 operations: %v", err)
	}
}

// TestSplit: every operation is done where its ids live, in order, whole in one shard or as its two halves in two.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &shardmap.Map{Base: uint32(rapid.IntRange(1, 5).Draw(t, "shards"))}
		for i := range m.Base {
			m.Shards = append(m.Shards, shardmap.Shard{ID: shardmap.ID(uint64(i))})
		}
		home := func(id string) event.ShardID { s, _ := m.Shard(id); return s.ID }
		id := rapid.StringMatching(`[a-e]{1,2}`)
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) transport.Op {
			if rapid.Bool().Draw(t, "concept") {
				return transport.Op{Kind: transport.OpLearnConcept, ID: id.Draw(t, "id"), Content: "c"}
			}
			return transport.Op{Kind: transport.OpLearnAssociation, ID: id.Draw(t, "source"), Target: id.Draw(t, "target")}
		}), 1, 20).Draw(t, "ops")
		plan, err := planOf(m, ops)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.steps) != 1 {
			t.Fatalf("%d steps and nothing is deleted", len(plan.steps))
		}
		var got []string
		for _, h := range plan.steps[0].halves {
			if !slices.IsSorted(h.index) {
				t.Fatalf("%s: out of order: %v", h.shard, h.index)
			}
			for i, op := range h.ops {
				got = append(got, fmt.Sprint(h.index[i], h.shard, op.Kind, op.ID, op.Target))
			}
		}
		var want []string
		for i, op := range ops {
			source, target := home(op.ID), home(op.Target)
			if op.Kind == transport.OpLearnConcept || source == target {
				want = append(want, fmt.Sprint(i, source, op.Kind, op.ID, op.Target))
				continue
			}
			want = append(want, fmt.Sprint(i, source, "link_out", op.ID, op.Target), fmt.Sprint(i, target, "link_in", op.ID, op.Target))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
	if _, err := planOf(&shardmap.Map{}, []transport.Op{{ID: "a"}}); !errors.Is(err, &event.Error{Kind: event.KindUnavailable}) {
		t.Errorf("without a map: %v", err)
	}
}

// TestSteps: an operation comes behind the halves of a delete exactly where it could meet them.
func TestSteps(t *testing.T) {
	m := &shardmap.Map{Base: 4}
	for i := range m.Base {
		m.Shards = append(m.Shards, shardmap.Shard{ID: shardmap.ID(uint64(i))})
	}
	id := func(shard, n int) string { // the n-th id of a shard
		for i := 0; ; i++ {
			id := fmt.Sprintf("c%d", i)
			if s, err := m.Shard(id); err == nil && s.ID == shardmap.ID(uint64(shard)) {
				if n--; n < 0 {
					return id
				}
			}
		}
	}
	x, y, z, near := id(0, 0), id(1, 0), id(2, 0), id(0, 1)
	op := func(k transport.OpKind, ids ...string) transport.Op {
		o := transport.Op{Kind: k, ID: ids[0]}
		if len(ids) > 1 {
			o.Target = ids[1]
		}
		return o
	}
	del := op(transport.OpDeleteConcept, x)
	for _, tt := range []struct {
		name string
		ops  []transport.Op
		want string // operations of each step, and for deletes at the end one step more
	}{
		{"nothing deleted", []transport.Op{op(transport.OpRead, x), op(transport.OpLearnAssociation, x, y)}, "2"},
		{"one shard", []transport.Op{del, op(transport.OpReadNeighbors, near), op(transport.OpLearnAssociation, x, near)}, "3 0"},
		{"a delete alone", []transport.Op{op(transport.OpRead, y), del}, "2 0"},
		{"neighbours elsewhere", []transport.Op{del, op(transport.OpReadNeighbors, y)}, "1 1"},
		{"neighbours before", []transport.Op{op(transport.OpReadNeighbors, y), del}, "2 0"},
		{"learnt again and linked", []transport.Op{del, op(transport.OpLearnConcept, x), op(transport.OpLearnAssociation, y, x)}, "2 1"},
		{"others linked", []transport.Op{del, op(transport.OpLearnAssociation, y, z)}, "2 0"},
		{"two deletes", []transport.Op{del, op(transport.OpDeleteConcept, y), op(transport.OpRead, z)}, "3 0"},
		{"two rounds", []transport.Op{del, op(transport.OpReadNeighbors, y), op(transport.OpDeleteConcept, z), op(transport.OpReadNeighbors, y)}, "1 2 1"},
	} {
		plan, err := planOf(m, tt.ops)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range plan.steps {
			seen := map[int]bool{}
			for _, h := range s.halves {
				for _, i := range h.index {
					seen[i] = true
				}
			}
			got = append(got, fmt.Sprint(len(seen)))
		}
		if !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%s: steps of %v operations, want %s", tt.name, got, tt.want)
		}
	}
}
