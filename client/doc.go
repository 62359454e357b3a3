// Package client is the Go SDK of a Sutra Grid: it knows which shard owns an id and who leads it, talks to that node
// directly, and retries what may be retried.
//
//	Do(request) -> shard map -> leader of the shard(s) -> merged reply
//	                 ▲ watch                 │ NotLeader, WrongShard: refresh, retry with the same request id
//	               masters  ◄── Txn ─────────┘ writes over several shards
//
// New makes a Client and dials nothing. LearnConcept, LearnAssociation, DeleteConcept and Txn write; Concept, Targets, Path, VectorSearch,
// QueryByMetadata and Scan read, linearizable at each shard and whole; Query reads what is said to be enough; WatchEvents and
// WatchShardMap follow; Do takes any request of the Sutra protocol. All of them end with their context, or after
// DefaultDeadline; within it they find the leader, retry what may be retried, and hedge reads that are late. See the examples.
//
// Invariants: a write has its request id before its first attempt and keeps it over every retry, so it takes effect once;
// an error that says "fail" (see event.Kind) is only returned when no attempt can have taken effect; the map a client uses
// never goes back. A Client is safe for concurrent use. The package imports transport and what that imports, never master
// or storagenode.
package client
