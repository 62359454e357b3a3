package transport

// Proof that the replicas of a shard hold the same, an extension of the storage protocol. It goes inside Routed; with
// consistency "stale" any replica answers for itself.
type (
	// ContentHash asks for a hash over everything that a replica has replicated. It reads the whole store: about a second
	// for each GiB, within the request's deadline.
	ContentHash struct{}
	// ContentHashOk: two replicas of a shard whose Applied is equal have an equal Digest, or one of them is damaged.
	ContentHashOk struct {
		Applied uint64   `wire:"applied"` // log index of the last entry that is in it
		Digest  [32]byte `wire:"digest"`  // SHA-256 over all keys and values, in key order
	}
)
