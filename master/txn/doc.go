// Package txn coordinates transactions over several shards: two-phase commit whose decision is an event in the masters' log.
//
//	split by shard -> Prepare at each shard -> txn_committed in the log -> Finish at each shard -> txn_completed
//
// Any master coordinates. A coordinator keeps nothing that must survive it: what is prepared resolves itself by asking the
// masters (Outcome), and what is decided is finished by the leader (Sweep).
//
// Invariants (safety S3, S4, S18):
//   - A transaction is decided by Apply: the first txn_committed or final txn_aborted wins, whoever proposes what later.
//   - "aborted" is told only after a final txn_aborted is applied and, for every attempt, a participant has durably refused
//     or dropped it; "committed" only from Apply's answer or a participant's record of it; everything else is "unknown".
//   - An attempt whose commit was proposed is never dropped by its coordinator, and one that was dropped is never proposed.
//
// It imports client for the way to a shard's leader, fsm and its vocabulary, and transport; never master.
package txn
