package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

type (
	// StateDigests asks a master for the digests of its state and for its clock (safety S9, S17).
	StateDigests struct {
		Above uint64 `wire:"above"` // only of entries above this index
	}
	// StateDigestsOk is ordered by index. A replica has nothing from before it last took a snapshot over.
	StateDigestsOk struct {
		Replica    event.ReplicaID `wire:"replica"`
		TimeMicros int64           `wire:"time_micros"` // the wall clock, unix µs
		Digests    []StateDigest   `wire:"digests"`
	}
	// StateDigest is one replica's state behind entry Index.
	StateDigest struct {
		Index  uint64   `wire:"index"` // of the raft log, a multiple of 1,024
		Seq    uint64   `wire:"seq"`
		Chain  [32]byte `wire:"chain"`
		Digest [32]byte `wire:"digest"`
		Local  [32]byte `wire:"local"`
	}
)
