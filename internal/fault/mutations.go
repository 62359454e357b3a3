package fault

import "time"

// Mutation names a way in which a grid is broken on purpose. A suite that does not notice one proves nothing about what it guards.
type Mutation uint8

// The mutations; what each breaks stands in the table below.
const (
	_ Mutation = iota
	SkipFsyncLog
	SkipFsyncVote
	SkipFsyncDir
	ShardNotFlushed
	OutboxNotFlushed
	ContinueAfterFsyncError
	LatchOff
	StoreLatchOff
	WriteDeadlineOff
	ChecksumOff

	AckBeforeCommit
	VoteInTwoWrites
	HeartbeatsBesideTerm
	InFlightUncapped
	SnapshotUnjoined
	Pipelined
	DeletedEntriesFound

	ReadOnState
	ReadByEarlierAnswers
	WallClockLease
	FollowerServesLinearizable

	DoubleApply
	DoubleWrite
	RequestTableNotInSnapshot
	ImpureApply

	NoLockBetweenPrepareAndCommit
	SharedLocksOff
	ExclusiveLocksShared
	WaitDieOff
	DecisionNotLogged
	ParticipantAbortsPrepared
	InDoubtNeverResolved
	OneShardCommitsLate

	OutboxNotInSnapshot
	OutboxTrimmedBeforeAck
	ReshipWithoutIdempotency
	WatchResumesOffByOne
	EpochNotChecked
)

// MutationSpec is what the table says about a mutation.
type MutationSpec struct {
	Mutation  Mutation
	Name      string
	Where     string        // the package that it breaks
	What      string        // what is broken
	Anomalies []string      // any one of these shows it: classes of the checkers (internal/history), or rules of a run
	Workloads []string      // that can see it
	Faults    []string      // kinds that bring it to light, any one; LABEL:ACTION, or one under which another happens, KIND/KIND; none: it shows without
	Rigs      string        // in which: "S", "P" or "SP"; empty: no run can be made to see it, only its test does, and What says why
	Test      string        // the test that goes red: package and name
	Hold      time.Duration // that a fault lasts at least, to bring it to light; 0: any
	Clients   int           // that it takes: what happens in a moment needs many requests in that moment; 0: few
}

// Mutations lists all mutations. The result is shared and must not be changed.
func Mutations() []MutationSpec { return mutations }

var mutations = []MutationSpec{
	{SkipFsyncLog, "skip-fsync-log", "internal/raftgroup",
		"entries of the log are acknowledged and not synced",
		[]string{"lost-write", "stale-read", "split-version", "not-linearizable", "bank-total", "bank-symmetry", "lost-element", "G-single-realtime", "feed-differs", "feed-gap", "state-differs", "trouble"},
		[]string{"W1", "W3", "W4", "W6"}, []string{"power.all", "power.minority", "power.torn"}, "SP",
		"internal/raftgroup TestAcknowledgedEntriesAreSynced", 0, 0},
	{SkipFsyncVote, "skip-fsync-vote", "internal/raftgroup",
		"term and vote are given and not synced",
		[]string{"two-leaders", "state-differs", "feed-differs", "trouble", "lost-write", "stale-read", "split-version", "not-linearizable", "bank-total", "bank-symmetry", "lost-element", "G-single-realtime"},
		[]string{"W1", "W3", "W4"}, []string{"power.all", "power.minority", "power.one"}, "SP",
		"internal/raftgroup TestVotesAreSynced", 0, 0},
	{SkipFsyncDir, "skip-fsync-dir", "internal/datadir",
		"directories are not synced (in storagenode/engine too). ext4 writes names down with the next sync of any file, so that no power loss there shows it: a disk in memory does",
		[]string{"trouble", "recovery", "rest", "operations", "stuck", "lost-write", "stale-read", "split-version", "not-linearizable", "bank-total", "bank-symmetry", "lost-element", "G-single-realtime", "feed-gap"},
		[]string{"W1", "W3", "W4"}, []string{"power.one", "power.minority", "power.all"}, "S",
		"storagenode/engine TestCrashInRestore", 0, 0},
	{ShardNotFlushed, "shard-not-flushed", "storagenode/engine",
		"a shard's log is cut off behind a state that is not on disk",
		[]string{"trouble", "recovery", "rest", "operations", "stuck", "lost-write", "stale-read", "split-version", "not-linearizable", "bank-total", "bank-symmetry", "lost-element", "G-single-realtime"},
		[]string{"W3", "W4", "W5"}, []string{"kill.all", "raft.snapshot", "power.all"}, "SP",
		"storagenode/engine TestSnapshotMakesTheStateDurable", 0, 0},
	{OutboxNotFlushed, "outbox-not-flushed", "master/feed",
		"the masters' log is cut off behind events that are not on disk. Those that no sink has are in the snapshot too, so what is lost is what watchers could go back to",
		nil,
		nil, nil, "",
		"master/feed TestCrashLosesNothingBehindASnapshot", 0, 0},
	{ContinueAfterFsyncError, "continue-after-fsync-error", "internal/raftgroup",
		"a write of the log that failed is taken for done",
		[]string{"proof", "trouble", "state-differs", "lost-write", "stale-read", "split-version", "not-linearizable", "bank-total", "bank-symmetry", "lost-element", "G-single-realtime"},
		[]string{"W1", "W3", "W4"}, []string{"disk.error", "disk.full", "disk.readonly"}, "P",
		"internal/raftgroup TestFailedLogStoreLeaves", 0, 0},
	{LatchOff, "latch-off", "internal/raftgroup",
		"a replica whose log, vote or snapshot failed goes on",
		[]string{"proof", "trouble"},
		[]string{"W1", "W3"}, []string{"disk.error", "disk.full", "disk.readonly"}, "P",
		"internal/raftgroup TestLogStoreLatches", 0, 0},
	{StoreLatchOff, "store-latch-off", "internal/latchfs",
		"an outbox or a shard's store that failed is tried again for ever. A disk that fails is met by the log first, so its test alone sees it",
		nil,
		nil, nil, "",
		"internal/latchfs TestFirstFailureEndsTheStore", 0, 0},
	{WriteDeadlineOff, "write-deadline-off", "internal/raftgroup",
		"a disk that does not answer is waited for (in internal/latchfs too)",
		[]string{"proof", "recovery", "operations"},
		[]string{"W1", "W3"}, []string{"disk.frozen"}, "P",
		"internal/raftgroup TestHungLogStoreLeaves", 0, 0},
	{ChecksumOff, "checksum-off", "internal/raftgroup",
		"checksums of entries and of snapshots' chunks are not compared",
		[]string{"state-differs", "feed-differs", "garbage-read", "index-differs", "trouble", "proof"},
		[]string{"W1", "W3", "W5", "W6"}, []string{"corrupt.flip"}, "P",
		"internal/raftgroup TestInadmissibleEntries", 0, 0},
	{AckBeforeCommit, "ack-before-commit", "internal/raftgroup",
		"a leader counts every follower as having what was only sent to it",
		[]string{"lost-write", "stale-read", "split-version", "not-linearizable", "bank-total", "bank-symmetry", "lost-element", "G-single-realtime", "G1a", "decision", "two-leaders"},
		[]string{"W1", "W3", "W4"}, []string{"partition.leader", "partition.leader-all", "partition.leader-out", "partition.shard-leader", "kill.leader", "kill.shard-leader"}, "SP",
		"internal/raftgroup TestDeposedLeaderWithATailCatchesUp", 0, 0},
	{VoteInTwoWrites, "vote-in-two-writes", "internal/raftgroup",
		"the term of a vote is on disk before its candidate. It takes a crash between the two, and the candidate of the vote before, with an older log, to ask again in that term",
		nil,
		nil, nil, "",
		"internal/raftgroup TestVoteIsOneWrite", 0, 0},
	{HeartbeatsBesideTerm, "heartbeats-beside-term", "internal/raftgroup",
		"heartbeats of any term change the term beside raft's main loop. It takes one of a higher term between two instructions of that loop",
		nil,
		nil, nil, "",
		"internal/raftgroup TestDelayedHeartbeatOfAHigherTerm", 0, 0},
	{InFlightUncapped, "in-flight-uncapped", "internal/raftgroup",
		"a leader may have more entries uncommitted than TrailingLogs keeps. What goes wrong then is guarded a second time (snapshot-unjoined)",
		nil,
		nil, nil, "",
		"internal/raftgroup TestLeavingAndBackPressure", 0, 0},
	{SnapshotUnjoined, "snapshot-unjoined", "internal/raftgroup",
		"entries behind a snapshot are compared with the log alone. That the snapshot is sent for ever is guarded a second time (in-flight-uncapped)",
		nil,
		nil, nil, "",
		"internal/raftgroup TestFollowerComparesWithItsSnapshot", 0, 0},
	{Pipelined, "requests-pipelined", "internal/raftgroup",
		"128 requests with entries are on their way to a follower at once. raft wedges then when one is lost in a moment that no fault can choose",
		nil,
		nil, nil, "",
		"internal/raftgroup TestOneRequestIsInFlight", 0, 0},
	{DeletedEntriesFound, "deleted-entries-found", "internal/raftgroup",
		"entries that were deleted from the front of the log are read from files that are still there. As a rule they were committed, so that what is read is true",
		nil,
		nil, nil, "",
		"internal/raftgroup TestLogStoreRefusesAndForgets", 0, 0},
	{ReadOnState, "read-on-state", "internal/raftgroup",
		"who believes to lead serves reads without asking (who is cut off stops believing it before others elect; who is stopped does not)",
		[]string{"stale-read", "not-linearizable", "G-single-realtime", "G2-item-realtime", "long-fork"},
		[]string{"W1"}, []string{"pause.leader"}, "P",
		"internal/raftgroup TestReadWithoutAQuorum", time.Second, 60},
	{ReadByEarlierAnswers, "read-by-earlier-answers", "internal/raftgroup",
		"answers to requests that were sent before a read began confirm it. It takes an answer that is on its way while the leader stands still, a read that is sent when others have written since, and that the read is heard first",
		nil,
		nil, nil, "",
		"internal/raftgroup TestPausedLeaderServesNoRead", 0, 0},
	{WallClockLease, "wall-clock-lease", "internal/raftgroup",
		"a leader serves reads without asking, by its wall clock for as long as no other can be elected",
		[]string{"stale-read", "not-linearizable", "G-single-realtime", "G2-item-realtime"},
		[]string{"W1"}, []string{"clock.strobe"}, "P",
		"internal/raftgroup TestClockServesNoRead", 0, 60},
	{FollowerServesLinearizable, "follower-serves-linearizable", "master",
		"every master serves linearizable reads from what it has applied",
		[]string{"stale-read", "not-linearizable", "G-single-realtime", "G2-item-realtime"},
		[]string{"W1"}, []string{"partition.leader", "partition.ring", "net.delay", "pause.random"}, "SP",
		"master TestCutOffFollower", 0, 0},
	{DoubleApply, "double-apply", "fsm",
		"the masters do a command that is sent again a second time",
		[]string{"duplicate-id", "split-version", "two-owners", "not-linearizable", "lost-write"},
		[]string{"W1", "W2"}, []string{"net.loss", "kill.leader", "partition.leader-out"}, "SP",
		"fsm TestData", 0, 0},
	{DoubleWrite, "double-write", "storagenode/engine",
		"a shard does a write that is sent again a second time",
		[]string{"bank-total", "bank-symmetry", "duplicate-id", "duplicate-element", "not-linearizable"},
		[]string{"W3", "W4", "W9"}, []string{"net.loss", "kill.shard-leader", "partition.shard-leader"}, "SP",
		"storagenode/engine TestRetriedWrite", 0, 0},
	{RequestTableNotInSnapshot, "request-table-not-in-snapshot", "fsm",
		"a state that was restored does not know what was done",
		[]string{"state-differs", "trouble", "duplicate-id", "not-linearizable", "two-owners"},
		[]string{"W1", "W2"}, []string{"kill.masters", "kill.rolling", "raft.snapshot", "raft.member"}, "SP",
		"fsm TestData", 0, 0},
	{ImpureApply, "impure-apply", "master",
		"Apply reads the clock of each master",
		[]string{"state-differs", "feed-differs", "trouble"},
		[]string{"W1", "W6"}, []string{"net.delay"}, "SP",
		"master TestAnyMasterAnswers", 0, 0},
	{NoLockBetweenPrepareAndCommit, "no-lock-between-prepare-and-commit", "storagenode/engine",
		"a prepared attempt holds no locks",
		[]string{"bank-total", "bank-negative", "bank-symmetry", "lost-update", "G0", "G1c", "G-single", "G2-item", "G-single-realtime", "G2-item-realtime", "incompatible-order", "not-linearizable", "internal"},
		[]string{"W3", "W4"}, []string{"net.delay", "kill.leader"}, "SP",
		"storagenode/engine TestLocksRefuseWritesAndPrepares", 0, 0},
	{SharedLocksOff, "shared-locks-off", "storagenode/lock",
		"what a transaction has read may be written before it commits",
		[]string{"G2-item", "G-single", "lost-update", "G2-item-realtime", "G-single-realtime", "long-fork"},
		[]string{"W4", "W9"}, []string{"net.delay"}, "SP",
		"storagenode/lock TestSharedRows", 0, 0},
	{ExclusiveLocksShared, "exclusive-locks-shared", "storagenode/lock",
		"two transactions may write one row",
		[]string{"G0", "lost-update", "bank-total", "bank-symmetry", "bank-negative", "incompatible-order", "internal", "not-linearizable"},
		[]string{"W3", "W4"}, []string{"net.delay"}, "SP",
		"storagenode/lock TestReplace", 0, 0},
	{WaitDieOff, "wait-die-off", "storagenode",
		"the younger of two transactions waits. No wait for a row lasts longer than 50 ms, so this costs time and breaks nothing",
		nil,
		nil, nil, "",
		"storagenode TestWaitDie", 0, 0},
	{DecisionNotLogged, "decision-not-logged", "master/txn",
		"a coordinator commits without asking the masters' log",
		[]string{"decision", "feed-gap", "lost-write", "bank-total", "bank-symmetry", "half-edge", "G1a", "G1b", "G-single", "internal"},
		[]string{"W3", "W4", "W6"}, []string{"kill.leader", "kill.random", "partition.coordinator"}, "SP",
		"master/txn TestCoordinatorCrashesAnywhere", 0, 0},
	{ParticipantAbortsPrepared, "participant-aborts-prepared", "storagenode",
		"a shard aborts what it has held prepared for 2 s, whatever was decided",
		[]string{"lost-write", "not-linearizable", "bank-total", "bank-symmetry", "half-edge", "G1a", "G1b", "G-single", "decision", "internal"},
		[]string{"W3", "W4", "W5"}, []string{"txn.finish.send:delay=3s"}, "SP",
		"storagenode TestInDoubtIsResolvedByInquiry", 3 * time.Second, 0},
	{InDoubtNeverResolved, "in-doubt-never-resolved", "storagenode",
		"a shard never asks how an attempt ended",
		[]string{"rest", "stuck", "recovery", "operations"},
		[]string{"W3", "W4", "W5"}, []string{"kill.leader", "kill.random", "kill.masters"}, "SP",
		"storagenode TestInDoubtIsResolvedByInquiry", 0, 0},
	{OneShardCommitsLate, "one-shard-commits-late", "storagenode",
		"reads do not wait for what is prepared, so they see one shard's half of a transaction before the other's",
		[]string{"long-fork", "half-edge", "sequential", "bank-total", "bank-symmetry", "stale-read", "not-linearizable", "G-single-realtime", "G2-item-realtime"},
		[]string{"W4"}, []string{"shard.finish.before:hang"}, "SP",
		"storagenode TestReadsWaitForPreparedRows", 0, 0},
	{OutboxNotInSnapshot, "outbox-not-in-snapshot", "master",
		"a master that is sent a state does not get the events that were not shipped",
		[]string{"feed-gap", "rest", "stuck", "trouble"},
		[]string{"W6"}, []string{"partition.shipper/raft.snapshot", "partition.shipper/raft.member", "partition.shipper/kill.leader"}, "SP",
		"master TestSnapshotBringsAMasterBack", 0, 0},
	{OutboxTrimmedBeforeAck, "outbox-trimmed-before-ack", "master/feed",
		"events are removed from the outbox before every sink has them",
		[]string{"feed-gap", "rest", "stuck", "trouble"},
		[]string{"W6", "W7"}, []string{"sink.down", "partition.shipper"}, "SP",
		"master/feed TestTrimKeepsTheNewest", 0, 0},
	{ReshipWithoutIdempotency, "reship-without-idempotency", "master/feed",
		"an event that is sent to a sink again is there twice",
		[]string{"feed-gap", "feed-differs"},
		[]string{"W6"}, []string{"sink.down", "partition.shipper", "net.loss"}, "SP",
		"master/feed TestSinkFaults", 0, 0},
	{WatchResumesOffByOne, "watch-resumes-off-by-one", "master",
		"a watch begins one event behind where it was told to",
		[]string{"watch"},
		[]string{"W7"}, []string{"partition.leader", "kill.leader", "kill.random"}, "SP",
		"master TestWatchBeginsWhereItIsTold", 0, 0},
	{EpochNotChecked, "epoch-not-checked", "storagenode",
		"a node takes an older shard map for a newer one (and a master sends one)",
		[]string{"stale-read", "watch"},
		[]string{"W8"}, []string{"partition.leader/raft.replace"}, "SP",
		"storagenode TestMapCacheTakesOnlyWhatIsNewer", 0, 0},
}
