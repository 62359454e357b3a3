package event

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestEntityKinds: every emitted type is about something of a kind that a filter can name, and only those are in the table.
func TestEntityKinds(t *testing.T) {
	for _, body := range samples() {
		if kind := EntityKind(body); !slices.Contains(entityKindNames, kind) {
			t.Errorf("%s is about a %q", body.Type(), kind)
		}
	}
	for _, typ := range Types() {
		if _, listed := entityKinds[typ]; listed != Info(typ).Emitted {
			t.Errorf("%s: emitted %v, has a kind %v", typ, Info(typ).Emitted, listed)
		}
	}
	if k := EntityKind(ReplicaReaddressed{ShardID: "shard-0", ReplicaID: "node-1.x"}); k != EntityShard {
		t.Error(k)
	}
	if k := EntityKind(ReplicaReaddressed{ShardID: MastersGroup, ReplicaID: "master-1.x"}); k != EntityMaster {
		t.Error(k)
	}
}

func TestFilterMatch(t *testing.T) {
	var all [][]byte
	bodies := samples()
	for _, body := range bodies {
		b, err := Seal(nil, Chain{}, &Envelope{Seq: 1, Type: body.Type(), Time: 1, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	for name, tc := range map[string]struct {
		f    Filter
		want string
	}{
		"nothing":         {Filter{Types: []Type{9999}}, ""},
		"types":           {Filter{Types: []Type{TypeNodeCrashed, TypeLevelRaised}}, "node_crashed level_raised"},
		"class":           {Filter{Classes: "T", Kinds: []string{EntityAgent, EntityEmbed}}, "agent_heartbeat embedding_latency embedding_service_healthy embedding_service_degraded"},
		"kind":            {Filter{Kinds: []string{EntityTxn}}, "txn_committed txn_aborted txn_completed"},
		"entity":          {Filter{Entities: []string{"shard-0"}, Classes: "D"}, "shard_created replica_assigned replica_promoted replica_removed shard_formed"},
		"one of many":     {Filter{Entities: []string{"txn-" + sampleID(2).String()}}, "txn_completed"},
		"every condition": {Filter{Types: []Type{TypeNodeCrashed, TypeAgentOffline}, Kinds: []string{EntityAgent}, Classes: "L", Entities: []string{"agent-1", "node-1"}}, "agent_offline"},
	} {
		if err := tc.f.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for i, body := range bodies {
			if ok, err := tc.f.Match(body.Type(), all[i]); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if ok {
				got = append(got, body.Type().String())
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
	for i, body := range bodies {
		if ok, err := new(Filter).Match(body.Type(), all[i]); !ok || err != nil {
			t.Errorf("the zero filter and %s: %v, %v", body.Type(), ok, err)
		}
	}
	many := Filter{Types: make([]Type, MaxFilter+1)}
	if err := many.Validate(); !errors.Is(err, &Error{Kind: KindTooLarge}) || many.All() || !new(Filter).All() {
		t.Error(err)
	}
	if ok, err := (&Filter{Kinds: []string{EntityNode}}).Match(TypeNodeCrashed, []byte{0xc1}); ok || err == nil {
		t.Error("an envelope that cannot be read was judged")
	}
}
