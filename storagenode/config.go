package storagenode

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/embed"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The names of a node that runs alone. The masters number nodes from 1, so they never give these.
const (
	aloneNode   event.NodeID  = "node-0"
	aloneShard  event.ShardID = "shard-0"
	eventsNode  event.NodeID  = "node-events"
	eventsShard               = engine.EventsShard
)

// Config describes one node. Start from DefaultConfig.
type Config struct {
	Data   string // the node's directory
	Listen string // host:port for frames and raft alike; port 0: any free one
	Events bool   // alone: the one shard is "events"
	Grid   *Grid  // nil: alone

	Dimension  uint32 // of vectors, 1 to transport.MaxDimension
	CacheBytes int64  // the engines' block caches together
	TableBytes int64  // of one of an engine's four memtables; 0: 32 MiB alone, else 8 MiB

	// CatchUpBytesPerSecond is how fast the states that other nodes begin new replicas with leave this one, all together.
	CatchUpBytesPerSecond int64

	Network transport.Network
	TLS     *tls.Config // for every connection, accepted or dialled; nil is plain

	Embedding embed.Config // of a service; without a URL the built-in embedder. Dimension, Instance and Reports are the node's

	Groups Groups

	RequestTimeout time.Duration // of a request that brings none
	SlowRequest    time.Duration // one that takes longer is logged; 0: none is
	PrepareWait    time.Duration // how long a prepare waits for a row (safety S8)
	InDoubtAfter   time.Duration // how long a leader holds a prepared attempt before it asks the masters (safety S8)
	SpreadAfter    time.Duration // how long a shard is led, and calm, before its leader hands over to the preferred one

	Simulated

	Log *slog.Logger
}

// Simulated is what simulations put in the place of something real; what is nil, or 0, is the real thing.
type Simulated struct {
	Machine func(event.ShardID, raftgroup.FSM) raftgroup.FSM // stands between the logs and the state machines, a broken one for instance
	Point   func(fault.Label)                                // called before and after each step of a transaction, by its handler; nil: fault.Point
	Level   uint32                                           // of shards' logs that the node supports, as an older version does; 0: engine.Level
	Memory  func() uint64                                    // what the process has in memory, in bytes, for telemetry
}

// Grid says which grid a node belongs to and how to reach it.
type Grid struct {
	ID      string // pinned in IDENTITY; another grid's map is refused
	NodeID  event.NodeID
	AgentID event.AgentID
	Masters []string // grid ports, host:port
	Init    bool     // the node never ran: its directory may be made; otherwise a missing one is refused
}

// Groups tunes every replica group of the node alike.
type Groups struct {
	Timeouts          raftgroup.Timeouts
	SnapshotThreshold uint64 // entries between snapshots
	TrailingLogs      uint64 // entries kept behind a snapshot, so that a follower that was away needs no snapshot
	SegmentBytes      int    // the log's segment size

	LogStore raftgroup.LogStore // of replicas that are made from now on, "" is wal; the others keep theirs
}

// DefaultConfig is for a data centre. Data, Listen and, in a grid, Grid are the caller's.
func DefaultConfig() Config {
	return Config{
		Dimension:  768,
		CacheBytes: 256 << 20, // smaller: Apply reads the rows it changes from disk; larger: three nodes on one machine want it too
		// Half of a gigabit link, less than any disk of today reads: smaller, and large shards change places for hours;
		// larger, and clients of the same machine wait.
		CatchUpBytesPerSecond: 50 << 20,
		Network:               transport.TCP(),
		Embedding:             embed.DefaultConfig(),
		Groups: Groups{
			Timeouts: raftgroup.LANShards(),
			// A snapshot of a shard flushes the engine; every 16,384 entries that is seconds apart under load. Smaller
			// means flushes all the time, larger a longer replay at start.
			SnapshotThreshold: 16_384,
			TrailingLogs:      16_384,
			// A node holds several groups and each keeps a segment allocated: 64 MiB ones would cost a node with
			// four replicas 256 MiB of disk before the first write.
			SegmentBytes: 8 << 20,
		},
		RequestTimeout: 10 * time.Second,
		SlowRequest:    time.Second,
		PrepareWait:    50 * time.Millisecond,
		InDoubtAfter:   2 * time.Second,
		SpreadAfter:    10 * time.Second, // sooner, and a node that restarts leads before its caches are warm; later, and one node does the work of two
		Log:            slog.Default(),
	}
}

// Validate reports everything that is wrong, each with its value and bound.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.Data != "", "no data directory")
	check(c.Listen != "", "no address to listen on")
	check(c.Dimension >= 1 && c.Dimension <= transport.MaxDimension, "dimension %d: must be 1 to %d", c.Dimension, transport.MaxDimension)
	check(c.CacheBytes >= 1<<20, "cache of %d bytes: must be at least 1 MiB", c.CacheBytes)
	check(c.CatchUpBytesPerSecond >= 1<<20, "catch-up with %d bytes per second: must be at least 1 MiB", c.CatchUpBytesPerSecond)
	err := c.Groups.LogStore.Known()
	check(err == nil, "%w", err)
	check(c.Groups.SnapshotThreshold >= 1, "snapshot threshold of 0 entries: must be at least 1")
	check(c.Groups.TrailingLogs >= raftgroup.MinTrailingLogs, "%d trailing logs: must be at least %d", c.Groups.TrailingLogs, raftgroup.MinTrailingLogs)
	check(c.Network != nil, "no network")
	if c.Embedding.URL != "" {
		err := c.Embedding.Validate()
		check(err == nil, "%w", err)
	}
	check(c.Log != nil, "no log")
	check(c.RequestTimeout > 0, "request timeout %s: must be above 0", c.RequestTimeout)
	check(c.SlowRequest >= 0, "slow request %s: must not be negative", c.SlowRequest)
	check(c.PrepareWait >= 0, "prepare wait %s: must not be negative", c.PrepareWait)
	check(c.InDoubtAfter > 0, "in doubt after %s: must be above 0", c.InDoubtAfter)
	check(c.SpreadAfter > 0, "spread after %s: must be above 0", c.SpreadAfter)
	if g := c.Grid; g != nil {
		check(!c.Events, "a node of a grid cannot be a stand-alone event storage")
		check(g.ID != "", "no grid id")
		check(g.NodeID != "", "no node id")
		check(g.AgentID != "", "no agent id")
		check(len(g.Masters) > 0, "no masters")
	}
	return errors.Join(faults...)
}

// machine is the state machine that the log of a shard is given.
func (c *Config) machine(shard event.ShardID, real raftgroup.FSM) raftgroup.FSM {
	if c.Machine == nil {
		return real
	}
	return c.Machine(shard, real)
}

// point is what is called at the labelled steps of a transaction.
func (c *Config) point() func(fault.Label) {
	if c.Point == nil {
		return fault.Point
	}
	return c.Point
}

// level is the highest level of shards' logs that the node supports.
func (c *Config) level() uint32 {
	if c.Level == 0 {
		return engine.Level
	}
	return c.Level
}

// memory is what the process has in memory, in bytes.
func (c *Config) memory() uint64 {
	if c.Memory == nil {
		return residentBytes()
	}
	return c.Memory()
}

// nodeID is the node's own name.
func (c *Config) nodeID() event.NodeID {
	switch {
	case c.Grid != nil:
		return c.Grid.NodeID
	case c.Events:
		return eventsNode
	}
	return aloneNode
}

// tableBytes: a node that is alone has one store, and is written to as event storage without a pause.
func (c *Config) tableBytes() int64 {
	if c.TableBytes == 0 && c.Grid == nil {
		return maxTableBytes
	}
	return c.TableBytes
}

const maxTableBytes = 32 << 20

// aloneShardID is the one shard of a node without a grid.
func (c *Config) aloneShardID() event.ShardID {
	if c.Events {
		return eventsShard
	}
	return aloneShard
}
