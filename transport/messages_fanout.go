package transport

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// What a read over several shards may leave out, and what its answer stands for (safety S22). A plain client's read is the
// inner request alone: linearizable at each shard, and an error when one cannot answer.
type (
	// Query is a read with what its caller allows; masters answer it, as the SDK does.
	Query struct {
		Request       Any    `wire:"request"`                 // any read of the storage protocol but a Batch
		Partial       bool   `wire:"partial,optional"`        // shards that cannot answer are left out and listed; otherwise they fail the whole
		Consistency   string `wire:"consistency,optional"`    // "" or "linearizable": each shard's leader; "stale": any replica of each
		TimeoutMillis uint32 `wire:"timeout_millis,optional"` // of the whole, at most a minute; 0: 10 s
	}
	// QueryOk wraps the reply of the request.
	QueryOk struct {
		Reply   Any            `wire:"reply"`
		Epoch   event.Position `wire:"epoch"`            // of the shard map
		Reads   []ShardRead    `wire:"reads,optional"`   // of the shards that answered, by id
		Missing []MissingShard `wire:"missing,optional"` // of the shards that did not, by id; only of a partial query
	}
	// ShardRead says what one shard's part of an answer holds: everything acknowledged up to the index.
	ShardRead struct {
		ShardID  event.ShardID `wire:"shard_id" json:"shard_id"`
		ShardSeq uint64        `wire:"shard_seq" json:"shard_seq"` // its log's index; of several reads of one shard the first
		ReadMode string        `wire:"read_mode" json:"read_mode"` // linearizable or stale
	}
	// MissingShard is a shard whose part an answer does not have.
	MissingShard struct {
		ShardID event.ShardID `wire:"shard_id" json:"shard_id"`
		Kind    event.Kind    `wire:"kind" json:"kind"`
		Message string        `wire:"message" json:"message"` // why
	}
)

// MaxQueryMillis bounds the time that a Query may ask for.
const MaxQueryMillis = 60_000

// validateQueryOf checks a Query and the request in it.
func validateQueryOf(m *Query, dimension int) *event.Error {
	switch q := m.Request.Value.(type) {
	case nil:
		return invalid("request is missing")
	case *Query, *Batch, *Routed:
		return invalid("request is a %s, which cannot be inside a Query", VariantName(q))
	}
	if v, ok := variantOf(m.Request.Value); !ok || !v.has(read) || !v.has(storage) {
		return invalid("request is a %s: want a read of the storage protocol", VariantName(m.Request.Value))
	}
	if m.Consistency != "" && m.Consistency != Linearizable && m.Consistency != Stale {
		return invalid("consistency is %.32q: want %s or %s", m.Consistency, Linearizable, Stale)
	}
	if e := atMost("timeout_millis", int64(m.TimeoutMillis), MaxQueryMillis); e != nil {
		return e
	}
	e := validate(m.Request.Value, dimension)
	if e != nil {
		e.Message = fmt.Sprintf("%s: %s", VariantName(m.Request.Value), e.Message)
	}
	return e
}
