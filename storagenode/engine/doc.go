// Package engine is the state machine of one shard replica on one Pebble store: concepts, associations, the request
// table, prepared transactions and the locks they hold.
//
//	log entry -> Apply -> one batch {data, requests, transactions, applied index} -> Pebble (its own log is off)
//
// Invariants:
//   - Apply is a function of the state and the entry alone; replicas that applied the same entries have byte-identical
//     key spaces (Digest), however the entries were grouped into calls.
//   - The applied index is in the same batch as the data it stands for, so a crash leaves the state at some index, never
//     between two; what is missing is replayed from the group's log (safety S11).
//   - Every answer to a read is one point in time.
//   - A lock that an applied entry took is seen by Holder before Applied reports the entry; a lock is seen as released only
//     after what its holder wrote can be read.
//   - A damaged store is an error that names the file, never other data.
//
// It must not import net, client or master, start goroutines of its own, or read a clock.
package engine
