// Package disk is the form of what a master keeps in its data directory: the names of its parts, and the sections of a
// snapshot. The master that writes them and the tools that read them offline share it, so that neither can drift.
//
//	DATA/ LOCK IDENTITY formation.json   whose directory it is
//	      raft/                          log, term and vote, snapshots (internal/raftgroup)
//	      outbox/                        the newest events (master/feed)
//	snapshot content = section{state (fsm)}, outbox stream (master/feed)
//
// It imports nothing of ours.
package disk

// GroupID names the masters' raft group in handshakes and checksums.
const GroupID = "masters"

// The parts of a master's data directory.
const (
	RaftDir   = "raft"
	OutboxDir = "outbox"
)
