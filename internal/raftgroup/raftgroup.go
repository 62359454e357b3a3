// Package raftgroup is hashicorp/raft as the masters and the shards both use it: one replica of one group, with the guards
// against the library's open defects (DESIGN §5, safety S1, S7, S11, S23, S24, S26).
//
//	Propose -> queue -> one entry of many commands -> raft -> log store (latch, deadline, checksum) -> quorum
//	                                                        -> FSM adapter -> FSM.Apply -> answers to each Propose
//	ReadIndex -> round -> answers to requests sent after the round began, from a quorum -> wait for the FSM
//	Host <- listener of raft connections; hands each to the group and replica it is meant for, and to no other
//
// Invariants:
//   - A command is answered only after its entry is durable on a majority and applied here. "Surely not done" is said only
//     of commands that never reached the log.
//   - Terms change only on raft's main loop; term and vote are durable before anybody learns of them; the vote is one write.
//   - A store that failed once is never used again: the replica serves nothing any more and Config.Fatal is told why.
//   - A store that is missing is never made again; only Create makes stores, all at once.
//   - Whatever is read back from disk or arrives from another replica is checked before it is decoded.
//
// It imports fsm/event, internal/datadir, internal/pack and transport's networks, and knows nothing of what commands mean.
package raftgroup

import (
	"io"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// FSM is the replicated state machine of one group. Apply, Snapshot and Restore are called by one goroutine.
type FSM interface {
	// Apply applies entries in the order of the log, each exactly once, and returns for each one answer per command.
	// Entries without commands are not handed in. An FSM that cannot go on returns nil: nobody is answered, and the
	// replica stops.
	Apply(entries []Entry) [][]any
	// Snapshot fixes the state behind the last applied entry. Apply waits for it, so it must be quick.
	Snapshot() (Snapshot, error)
	// Restore replaces the state by what Snapshot.Write wrote, here or on another replica. The content has been checked
	// up to what Read returned; an error from Read means that the rest is damaged. A failed Restore leaves the old state.
	Restore(r io.Reader) error
}

// Snapshot is a fixed state. Write streams it while Apply goes on. When it returns, everything the snapshot stands for must
// be durable, for the log behind it is then cut off (safety S11). Release is called once, whether or not Write was.
type Snapshot interface {
	Write(w io.Writer) error
	Release()
}

// KeptSnapshot is a Snapshot of an FSM that keeps its state on this replica's own disk (Config.Applied). Raft's store gets a
// record of it and not the content, which would be a second copy on the same disk; the content is streamed, of the state as it
// is by then, when another replica needs it. Write is called only for that: any number of times, with the same bytes each
// time, and it need not make anything durable.
type KeptSnapshot interface {
	Snapshot
	// Keep makes everything that the snapshot stands for durable in the FSM's own store (safety S11), and then writes a few
	// bytes about it, for tools.
	Keep(w io.Writer) error
}

// Entry is one entry of the log.
type Entry struct {
	Index, Term    uint64
	Version, Level uint32 // of the encoding; of the vocabulary (safety S13)
	Time           int64  // the leader's stamp, µs UTC; never smaller than an earlier entry's
	Commands       [][]byte
}

// Result is a command's place in the log and the FSM's answer to it.
type Result struct {
	Index, Term uint64
	Answer      any
}

// Suffrage says whether a replica votes.
type Suffrage string

// The suffrages of a replica.
const (
	Voter   Suffrage = "voter"
	Learner Suffrage = "learner"
)

// PeerStatus is one replica of the group. MatchIndex, LastContact and NearSince of the others are known on the leader
// only.
type PeerStatus struct {
	ID          event.ReplicaID
	Suffrage    Suffrage
	MatchIndex  uint64    // the last entry it is known to hold; 0: unknown
	LastContact time.Time // when it last answered in this term; zero: never, or this replica itself
	Stalled     bool      // it answers, and has got no entry for 5 s while this leader has more; leader only
	NearSince   time.Time // since when it has been within 100 entries of the leader without a break; zero: it is not
}
