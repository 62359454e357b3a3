package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// How a node that is given a new replica of a shard fetches the state of another one before its raft begins: an extension of the
// storage protocol, between nodes of one grid. The state is files that do not change while the checkpoint lasts; they are read in
// pieces, in any order and any number of times, so whoever was interrupted goes on where it was.
type (
	// OpenCheckpoint asks a replica to fix its state. Asked with the id of a checkpoint that still exists it answers the same
	// again; otherwise it makes a new one, in place of the one that it had for the same For.
	OpenCheckpoint struct {
		GridID      string            `wire:"grid_id"`
		Incarnation event.Incarnation `wire:"incarnation"`
		ShardID     event.ShardID     `wire:"shard_id"`
		For         event.ReplicaID   `wire:"for"`                 // the replica that will begin with it
		Checkpoint  [16]byte          `wire:"checkpoint,optional"` // known from before; zero: none
	}
	// OpenCheckpointOk describes the checkpoint. It is gone when nobody has read it for some minutes, is told to, or the node
	// ends.
	OpenCheckpointOk struct {
		Checkpoint [16]byte         `wire:"checkpoint"`
		Point      []byte           `wire:"point"` // which entry of the group's log the state is of (raftgroup.Point)
		Files      []CheckpointFile `wire:"files"`
	}
	// CheckpointFile is one file of it.
	CheckpointFile struct {
		Name  string `wire:"name"` // without a directory
		Bytes uint64 `wire:"bytes"`
	}
	// ReadCheckpoint reads up to Bytes, at most MaxCheckpointRead, from Offset on. The sender may keep it waiting: it sends no
	// faster than it is configured to.
	ReadCheckpoint struct {
		ShardID    event.ShardID `wire:"shard_id"`
		Checkpoint [16]byte      `wire:"checkpoint"`
		Name       string        `wire:"name"`
		Offset     uint64        `wire:"offset"`
		Bytes      uint32        `wire:"bytes"` // 0: only the sum
	}
	// ReadCheckpointOk has the bytes, fewer than were asked for only at the file's end. Asked for none it has the sum of the
	// whole file.
	ReadCheckpointOk struct {
		Data []byte `wire:"data"`
		Sum  uint32 `wire:"sum,optional"` // CRC-32C
	}
	// CloseCheckpoint says that it is needed no more; one that does not exist is closed.
	CloseCheckpoint struct {
		ShardID    event.ShardID `wire:"shard_id"`
		Checkpoint [16]byte      `wire:"checkpoint"`
	}
	// CloseCheckpointOk says that its files are gone.
	CloseCheckpointOk struct{}

	// ShardLevel asks a node which level of a shard's log it supports (safety S13), whether or not it holds a replica. A node that
	// does not know the question supports level 2.
	ShardLevel struct {
		GridID  string        `wire:"grid_id"`
		ShardID event.ShardID `wire:"shard_id"`
	}
	// ShardLevelOk answers ShardLevel.
	ShardLevelOk struct {
		Level uint32 `wire:"level"`
	}
)
