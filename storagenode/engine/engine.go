package engine

import (
	"io"
	"log/slog"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Options say whose state the store holds.
type Options struct {
	ShardID    event.ShardID
	Dimension  uint32 // of vectors; Check refuses others
	CacheBytes int64  // Pebble's block cache; 0: 32 MiB
	Log        *slog.Logger

	// Fatal is told, once, why this replica cannot go on: an undecodable entry, a damaged or failing store. The process
	// must leave; after it every call answers with an error. It may be called from any goroutine and must not call Close.
	Fatal func(error)
}

// Engine is one shard's state machine; it implements raftgroup.FSM. Apply, Snapshot and Restore are called by one
// goroutine, everything else by any.
type Engine struct{}

// Open opens the store in dir, or makes it, whole, when dir does not exist or is empty.
func Open(dir string, o Options) (*Engine, error) { panic("pending") }

// Close waits for running reads and closes the store.
func (e *Engine) Close() error { panic("pending") }

// Applied is the index of the last entry whose effects can be read.
func (e *Engine) Applied() uint64 { panic("pending") }

// Flush makes everything applied durable in the store.
func (e *Engine) Flush() error { panic("pending") }

// Check refuses what Apply would refuse whatever the state: limits, NaN, the vectors' dimension. Leaders call it before
// they propose.
func (e *Engine) Check(c Command) error { panic("pending") }

// Apply applies entries in order; it answers an Answer per command.
func (e *Engine) Apply(entries []raftgroup.Entry) [][]any { panic("pending") }

// Snapshot fixes the state.
func (e *Engine) Snapshot() (raftgroup.Snapshot, error) { panic("pending") }

// Restore replaces the state by a snapshot's.
func (e *Engine) Restore(r io.Reader) error { panic("pending") }

// Answer is what one command gets.
type Answer struct {
	Seq         uint64               // log index at which the command took effect
	Err         *event.Error         // a refusal; the state is as it was
	OpIndex     int32                // of the op that Err is about; -1: none
	AlreadyDone bool                 // it had taken effect before, at Seq
	Prepare     *transport.PrepareOk // of a Prepare: the vote
}

// Concept is a concept as stored.
type Concept struct {
	ID                   string
	Content              string
	Strength, Confidence float32
	Attributes           map[string]string
	Tags                 []string
	Version              uint64 // 1 at its creation, one more with each change of its own fields
	Created, Modified    int64  // log time, unix µs
	Dimension            uint32 // of its vector; 0: none
}

// Association is one association as stored.
type Association struct {
	Source, Target string
	Type           uint32
	Confidence     float32
}

// Stats are kept with every entry.
type Stats struct {
	Concepts uint64
	Edges    uint64 // each association once, at its source
	Vectors  uint64
	Written  uint64 // learned concepts and associations, learned again included
	Prepared uint64 // transactions in doubt here
}

// Concept reads a concept without its vector.
func (e *Engine) Concept(id string) (c *Concept, found bool, err error) { panic("pending") }

// Vector reads a concept's embedding; nil when it has none.
func (e *Engine) Vector(id string) ([]float32, error) { panic("pending") }

// Exists tells whether the concept is there.
func (e *Engine) Exists(id string) (bool, error) { panic("pending") }

// Association reads the one of the lowest type from source to target.
func (e *Engine) Association(source, target string) (a *Association, found bool, err error) {
	panic("pending")
}

// Neighbors answers one page.
func (e *Engine) Neighbors(q *transport.Neighbors) (*transport.NeighborsOk, error) { panic("pending") }

// Targets lists the distinct targets of outgoing associations, in commit order of the first.
func (e *Engine) Targets(id string) ([]string, error) { panic("pending") }

// Expand answers for a frontier of ids.
func (e *Engine) Expand(q *transport.Expand) (*transport.ExpandOk, error) { panic("pending") }

// IDs lists at most limit ids behind after, in byte order.
func (e *Engine) IDs(after string, limit int) ([]string, error) { panic("pending") }

// Stats reads the counters.
func (e *Engine) Stats() Stats { panic("pending") }

// Digest is a hash over all keys and values, with the index it stands for.
func (e *Engine) Digest() (sum [32]byte, applied uint64, err error) { panic("pending") }

// Lock says who holds an id.
type Lock struct {
	Txn     event.TxnID
	Attempt uint64
	Start   int64 // wait-die age of the holder
}

// Prepared is a transaction in doubt at this shard.
type Prepared struct {
	TxnID        event.TxnID
	Attempt      uint64
	Begin        event.Position
	Start        int64
	Coordinator  event.MasterID
	Participants []event.ShardID
	Since        int64 // log time of the prepare, unix µs
}

// Holder tells who holds the exclusive lock on an id.
func (e *Engine) Holder(id string) (Lock, bool) { panic("pending") }

// LockReleased is closed at the next release of any lock.
func (e *Engine) LockReleased() <-chan struct{} { panic("pending") }

// Prepared lists the transactions in doubt, by transaction id.
func (e *Engine) Prepared() []Prepared { panic("pending") }

// Horizon is the highest transaction horizon seen (safety S4).
func (e *Engine) Horizon() event.Position { panic("pending") }

// LockIDs are the ids a command's ops lock, sorted and distinct.
func LockIDs(ops []transport.Op) []string { panic("pending") }
