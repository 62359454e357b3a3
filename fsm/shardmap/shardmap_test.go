package shardmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"pgregory.net/rapid"
)

// TestHashVectors holds murmur3's published values; both builds (race and not) must have them.
func TestHashVectors(t *testing.T) {
	for id, want := range map[string]uint32{
		"":                          0x00000000,
		"a":                         0x3c2569b2,
		"test":                      0xba6bd213,
		"hello":                     0x248bfa47,
		"hello, world":              0x149bbb7f,
		"19 Jan 2038 at 3:14:07 AM": 0xe31e8a70,
		"The quick brown fox jumps over the lazy dog.": 0xd5c48bfc,
	} {
		if got := Hash(id); got != want {
			t.Errorf("%q: %#08x, want %#08x", id, got, want)
		}
	}
}

// slowHash is murmur3 x86 32 with seed 0, from its description.
func slowHash(s string) uint32 {
	b, h := []byte(s), uint32(0)
	mix := func(k uint32) uint32 { return bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593 }
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h^mix(binary.LittleEndian.Uint32(b)), 13)*5 + 0xe6546b64
	}
	tail := uint32(0)
	for i, c := range b {
		tail |= uint32(c) << (8 * i)
	}
	h ^= mix(tail) ^ uint32(len(s))
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

func TestHashAgainstDescription(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := string(rapid.SliceOf(rapid.Byte()).Draw(t, "id"))
		if got, want := Hash(id), slowHash(id); got != want {
			t.Fatalf("%q: %#x, want %#x", id, got, want)
		}
	})
}

// mapOf has base shards, the first created ones with three replicas each.
func mapOf(base uint32, created int) *Map {
	m := &Map{Epoch: event.Position{N: 1, Seq: 9}, Strategy: StrategyHash, Base: base, Replicas: 3}
	for i := range created {
		s := Shard{ID: ID(uint64(i)), State: Formed, Leader: "node-2", Term: 1}
		for n := 1; n <= 3; n++ {
			node := event.NodeID(fmt.Sprintf("node-%d", n))
			s.Replicas = append(s.Replicas, Replica{ReplicaID: event.NewReplicaID(string(node), fmt.Sprintf("%032x", i)), NodeID: node, Endpoint: fmt.Sprintf("host:%d%d", n, i), Role: Voter})
		}
		m.Shards = append(m.Shards, s)
	}
	return m
}

// TestRoute: at depth 0 the owner is murmur3 of the id modulo the number of shards.
func TestRoute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint32Range(1, 64).Draw(t, "base")
		id := rapid.String().Draw(t, "id")
		s, err := mapOf(base, int(base)).Shard(id)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("shard-%d", slowHash(id)%base); string(s.ID) != want {
			t.Fatalf("%q is on %s, want %s", id, s.ID, want)
		}
	})
}

func TestNoMap(t *testing.T) {
	unavailable := &event.Error{Kind: event.KindUnavailable}
	if _, err := (&Map{}).Shard("x"); !errors.Is(err, unavailable) {
		t.Errorf("without a map: %v", err)
	}
	m := mapOf(4, 1)
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		s, err := m.Shard(id)
		slot := slowHash(id) % 4 // of the number at creation, not of those there are
		if slot == 0 && (err != nil || s.ID != "shard-0") {
			t.Errorf("%s: %v, %v", id, s, err)
		}
		if slot > 0 && !errors.Is(err, unavailable) {
			t.Errorf("%s, whose shard is not created: %v", id, err)
		}
	}
}

func TestByID(t *testing.T) {
	m := mapOf(4, 3)
	for id, found := range map[event.ShardID]bool{"shard-0": true, "shard-2": true, "shard-3": false, "shard-02": false, "shard--1": false, "shard-": false, "node-1": false, "": false} {
		s, ok := m.ByID(id)
		if ok != found || ok && s.ID != id {
			t.Errorf("%q: %v, %v", id, s, ok)
		}
	}
	if n, ok := Number("shard-18446744073709551615"); !ok || n != 1<<64-1 {
		t.Errorf("the last number: %d, %v", n, ok)
	}
	if _, ok := Number("shard-18446744073709551616"); ok {
		t.Error("a number that does not fit is one")
	}
}

func TestEndpoints(t *testing.T) {
	m := mapOf(2, 2)
	s, _ := m.ByID("shard-1")
	if e, ok := s.LeaderEndpoint(); !ok || e != "host:21" {
		t.Errorf("leader at %q, %v", e, ok)
	}
	if e, ok := m.Endpoint(s.Replicas[2].ReplicaID); !ok || e != "host:31" {
		t.Errorf("replica at %q, %v", e, ok)
	}
	if _, ok := m.Endpoint("node-9.x"); ok {
		t.Error("an unknown replica has an endpoint")
	}
	s.Replicas[1].Endpoint = ""
	if _, ok := s.LeaderEndpoint(); ok {
		t.Error("a leader that never ran has an endpoint")
	}
	s.Leader = "node-9"
	if _, ok := s.LeaderEndpoint(); ok {
		t.Error("a leader without a replica has an endpoint")
	}
	s.Leader = ""
	if _, ok := s.LeaderEndpoint(); ok {
		t.Error("no leader has an endpoint")
	}
}

func BenchmarkRoute(b *testing.B) {
	m := mapOf(16, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Shard("synset-00001740-n-entity"); err != nil {
			b.Fatal(err)
		}
	}
}
