package main

import (
	"context"

	"github.com/sutra-grid/sutra-grid/bench/report"
)

// subject is one row and how it comes to be.
type subject struct {
	report.Subject
	quick bool // part of a quick run
}

// subjects are the rows of docs/performance.md.
func subjects() []subject {
	row := func(id, measure, target string, quick bool) subject {
		return subject{report.Subject{ID: id, Measure: measure, Target: target}, quick}
	}
	return []subject{
		row("P1", "committed events/s through a master's port, 256 B each, 256 in flight over 8 connections; etcd put", "≥ 6 × etcd", true),
		row("P2", "the same with 1 client: p50; etcd put", "≤ 0.7 × etcd", true),
		row("P3", "linearizable reads/s (agent record, shard map), 256 in flight; with 10 % writes; etcd get", "≥ 10 × etcd; ≥ 5 × with writes", true),
		row("P4", "leader killed under load: longest gap in acknowledged writes; etcd; SIGTERM", "median ≤ 0.4 × etcd and ≤ 500 ms, worst ≤ 650 ms; SIGTERM ≤ 50 ms", true),
		row("P5", "associations/s across two shards, 64 in flight; PostgreSQL 2PC", "≥ 3 × PostgreSQL (absent: ≥ 5,000/s); p99 ≤ 15 ms unloaded", true),
		row("P6", "durable concept writes/s to one shard, 256 in flight over 8 connections: one voter; three voters", "≥ 40,000/s; ≥ 20,000/s", true),
		row("P7", "route one id to one of 16 shards", "≤ 15 ns, 0 allocations", true),
		row("P8", "events/s committed and shipped into event storage with lag < 1 s; Emit at its caller", "≥ 30,000/s; ≤ 300 ns, 0 allocations", true),
		row("P9", "replay of 1,000,000 events, reading included; registry of 1,000 agents rebuilt from event storage", "≤ 0.8 s; ≤ 50 ms", false),
		row("P10", "event query (type, entity, window, 100 rows) over 10 million events: p50; a question on top", "p50 ≤ 1.5 ms, p99 ≤ 10 ms; p50 ≤ 10 ms", false),
		row("P11", "vector search, k 10, 768 dimensions, 100,000 vectors, 1 and 4 shards: p50", "recall@10 ≥ 0.95 at p50 ≤ 3 ms; 4 shards ≤ 1.5 × the slowest", false),
		row("P12", "fan-out over 16 shards with 100 rows each: time beyond the slowest shard", "≤ 2 ms", true),
		row("P13", "10,000 agents heartbeating every 10 s: processor time of the busiest master, in % of a core", "≤ 10 %, heap ≤ 200 MB", false),
		row("P14", "import of WordNet into 4 shards, records/s: one replica; three replicas", "≥ 40,000/s; ≥ 15,000/s, all counted and found", true),
		row("P15", "growth: p50 of P2 with 1,000,000 objects in the masters' state, by that with 10,000", "≤ 1.3 ×; memory linear", false),
	}
}

func reportSubjects() (all []report.Subject) {
	for _, s := range subjects() {
		all = append(all, s.Subject)
	}
	return all
}

func quickRows() (ids []string) {
	for _, s := range subjects() {
		if s.quick {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// suite is rows that share servers. Run gives a row for each id that is wanted and could be measured; the error is why others could not.
type suite struct {
	ids []string
	run func(ctx context.Context, b *bench) ([]report.Row, error)
}

// suites are in the order in which they run.
func suites() []suite {
	return []suite{
		{[]string{"P7", "P9"}, local},
		{[]string{"P1", "P2", "P3", "P8"}, masters},
		{[]string{"P4"}, failover},
		{[]string{"P5"}, associations},
		{[]string{"P6"}, concepts},
		{[]string{"P12"}, fanOut},
		{[]string{"P11"}, vectors},
		{[]string{"P14"}, wordnet},
		{[]string{"P13"}, heartbeats},
		{[]string{"P15"}, manyRemembered},
		{[]string{"P10"}, eventQueries},
	}
}
