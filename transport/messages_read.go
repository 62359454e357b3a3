package transport

import (
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The consistencies of a read. What any of them leaves out is the caller's to want.
const (
	// Linearizable: the answer holds everything acknowledged before the request; the leader confirmed that it leads. The default.
	Linearizable = "linearizable"
	// Leader: the answer holds what the leader had applied when it was asked; a leader that was deposed and does not know it
	// yet may miss what its successor acknowledged.
	Leader = "leader"
	// Stale: any master's state, if its age is within the bound; the answer says how old it is.
	Stale = "stale"
)

type (
	// Reading says how fresh the answer to a read must be. The zero value asks for a linearizable one.
	Reading struct {
		Consistency        string `wire:"consistency,optional"`      // "": linearizable
		MaxStalenessMillis uint32 `wire:"max_staleness_ms,optional"` // of a stale read; 0: any age
		MinSeq             uint64 `wire:"min_seq,optional"`          // wait until the answering master has applied this event: read your writes
	}
	// Read says how an answer was read (safety S30).
	Read struct {
		ReadMode  string `wire:"read_mode,optional" json:"read_mode,omitempty"` // one of the consistencies
		AgeMillis uint64 `wire:"age_ms,optional" json:"age_ms,omitempty"`       // of a stale read: the bound it kept, see raftgroup.Group.Age
		Term      uint64 `wire:"term,optional" json:"term,omitempty"`           // in which the leader was asked; 0: it was not
	}
	// Contract is what an answer holds for, in full.
	Contract struct {
		Seq   uint64         `wire:"seq,optional" json:"seq"`
		Epoch event.Position `wire:"epoch,optional" json:"epoch"` // of the shard map
		Read
	}
)

// Validate refuses a consistency that does not exist, and a bound on the age of what has none.
func (r Reading) Validate() error {
	fault := func(format string, args ...any) error {
		return &event.Error{Kind: event.KindInvalid, Op: "read", Message: fmt.Sprintf(format, args...)}
	}
	switch r.Consistency {
	case "", Linearizable, Leader:
		if r.MaxStalenessMillis > 0 {
			return fault("max_staleness_ms is for consistency %s, not %s", Stale, r.Mode())
		}
	case Stale:
	default:
		return fault("consistency %.20q: want %s, %s or %s", r.Consistency, Linearizable, Leader, Stale)
	}
	return nil
}

// Mode is the consistency that is asked for.
func (r Reading) Mode() string {
	if r.Consistency == "" {
		return Linearizable
	}
	return r.Consistency
}

// MaxStaleness is the bound on a stale read's age; 0: none.
func (r Reading) MaxStaleness() time.Duration {
	return time.Duration(r.MaxStalenessMillis) * time.Millisecond
}
