package raftgroup

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Bounds that hold for every group.
const (
	// MaxEntryBytes bounds an encoded entry. raft-wal stores entries over 64 MiB and cannot read them back; half of that
	// leaves room for its own framing and for mistakes (safety S23).
	MaxEntryBytes = 32 << 20
	// MaxCommandBytes bounds one command, so that it fits an entry together with the entry's own fields.
	MaxCommandBytes = MaxEntryBytes - 1<<10

	// maxBatchCommands and maxBatchBytes close an entry that gathers waiting commands.
	maxBatchCommands = 1024
	maxBatchBytes    = 1 << 20

	// maxInFlight is how many entries of this leader may be uncommitted. A few overlap a follower's fsync with the next
	// entry's way there; with more, entries get smaller and not sooner committed.
	maxInFlight = 8
	// maxOutstanding bounds the uncommitted tail a deposed leader can hold in one term: its entries in flight, the no-op,
	// the barrier, and one configuration.
	maxOutstanding = maxInFlight + 3
	// MinTrailingLogs is the least Config.TrailingLogs may be.
	MinTrailingLogs = maxOutstanding + 1

	// queueBytes bounds the commands that wait or are in flight; each counts at least queueItem. Beyond it Propose blocks.
	queueBytes = 64 << 20
	queueItem  = 4 << 10

	// telemetryDelay is how long ProposeTelemetry may wait for a command to share its entry with.
	telemetryDelay = 100 * time.Millisecond

	// writeDeadline bounds one write to the log, the term or the vote. A leader with a hung disk stays leader, because its
	// heartbeats do not touch the disk; so it has to leave by itself.
	writeDeadline = 2 * time.Second

	// snapshotDeadline bounds one step of writing a snapshot. The last one makes all of it durable: two minutes are some
	// GiB on a slow disk, and nobody waits for them but the next snapshot.
	snapshotDeadline = 2 * time.Minute

	// slowApply is when Apply is reported: raft's main loop waits behind it.
	slowApply = 100 * time.Millisecond

	// manyRestores is how often in a row the leader may send a snapshot, with nothing applied in between, before that is
	// reported: the follower does not get anywhere.
	manyRestores = 2

	// stalledAfter is how long a follower may answer heartbeats without taking any of the entries that are there for it
	// before that is reported: longer than it takes to try an append again with another connection, and than any of the
	// disk's deadlines.
	stalledAfter = 5 * time.Second

	// snapshotsKept: the newest, and the one before it should the newest prove unreadable.
	snapshotsKept = 2

	// snapshotInterval is how often the threshold is looked at, unless Timeouts says otherwise (raft adds up to as much again at random).
	snapshotInterval = 15 * time.Second
)

// Timeouts is a preset of raft's clocks and batch sizes. Start from LANMasters, LANShards or WAN.
type Timeouts struct {
	Heartbeat        time.Duration // a follower without contact for this long, to twice as long, stands for election
	Election         time.Duration // a candidate waits this long, to twice as long, for votes; at least Heartbeat
	Lease            time.Duration // a leader without a quorum's contact for this long steps down; at most Heartbeat
	Commit           time.Duration // an idle leader tells its followers the commit index this often
	RPC              time.Duration // deadline of one request between replicas; a snapshot gets more by its size
	Snapshot         time.Duration // the snapshot threshold is looked at this often; 0 is 15 s
	MaxAppendEntries int           // entries in one request; count × typical size stays below 64 MiB
}

// LANMasters is the preset for masters within a data centre. 200 ms: fail-over waits for the later of two randomised
// timeouts, p50 376 ms and at most 548 ms; smaller ones lose elections to a garbage collection or an fsync. An entry of
// the masters holds up to 1 MiB but typically a few KiB, so 64 of them stay far below 64 MiB. Commit is 50 ms because
// agents are served from followers' states.
func LANMasters() Timeouts {
	return Timeouts{
		Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, Lease: 200 * time.Millisecond,
		Commit: 50 * time.Millisecond, RPC: 3 * time.Second, MaxAppendEntries: 64,
	}
}

// LANShards is the preset for shard groups within a data centre. 300 ms, since a node holds many groups, whose fsyncs and
// compactions compete. An entry holds up to 1 MiB of writes, rarely a single command of up to 32 MiB: 16 of the usual
// ones are 16 MiB. Commit is 100 ms: nobody but a stale reader waits for an idle group's followers, and each one costs
// every idle group a request.
func LANShards() Timeouts {
	return Timeouts{
		Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 300 * time.Millisecond,
		Commit: 100 * time.Millisecond, RPC: 3 * time.Second, MaxAppendEntries: 16,
	}
}

// WAN is the preset for replicas up to about 150 ms apart.
func WAN() Timeouts {
	return Timeouts{
		Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: 1500 * time.Millisecond,
		Commit: 250 * time.Millisecond, RPC: 10 * time.Second, MaxAppendEntries: 64,
	}
}

// LogStore says what a replica's log is kept in. It is decided when the stores are made.
type LogStore string

// The log stores. WAL commits twice as many entries per second; BoltDB is the older code, should WAL prove unsound.
const (
	WAL    LogStore = "wal"    // hashicorp/raft-wal
	BoltDB LogStore = "boltdb" // hashicorp/raft-boltdb
)

// Known refuses what is not a log store. "" is no choice, which is right everywhere.
func (k LogStore) Known() error {
	if k == "" || k == WAL || k == BoltDB {
		return nil
	}
	return fmt.Errorf("log store %q; want %s or %s", string(k), WAL, BoltDB)
}

// orWAL is the default.
func (k LogStore) orWAL() LogStore {
	if k == "" {
		return WAL
	}
	return k
}

// Config describes one replica of one group.
type Config struct {
	GroupID string            // "masters" or a shard's id
	LocalID event.ReplicaID   // this replica's raft id
	Dir     string            // made by Create
	Host    *Host             // takes the group's incoming connections
	Network transport.Network // opens the outgoing ones
	TLS     *tls.Config       // of outgoing connections; nil is plain

	// Addresses tells where a replica listens now, as "host:port". It is called often and must not block.
	Addresses func(event.ReplicaID) (string, error)

	Timeouts Timeouts
	FSM      FSM

	// Lead runs while this replica leads, once per term, after the term's barrier has been applied. Its context ends, with
	// a cause, when the term does; the group awaits its return before it runs Lead again, and in Close. It may run before
	// Open has returned, as Apply may. Optional.
	Lead func(ctx context.Context, term uint64)

	Level   func() uint32 // the level that new entries record (safety S13); nil is level 1
	Applied func() uint64 // the last entry the FSM holds durably, asked once by Open; nil: the FSM keeps nothing on disk

	SnapshotThreshold uint64   // take a snapshot after so many entries
	TrailingLogs      uint64   // keep so many entries behind a snapshot, for followers that are a little late
	LogStore          LogStore // what the log must be kept in; "" is whatever Dir has it in, since Create decides
	SegmentBytes      int      // size of the log's files; 0 is 64 MiB, right for masters; shards, being many, want 16 MiB

	// Fatal is told, once, why this replica cannot go on: a store that failed or hung, a damaged entry or snapshot, an FSM
	// that stopped. The process must leave; the group serves nothing any more. Called from any goroutine, so it must
	// neither block nor call Close.
	Fatal func(error)

	Log *slog.Logger
	Now func() time.Time // the wall clock behind the leader's stamps; nil is time.Now

	under under // tests only
}

// validate reports everything that is wrong, each with its value and bound.
func (c *Config) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.GroupID == "", "GroupID is empty")
	refuse(c.LocalID == "", "LocalID is empty")
	refuse(c.Dir == "", "Dir is empty")
	refuse(c.Host == nil, "Host is nil")
	refuse(c.Network == nil, "Network is nil")
	refuse(c.Addresses == nil, "Addresses is nil")
	refuse(c.FSM == nil, "FSM is nil")
	refuse(c.Fatal == nil, "Fatal is nil")
	refuse(c.Log == nil, "Log is nil")
	refuse(c.SnapshotThreshold == 0, "SnapshotThreshold is 0, want at least 1")
	refuse(c.TrailingLogs < MinTrailingLogs, "TrailingLogs is %d, want more than the %d entries a deposed leader may hold uncommitted, or it may install snapshots for ever",
		c.TrailingLogs, maxOutstanding)
	refuse(c.SegmentBytes < 0, "SegmentBytes is %d, want at least 0", c.SegmentBytes)
	if err := c.LogStore.Known(); err != nil {
		errs = append(errs, err)
	}
	t := c.Timeouts
	refuse(t.Heartbeat < 5*time.Millisecond, "Timeouts.Heartbeat is %v, want at least 5ms", t.Heartbeat)
	refuse(t.Election < t.Heartbeat, "Timeouts.Election is %v, want at least Heartbeat, %v", t.Election, t.Heartbeat)
	refuse(t.Lease < 5*time.Millisecond || t.Lease > t.Heartbeat, "Timeouts.Lease is %v, want 5ms to Heartbeat, %v", t.Lease, t.Heartbeat)
	refuse(t.Commit < time.Millisecond, "Timeouts.Commit is %v, want at least 1ms", t.Commit)
	refuse(t.RPC < t.Heartbeat, "Timeouts.RPC is %v, want at least Heartbeat, %v", t.RPC, t.Heartbeat)
	refuse(t.MaxAppendEntries < 1 || t.MaxAppendEntries > 64, "Timeouts.MaxAppendEntries is %d, want 1 to 64", t.MaxAppendEntries)
	if len(errs) > 0 {
		return fmt.Errorf("configuration of group %s: %w", c.GroupID, errors.Join(errs...))
	}
	return nil
}

// withDefaults fills in the optional functions.
func (c Config) withDefaults() Config {
	if c.under.stalled == 0 {
		c.under.stalled = stalledAfter
	}
	if c.under.deadline == 0 {
		c.under.deadline = writeDeadline
	}
	if c.Level == nil {
		c.Level = func() uint32 { return 1 }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Lead == nil {
		c.Lead = func(ctx context.Context, _ uint64) { <-ctx.Done() }
	}
	return c
}

// raftConfig is the library's configuration. A replica that is removed becomes a silent follower instead of shutting raft
// down under its owner, who closes the group when it learns of the removal from the group's configuration.
func (c *Config) raftConfig(notify chan<- bool) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.LocalID)
	r.HeartbeatTimeout = c.Timeouts.Heartbeat
	r.ElectionTimeout = c.Timeouts.Election
	r.LeaderLeaseTimeout = c.Timeouts.Lease
	r.CommitTimeout = c.Timeouts.Commit
	r.MaxAppendEntries = c.Timeouts.MaxAppendEntries
	r.SnapshotInterval = cmp.Or(c.Timeouts.Snapshot, snapshotInterval)
	r.SnapshotThreshold = c.SnapshotThreshold
	r.TrailingLogs = c.TrailingLogs
	r.ShutdownOnRemove = false
	r.PreVoteDisabled = false
	r.BatchApplyCh = false // it would void the enqueue timeout, and with it "surely not done"
	r.NoLegacyTelemetry = true
	r.NotifyCh = notify
	r.Logger = newRaftLog(c.Log)
	return r
}
