package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// Writes of one shard and transactions over several: docs of the protocol are in master/txn.
type (
	// Write is a single-shard write of several operations, atomic in one entry. It goes inside Routed; the request id is the
	// Routed one. Also the fast path of a transaction that touches one shard.
	Write struct {
		Ops []Op `wire:"ops"`
	}
	// WriteOk has one commit order per op.
	WriteOk struct {
		Sequence       uint64     `wire:"sequence"`
		Results        []OpResult `wire:"results,optional"`         // one per op, when an op has one
		ResultsOmitted bool       `wire:"results_omitted,optional"` // it took effect before, and its results are no longer kept
	}
	// Prepare is step 2 of the two-phase commit at one participant (inside Routed).
	Prepare struct {
		TxnID        event.TxnID     `wire:"txn_id"`
		Attempt      uint64          `wire:"attempt"`
		Begin        event.Position  `wire:"begin"`
		Start        int64           `wire:"start"` // wait-die age, unix µs of the first attempt
		Coordinator  event.MasterID  `wire:"coordinator"`
		Participants []event.ShardID `wire:"participants"`
		Issued       int64           `wire:"issued"`
		Horizon      event.Position  `wire:"horizon"`
		Ops          []Op            `wire:"ops"`
		Part         uint32          `wire:"part,optional"` // an attempt may come to a participant in parts, counted from 0; each has its vote, and the locks of all are kept
		Open         bool            `wire:"open,optional"` // another part follows: what is prepared so far can be dropped and not committed
	}
	// PrepareOk is a vote. Yes: the locks are held and the intents kept, replicated. AlreadyDone: this shard has the
	// transaction's result from another attempt or from a single-shard write.
	PrepareOk struct {
		Vote        bool            `wire:"vote"`
		AlreadyDone bool            `wire:"already_done"`
		Retry       bool            `wire:"retry"`            // a no that another attempt may turn into yes: lock conflict or Busy
		Reason      *event.Error    `wire:"reason"`           // of a no
		OpIndex     int32           `wire:"op_index"`         // of the op that failed, index into Ops; -1: none
		Results     []OpResult      `wire:"results,optional"` // of a yes: one per op, when an op has one
		Far         []AssociationID `wire:"far,optional"`     // of a yes: the associations that deletes remove and whose other end is not here
	}
	// Finish is step 4: the decision, to one participant (inside Routed). Idempotent.
	Finish struct {
		TxnID   event.TxnID    `wire:"txn_id"`
		Attempt uint64         `wire:"attempt"`
		Begin   event.Position `wire:"begin"`
		Commit  bool           `wire:"commit"`
		Horizon event.Position `wire:"horizon"`
	}
	// FinishOk acknowledges a Finish durably.
	FinishOk struct{}
	// TxnResults asks the shard's leader what an attempt, committed here, answered to its ops (inside Routed).
	TxnResults struct {
		TxnID   event.TxnID `wire:"txn_id"`
		Attempt uint64      `wire:"attempt"`
	}
	// TxnResultsOk has one result per op, parts in order; Omitted: they are no longer kept, or there never were any.
	TxnResultsOk struct {
		Results []OpResult `wire:"results"`
		Omitted bool       `wire:"omitted"`
	}

	// PreparedTxns asks a shard's leader what is prepared there (inside Routed).
	PreparedTxns struct{}
	// PreparedTxnsOk is in the order of the transactions' ids.
	PreparedTxnsOk struct {
		Txns []PreparedTxn `wire:"txns"`
	}
	// PreparedTxn is an attempt that a shard holds prepared.
	PreparedTxn struct {
		TxnID        event.TxnID     `wire:"txn_id"`
		Attempt      uint64          `wire:"attempt"`
		Begin        event.Position  `wire:"begin"`
		Start        int64           `wire:"start"`  // the transaction's age, unix µs
		Issued       int64           `wire:"issued"` // unix µs
		Coordinator  event.MasterID  `wire:"coordinator"`
		Participants []event.ShardID `wire:"participants"` // as far as this shard knows
		Open         bool            `wire:"open"`         // another part is still to come: it cannot be committed
		AgeMillis    uint64          `wire:"age_millis"`   // since it was prepared, by the shard's log
	}

	// Txn is a one-shot transaction to any master, atomic over all shards; the request id is its id. At most 1,000 ops and 16 MiB.
	Txn struct {
		RequestID     event.RequestID `wire:"request_id"` // zero: the master makes one
		Issued        int64           `wire:"issued,optional"`
		TimeoutMillis uint32          `wire:"timeout_millis,optional"` // 0: 10 s
		Ops           []Op            `wire:"ops"`
	}
	// TxnOk: committed. An abort is an Error of kind aborted, precondition or expired.
	TxnOk struct {
		TxnID event.TxnID `wire:"txn_id"`
		Seq   uint64      `wire:"seq"` // of the decision event; 0 when one shard committed it alone

		Results        []OpResult `wire:"results,optional"`         // one per op, when an op has one
		ResultsOmitted bool       `wire:"results_omitted,optional"` // it was committed before, and its results are no longer kept
	}
)

// OpKind names an operation of a Write, Prepare or Txn.
type OpKind string

// The operations of a transaction, executed in their order: each sees what those before it did. All of them or none take effect; a
// precondition that does not hold, or a write that has nothing to write to, aborts with KindPrecondition.
const (
	OpLearnConcept     OpKind = "learn_concept"     // ID, Content, Embedding, Strength, Confidence, Metadata: created or replaced
	OpLearnAssociation OpKind = "learn_association" // ID → Target, AssocType, Confidence; both exist

	OpDeleteConcept         OpKind = "delete_concept"          // ID, with its associations; none: nothing to do
	OpDeleteAssociation     OpKind = "delete_association"      // ID → Target, of all types; none: nothing to do
	OpDeleteAssociationType OpKind = "delete_association_type" // ID → Target, of AssocType; the same

	OpSetAttribute OpKind = "set_attribute" // ID exists: Key becomes Value
	OpAdd          OpKind = "add"           // ID exists: Key, a decimal int64 or absent (0), grows by Number; its result is Value

	OpRead          OpKind = "read"           // ID: its result is the concept, or that it is not Found
	OpReadNeighbors OpKind = "read_neighbors" // ID: its result is Neighbors, distinct targets in the order in which their first association committed

	OpExists           OpKind = "exists"             // ID
	OpAbsent           OpKind = "absent"             // ID
	OpVersion          OpKind = "version"            // ID exists at Version
	OpAttributeEquals  OpKind = "attribute_equals"   // ID exists, Key is Value
	OpAttributeAtLeast OpKind = "attribute_at_least" // ID exists, Key is a decimal int64 (absent: 0) and at least Number
)

// Halves of an operation over two shards, which a coordinator makes; a client sends none.
const (
	OpLinkOut       OpKind = "link_out"        // the source's half of learn_association; ID is here, Target elsewhere
	OpLinkIn        OpKind = "link_in"         // the target's half; Target is here, ID elsewhere
	OpUnlinkOut     OpKind = "unlink_out"      // the source's half of delete_association
	OpUnlinkIn      OpKind = "unlink_in"       // the target's half
	OpUnlinkOutType OpKind = "unlink_out_type" // the same of AssocType
	OpUnlinkInType  OpKind = "unlink_in_type"
)

// Deletes tells whether the operation removes something, given by a client.
func (k OpKind) Deletes() bool {
	return k == OpDeleteConcept || k == OpDeleteAssociation || k == OpDeleteAssociationType
}

// Half tells whether the operation is one end's part of another one.
func (k OpKind) Half() bool {
	switch k {
	case OpLinkOut, OpLinkIn, OpUnlinkOut, OpUnlinkIn, OpUnlinkOutType, OpUnlinkInType:
		return true
	}
	return false
}

// ReadsOnly tells whether the operation leaves everything as it is: it shares its row with others of this nature (safety S8).
func (k OpKind) ReadsOnly() bool {
	switch k {
	case OpRead, OpReadNeighbors, OpExists, OpAbsent, OpVersion, OpAttributeEquals, OpAttributeAtLeast:
		return true
	}
	return false
}

// Answers tells whether the operation has a result. Halves of deletes have theirs.
func (k OpKind) Answers() bool {
	switch k {
	case OpRead, OpReadNeighbors, OpAdd, OpUnlinkOut, OpUnlinkIn, OpUnlinkOutType, OpUnlinkInType:
		return true
	}
	return k.Deletes()
}

// Op is one operation; which fields it uses its kind says.
type Op struct {
	Kind       OpKind    `wire:"kind"`
	ID         string    `wire:"id"`
	Target     string    `wire:"target,optional"`
	AssocType  uint32    `wire:"assoc_type,optional"`
	Content    string    `wire:"content,optional"`
	Embedding  []float32 `wire:"embedding,optional"`
	Strength   float32   `wire:"strength,optional"`
	Confidence float32   `wire:"confidence,optional"`
	Metadata   *Metadata `wire:"metadata,optional"`
	Key        string    `wire:"key,optional"`
	Value      string    `wire:"value,optional"`
	Number     int64     `wire:"number,optional"`
	Version    uint64    `wire:"version,optional"`
}

// OpResult is what a read or an add answers; of every other operation it is zero. Which fields it uses the operation's kind says.
type OpResult struct {
	Found      bool              `wire:"found,optional"` // read
	Content    string            `wire:"content,optional"`
	Strength   float32           `wire:"strength,optional"`
	Confidence float32           `wire:"confidence,optional"`
	Attributes map[string]string `wire:"attributes,optional"`
	Tags       []string          `wire:"tags,optional"`
	Version    uint64            `wire:"version,optional"`  // 1 when created, one more with each change of the concept
	Created    int64             `wire:"created,optional"`  // unix µs
	Modified   int64             `wire:"modified,optional"` // unix µs
	Neighbors  []string          `wire:"neighbors,optional"`
	Value      int64             `wire:"value,optional"` // add: the sum
}

// AssociationID is one association by its identity.
type AssociationID struct {
	Source    string `wire:"source"`
	Target    string `wire:"target"`
	AssocType uint32 `wire:"assoc_type"`
}
