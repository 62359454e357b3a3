package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// Transactions that are under way, for people.
type (
	// ListTxns asks a master for the transactions that are decided and not completed, and for those that shards hold prepared; with
	// an id for what is known of that one, whatever became of it.
	ListTxns struct {
		TxnID event.TxnID `wire:"txn_id,optional"`
		Reading
	}
	// ListTxnsOk answers ListTxns.
	ListTxnsOk struct {
		Decided  []DecidedTxn   `wire:"decided"`
		Prepared []HeldTxn      `wire:"prepared"`             // by transaction, then shard
		Missing  []MissingShard `wire:"missing"`              // shards that did not say what they hold
		Outcome  string         `wire:"outcome,optional"`     // of an id: "committed", "aborted" for good, or "" for neither, or forgotten
		Seq      uint64         `wire:"outcome_seq,optional"` // of the decision event, where it is still known
		Horizon  event.Position `wire:"horizon"`
		Read
	}
	// DecidedTxn is a transaction with a decision in the masters' log.
	DecidedTxn struct {
		TxnID     event.TxnID     `wire:"txn_id"`
		Outcome   string          `wire:"outcome"` // committed, aborted (for good), or open: attempts of it were aborted
		Attempt   uint64          `wire:"attempt"` // that is committed; of an abort the last one
		Begin     event.Position  `wire:"begin"`
		Seq       uint64          `wire:"seq"`  // of the last decision event
		Time      int64           `wire:"time"` // of it, unix µs
		Shards    []event.ShardID `wire:"shards"`
		Aborted   []uint64        `wire:"aborted"`   // attempts that were
		Completed bool            `wire:"completed"` // every participant knows
	}
	// HeldTxn is a prepared attempt and its shard.
	HeldTxn struct {
		ShardID event.ShardID `wire:"shard_id"`
		PreparedTxn
	}
	// ResolveTxn ends a prepared attempt by an operator's word (safety S18): as any decision, the first one wins. Commit is refused
	// unless every participant holds the attempt prepared, wholly, and longer than any coordinator works on one.
	ResolveTxn struct {
		TxnID  event.TxnID `wire:"txn_id"`
		Commit bool        `wire:"commit"`
	}
	// ResolveTxnOk says how it ended.
	ResolveTxnOk struct {
		Outcome string `wire:"outcome"` // committed, or aborted
		Seq     uint64 `wire:"seq"`     // of the decision event
		Attempt uint64 `wire:"attempt"`
	}
)

// The members of shards' groups, spoken on a master's grid port.
type (
	// AssignReplica asks for one change of a shard's members (safety S14); answered when it is on record. The group's leader
	// brings it about.
	AssignReplica struct {
		ShardID   event.ShardID   `wire:"shard_id"`
		NodeID    event.NodeID    `wire:"node_id"`
		Role      string          `wire:"role"`              // event.RoleLearner: a new replica; RoleLeaving: it goes; RoleVoter: it was to go, and stays
		Replaces  event.NodeID    `wire:"replaces,optional"` // of a new replica: whose leaves once it votes
		RequestID event.RequestID `wire:"request_id,optional"`
		Issued    int64           `wire:"issued,optional"`
	}
	// AssignReplicaOk answers AssignReplica; also when the change was under way already.
	AssignReplicaOk struct {
		ReplicaID event.ReplicaID `wire:"replica_id" json:"replica_id"`
		Seq       uint64          `wire:"seq" json:"seq"` // of the event; 0: it is as was asked for
	}
)
