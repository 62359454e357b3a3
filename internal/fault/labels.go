package fault

// Label names a point.
type Label uint8

// The labels; what each is stands in the table below.
const (
	_ Label = iota
	RaftLogStore
	RaftLogStored
	RaftLogDelete
	RaftTerm
	RaftVote
	RaftSnapshotFix
	RaftSnapshotCreate
	RaftSnapshotWrite
	RaftSnapshotClose
	RaftSnapshotClosed
	RaftApply
	RaftApplied
	RaftRestore
	RaftRestored

	OutboxAppend
	OutboxAppended
	OutboxTrim
	OutboxFlush
	OutboxFlushed
	OutboxWrite
	OutboxSync
	OutboxFill
	OutboxSwitch
	OutboxSwitched
	ShipStore
	ShipStored
	ShipAck
	ShipAcked

	IdentityWrite
	IdentityWritten
	FormationStore
	FormationDecide
	FormationIdentity
	FormationStores
	FormationDone

	TxnSingleBefore
	TxnSingleAfter
	TxnPrepareBefore
	TxnPrepareSend
	TxnPrepareAfter
	TxnDecideBefore
	TxnDecideAfter
	TxnAbortBefore
	TxnAbortAfter
	TxnFinishBefore
	TxnFinishSend
	TxnFinishAcknowledged
	TxnFinishAfter
	TxnCompleteBefore
	TxnCompleteAfter
	TxnOutcomeBefore
	TxnOutcomeAfter

	ShardPrepareBefore
	ShardPrepareAfter
	ShardFinishBefore
	ShardFinishAfter
	ShardInquiryBefore
	ShardInquiryAfter

	EngineFlushed
	EngineFilled
	EngineSwitched
	SpoolPut
	SpoolAck
)

// Spec is what the table says about a label.
type Spec struct {
	Label Label
	Name  string
	Where string // the package with the point
	What  string // what is under way there
	Fails bool   // an Err: it can also be an error
}

// Name is the label's name. It is no method, because a method would be kept, and the table with it, wherever a Label is part of
// something that is printed.
func Name(l Label) string {
	for _, s := range labels {
		if s.Label == l {
			return s.Name
		}
	}
	return "unknown label"
}

// Labels lists all labels. The result is shared and must not be changed.
func Labels() []Spec { return labels }

var labels = []Spec{
	{RaftLogStore, "raft.log.store", "internal/raftgroup", "before entries are written to the log", true},
	{RaftLogStored, "raft.log.stored", "internal/raftgroup", "they are durable, raft does not know it yet", false},
	{RaftLogDelete, "raft.log.delete", "internal/raftgroup", "before the log is cut off; behind a snapshot its state machine is flushed", true},
	{RaftTerm, "raft.stable.term", "internal/raftgroup", "before a new term is written", true},
	{RaftVote, "raft.stable.vote", "internal/raftgroup", "before a vote is written", true},
	{RaftSnapshotFix, "raft.snapshot.fix", "internal/raftgroup", "before the state machine fixes its state for a snapshot", true},
	{RaftSnapshotCreate, "raft.snapshot.create", "internal/raftgroup", "before a snapshot is begun, one's own or a leader's", true},
	{RaftSnapshotWrite, "raft.snapshot.write", "internal/raftgroup", "before a part of it is written", true},
	{RaftSnapshotClose, "raft.snapshot.close", "internal/raftgroup", "it is written, not yet complete and durable", true},
	{RaftSnapshotClosed, "raft.snapshot.closed", "internal/raftgroup", "it is durable; before the log is cut off, or the state machine restored", false},
	{RaftApply, "raft.fsm.apply", "internal/raftgroup", "before committed entries are applied", false},
	{RaftApplied, "raft.fsm.applied", "internal/raftgroup", "they are applied, nobody is answered yet", false},
	{RaftRestore, "raft.fsm.restore", "internal/raftgroup", "before the state machine takes over a snapshot", true},
	{RaftRestored, "raft.fsm.restored", "internal/raftgroup", "it has", false},

	{OutboxAppend, "outbox.append", "master/feed", "before the events of entries are appended", true},
	{OutboxAppended, "outbox.appended", "master/feed", "they are in the store, not durable", false},
	{OutboxTrim, "outbox.trim", "master/feed", "before acknowledged events are removed", true},
	{OutboxFlush, "outbox.flush", "master/feed", "before the outbox is made durable", true},
	{OutboxFlushed, "outbox.flushed", "master/feed", "it is", false},
	{OutboxWrite, "outbox.disk.write", "master/feed", "before a write to one of its files", true},
	{OutboxSync, "outbox.disk.sync", "master/feed", "before one of its files, or their directory, is synced", true},
	{OutboxFill, "outbox.restore.fill", "master/feed", "before the content of a snapshot is read into a generation of its own", true},
	{OutboxSwitch, "outbox.restore.switch", "master/feed", "it is there; before it takes the place of the old one", true},
	{OutboxSwitched, "outbox.restore.switched", "master/feed", "it has, and is not durable", false},
	{ShipStore, "ship.store", "master/feed", "before events are sent to a sink", true},
	{ShipStored, "ship.stored", "master/feed", "they are durable there, not acknowledged", false},
	{ShipAck, "ship.ack", "master/feed", "before their acknowledgement is proposed", true},
	{ShipAcked, "ship.acked", "master/feed", "it is in the log", false},

	{IdentityWrite, "identity.write", "internal/datadir", "before IDENTITY is written", true},
	{IdentityWritten, "identity.written", "internal/datadir", "it is durable", false},
	{FormationStore, "formation.store", "master", "the store id is recorded", true},
	{FormationDecide, "formation.decide", "master", "the founding decision is recorded", true},
	{FormationIdentity, "formation.identity", "master", "IDENTITY is written", true},
	{FormationStores, "formation.stores", "master", "the stores are made", true},
	{FormationDone, "formation.done", "master", "the grid is formed", true},

	{TxnSingleBefore, "txn.single.before", "master/txn", "before the write of a transaction of one shard", false},
	{TxnSingleAfter, "txn.single.after", "master/txn", "it was answered", false},
	{TxnPrepareBefore, "txn.prepare.before", "master/txn", "before an attempt is prepared", false},
	{TxnPrepareSend, "txn.prepare.send", "master/txn", "before one participant is asked", false},
	{TxnPrepareAfter, "txn.prepare.after", "master/txn", "the votes are there", false},
	{TxnDecideBefore, "txn.decide.before", "master/txn", "all have voted yes; before the commit is proposed", false},
	{TxnDecideAfter, "txn.decide.after", "master/txn", "it is decided, or may be", false},
	{TxnAbortBefore, "txn.abort.before", "master/txn", "before the final abort is proposed", false},
	{TxnAbortAfter, "txn.abort.after", "master/txn", "it is recorded, or may be", false},
	{TxnFinishBefore, "txn.finish.before", "master/txn", "before the participants are told; the client is answered", false},
	{TxnFinishSend, "txn.finish.send", "master/txn", "before one participant is told", false},
	{TxnFinishAcknowledged, "txn.finish.acknowledged", "master/txn", "it has acknowledged", false},
	{TxnFinishAfter, "txn.finish.after", "master/txn", "all were told", false},
	{TxnCompleteBefore, "txn.complete.before", "master/txn", "before finished transactions are reported", false},
	{TxnCompleteAfter, "txn.complete.after", "master/txn", "they are", false},
	{TxnOutcomeBefore, "txn.outcome.before", "master/txn", "a participant inquires; before an abort is proposed", false},
	{TxnOutcomeAfter, "txn.outcome.after", "master/txn", "it is recorded; before the answer", false},

	{ShardPrepareBefore, "shard.prepare.before", "storagenode", "before a participant proposes a prepare to its group", false},
	{ShardPrepareAfter, "shard.prepare.after", "storagenode", "its vote is durable, or nobody knows; before the coordinator has it", false},
	{ShardFinishBefore, "shard.finish.before", "storagenode", "before a participant proposes a decision to its group", false},
	{ShardFinishAfter, "shard.finish.after", "storagenode", "it is applied there, or nobody knows; before it is acknowledged", false},
	{ShardInquiryBefore, "shard.inquiry.before", "storagenode", "before a participant asks how an attempt ended that it has held too long", false},
	{ShardInquiryAfter, "shard.inquiry.after", "storagenode", "it has the answer; before that is proposed", false},

	{EngineFlushed, "engine.snapshot.flushed", "storagenode/engine", "a shard's store is durable as far as the snapshot that is being written", true},
	{EngineFilled, "engine.restore.filled", "storagenode/engine", "the content of a snapshot is in a new store, durable; before CURRENT names it", true},
	{EngineSwitched, "engine.restore.switched", "storagenode/engine", "CURRENT names it", true},
	{SpoolPut, "spool.put", "agent/spool", "before an agent's event is written", true},
	{SpoolAck, "spool.ack", "agent/spool", "before an acknowledged one is removed", true},
}
