// Package storagenode is one storage node: a process that holds replicas of shards and answers the Sutra storage
// protocol for them.
//
//	port ── mux ┬─ frames ─ server ─ handler ─ replica ┬─ group  (raft: the replica's log)
//	            └─ raft ─── host ──────────────────────┘└─ engine (the state the log builds, locks included)
//	masters ─ map watcher ─ plan ─ replicas made and opened
//
// Alone (Config.Grid nil) a node is a grid of one shard with one voter; in a grid the masters' shard map says what it
// holds. Both run the same code: alone, the map is one that the node makes for itself.
//
// Invariants: a write is answered after its entry is on a majority of the group's voters; a linearizable read follows a
// read index of the present term and never shows a row that a prepared transaction holds; a request for a shard or an id
// that is not held here is refused, never answered with "absent"; a replica whose directory is gone is never made again
// under its id (safety S1, S7, S8, S15).
//
// The package routes nothing between shards and knows no master but through transport.Masters; it must not import
// master, client or agent.
package storagenode
