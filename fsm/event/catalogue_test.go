package event

import (
	"slices"
	"strings"
	"testing"
)

// TestCatalogue: the codes, names and classes of the whole catalogue, as they are fixed.
func TestCatalogue(t *testing.T) {
	const table = `
1 agent_registered L, 2 agent_heartbeat T, 3 agent_degraded L, 4 agent_offline L, 5 agent_recovered L, 6 agent_unregistered L,
10 spawn_requested L, 11 spawn_succeeded L, 12 spawn_failed L, 20 stop_requested L, 21 stop_succeeded L, 22 stop_failed L,
30 node_crashed L, 31 node_restarted L, 40 cluster_healthy L, 41 cluster_degraded L, 42 cluster_critical L,
50 storage_metrics T, 51 query_performance T, 52 embedding_latency T, 53 hnsw_index_built T, 54 hnsw_index_loaded T,
55 pathfinding_metrics T, 56 reconciliation_complete T, 57 cross_shard_query T, 58 rebalance_progress T,
60 embedding_service_healthy T, 61 embedding_service_degraded T,
100 shard_map_created D, 101 replica_assigned D, 102 replica_promoted D, 103 replica_removed D, 104 shard_leader_changed L,
105 shard_move_started D, 106 shard_move_finished D, 107 shard_move_aborted D,
108 shard_split_started D, 109 shard_split_finished D, 110 shard_split_aborted D,
111 shard_quorum_lost L, 112 shard_quorum_restored L, 113 shard_formed D, 114 replica_readdressed D, 115 shard_lost D, 116 shard_created D,
200 txn_committed D, 201 txn_aborted D, 202 txn_completed D,
300 master_joined D, 301 master_left D, 302 leader_elected L, 303 state_checked D, 304 master_unreachable L, 305 master_recovered L,
306 level_raised D, 307 incarnation_started D, 308 clock_skew D,
400 feed_acked D, 401 feed_rewound D, 402 feed_gap D, 403 sink_added D, 404 sink_removed D, 405 events_folded L,
500 agent_drain_started D, 501 agent_drain_finished D, 502 agent_drain_cancelled D, 510 binary_published D, 511 binary_retired D,
520 token_created D, 521 token_revoked D, 530 setting_changed D, 531 association_type_added D, 540 backup_cut D`
	rows := strings.Split(strings.ReplaceAll(table, "\n", " "), ",")
	seen := 0
	for _, typ := range Types() {
		info := Info(typ)
		want := strings.Join([]string{numberOf(typ), info.Name, info.Class.String()}, " ")
		if !slices.ContainsFunc(rows, func(r string) bool { return strings.TrimSpace(r) == want }) {
			t.Errorf("%s is not in the table", want)
		}
		if back, ok := TypeByName(info.Name); !ok || back != typ || typ.String() != info.Name {
			t.Errorf("%s: found as %d", info.Name, back)
		}
		if (bodies[typ] != nil) != info.Emitted {
			t.Errorf("%s: emitted %v, has a body %v", info.Name, info.Emitted, bodies[typ] != nil)
		}
		seen++
	}
	if seen != len(rows) {
		t.Errorf("%d types, the table has %d", seen, len(rows))
	}
	if Type(9999).String() != "type 9999" || Info(9999).Name != "" {
		t.Error("an unknown type has a name")
	}
	if Info(TypeBackupCut).Describe(nil) != "backup_cut" || Info(TypeBackupCut).Entity(nil) != nil {
		t.Error("a type that is not emitted is not described by its name")
	}
	if TypeFeedAcked.InFeed() || !TypeAgentHeartbeat.InFeed() {
		t.Error("only feed_acked is not in the feed")
	}
}

func numberOf(t Type) string {
	s := Type(t + 10000).String() // "type 1xxxx": above every name
	return strings.TrimLeft(strings.TrimPrefix(s, "type 1"), "0")
}

func TestDescribeIsOneShortSentence(t *testing.T) {
	for _, b := range samples() {
		s := Info(b.Type()).Describe(b)
		if s == "" || strings.ContainsAny(s, "\n\t") || strings.Contains(s, "%!") || strings.HasSuffix(s, ".") {
			t.Errorf("%s: %q", b.Type(), s)
		}
	}
}

func TestPositions(t *testing.T) {
	ordered := []Position{{0, 0}, {0, 9}, {1, 0}, {1, 2}, {2, 1}}
	for i, p := range ordered {
		for j, q := range ordered {
			if p.Less(q) != (i < j) || (p.Compare(q) == 0) != (i == j) {
				t.Errorf("%v and %v", p, q)
			}
		}
	}
}
