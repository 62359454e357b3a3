// Package feed turns the masters' log into the grid's history: every replica keeps the accepted events in an outbox, and
// the leader ships them, exactly once and in order, to each event sink.
//
//	Apply -> Outbox (Pebble, keyed by seq) -> Shipper (one worker a sink) -> sink -> feed_acked -> Trim on every replica
//
// Invariants:
//   - The outbox is one gap-free run of events whose hash chain is unbroken (safety S27).
//   - It is flushed through a raft snapshot before raft may truncate the log behind it, so whatever a crash takes from
//     it the log brings back (DESIGN §4).
//   - An event is counted as shipped only when the sink holds all of its records durably, and nothing is ever skipped:
//     a sink that differs from what it acknowledged is not shipped to (safety S10).
//
// It imports fsm, fsm/event and transport, and nothing else of ours.
package feed
