package history

import (
	"cmp"
	"math"
	"slices"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Never is the Return of a transaction whose end nobody knows.
const Never = math.MaxInt64

// Txn is one transaction as its client saw it. Times are nanoseconds since the history began.
type Txn struct {
	Call    uint64 // its number in the history
	Client  int    // a client has one transaction under way at a time
	Invoke  int64
	Return  int64 // Never: Outcome is Unknown
	Outcome Outcome

	Ops      []transport.Op
	Results  []transport.OpResult // OK: one per op; nil: nothing was read, or it is not known what
	ID       string               // the request id, if it was recorded: transactions over several shards are known by it in the feed
	Seq      uint64               // OK: of its decision event; 0: one shard committed it alone, or it was not recorded
	FailedOp int                  // Fail: 1 + index of the op that did not hold; 0: it failed for another reason
	Reason   string               // of Fail and Unknown, for people
}

// sorted is the transactions in the order of their beginnings.
func sorted(h []Txn) []Txn {
	h = slices.Clone(h)
	slices.SortStableFunc(h, func(a, b Txn) int { return cmp.Or(cmp.Compare(a.Invoke, b.Invoke), cmp.Compare(a.Call, b.Call)) })
	return h
}
