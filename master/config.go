package master

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Config says who this master is and what it needs. Start from DefaultConfig.
type Config struct {
	ID        event.MasterID
	Dir       string // data directory
	Peers     Peers  // all masters, this one included
	Bootstrap bool   // an empty directory may form a new grid with the peers
	Join      bool   // an empty directory may join the grid that the peers belong to

	Shards    uint32 // of a new grid; what a grid has, it keeps
	Replicas  uint32 // per shard, 1, 3 or 5
	EventSink string // host:port of the first event sink of a new grid; empty: none yet

	ListenRaft string // defaults: this master's addresses in Peers
	ListenHTTP string
	ListenGrid string

	Network   transport.Network
	ServerTLS *tls.Config // nil: plain
	ClientTLS *tls.Config

	Limits Limits
	Raft   RaftConfig
	Log    *slog.Logger

	// Machine stands between the log and the state machine, for simulations of a broken one; nil: nothing does.
	Machine func(raftgroup.FSM) raftgroup.FSM
	// Point is called before and after each step of a transaction, by whoever takes it; nil: fault.Point.
	Point func(fault.Label)

	seams seams
}

// seams are what tests change.
type seams struct {
	fault    func(fault.Label) error // of formation; an error here stops the master as a crash would
	wall     func() time.Time        // this machine's clock
	supports uint32                  // the highest level of this version
	foundAt  uint32                  // the level of a new grid
}

// Limits are the clocks of a master.
type Limits struct {
	Degraded    time.Duration // an agent silent for this long is degraded
	Offline     time.Duration // and for this long offline
	Check       time.Duration // how often the leader looks at agents and masters
	Late        time.Duration // a look this much too late gives everybody a new period of grace (safety S17)
	Unreachable time.Duration // a master without contact for this long is unreachable
	Request     time.Duration // a request that names no deadline is held and worked on for this long
	KeepAlive   time.Duration // a stream carries a message at least this often
	Stall       time.Duration // a peer on the grid port that does not take what is written for this long is cut off, watchers included
	Drain       time.Duration // the longest a stop waits for the leadership to be handed over
	Slow        time.Duration // a request on the grid port that takes longer is logged; 0: none is
}

// RaftConfig tunes the masters' group.
type RaftConfig struct {
	Timeouts          raftgroup.Timeouts
	SnapshotThreshold uint64 // entries between snapshots
	TrailingLogs      uint64 // entries kept behind a snapshot
	SegmentBytes      int    // of the log

	LogStore raftgroup.LogStore // of a directory that is made now; one that exists must agree. "": wal, or what the directory has
}

// DefaultConfig is a master of a three-replica grid in one data centre, short of its identity, directory and peers.
func DefaultConfig() Config {
	return Config{
		Shards:   4,
		Replicas: 3,
		Network:  transport.TCP(),
		Limits: Limits{
			Degraded:    15 * time.Second, // one missed heartbeat of 10 s and a half: less flaps, more hides a dead machine
			Offline:     30 * time.Second,
			Check:       time.Second,
			Late:        2 * time.Second,
			Unreachable: 5 * time.Second,
			Request:     10 * time.Second, // several fail-overs; longer only piles up callers that have given up
			KeepAlive:   5 * time.Second,
			Stall:       30 * time.Second, // less cuts off who only pauses; more lets the dead hold memory
			Drain:       5 * time.Second,
			Slow:        time.Second,
		},
		Raft: RaftConfig{
			Timeouts:          raftgroup.LANMasters(),
			SnapshotThreshold: 65536, // a restart replays at most this much; smaller writes the whole state too often
			TrailingLogs:      32768, // a follower that was away for less catches up from the log
			SegmentBytes:      64 << 20,
		},
		Log: slog.Default(),
	}
}

// Validate reports all problems at once, with value and bound.
func (c *Config) Validate() error {
	faults := c.Peers.validate(c.Bootstrap)
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.ID != "", "id: empty; want the master's id in the list of peers")
	if c.ID != "" {
		_, listed := c.Peers.Find(c.ID)
		check(listed, "id: %s is not in the list of peers (%s)", c.ID, c.Peers)
	}
	check(!c.Bootstrap || !c.Join, "bootstrap, join: both given; want --bootstrap to form a new grid, or --join to become part of one")
	check(!c.Join || len(c.Peers) > 1, "peers: %s; want this master and at least one member of the grid it joins", c.Peers)
	check(c.Dir != "", "data: empty; want the data directory")
	check(c.Shards >= 1 && c.Shards <= shardmap.MaxShards, "shards: %d; want 1 to %d", c.Shards, shardmap.MaxShards)
	check(c.Replicas == 1 || c.Replicas == 3 || c.Replicas == 5, "replicas: %d; want 1, 3 or 5", c.Replicas)
	check(c.Raft.SnapshotThreshold >= 1, "snapshot threshold: 0 entries; want at least 1")
	check(c.Raft.TrailingLogs >= raftgroup.MinTrailingLogs, "trailing logs: %d entries; want at least %d", c.Raft.TrailingLogs, raftgroup.MinTrailingLogs)
	if c.EventSink != "" {
		_, _, err := net.SplitHostPort(c.EventSink)
		check(err == nil, "event-sink: %q; want host:port", c.EventSink)
	}
	err := c.Raft.LogStore.Known()
	check(err == nil, "log-store: %w", err)
	check(c.Network != nil, "network: none")
	check(c.Log != nil, "log: none")
	return errors.Join(append(faults, c.Limits.validate()...)...)
}

func (l *Limits) validate() []error {
	var faults []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"degraded", l.Degraded}, {"offline", l.Offline}, {"check", l.Check}, {"late", l.Late},
		{"unreachable", l.Unreachable}, {"request", l.Request}, {"keep-alive", l.KeepAlive}, {"stall", l.Stall}, {"drain", l.Drain},
	} {
		if d.value <= 0 {
			faults = append(faults, fmt.Errorf("limits.%s: %s; want more than 0", d.name, d.value))
		}
	}
	if l.Slow < 0 {
		faults = append(faults, fmt.Errorf("limits.slow: %s; want 0 or more", l.Slow))
	}
	if l.Offline <= l.Degraded {
		faults = append(faults, fmt.Errorf("limits.offline: %s; want more than limits.degraded (%s)", l.Offline, l.Degraded))
	}
	return faults
}

// withDefaults fills in the listening addresses.
func (c Config) withDefaults() Config {
	self, _ := c.Peers.Find(c.ID)
	for _, d := range []struct {
		field *string
		value string
	}{{&c.ListenRaft, self.Raft}, {&c.ListenHTTP, self.HTTP}, {&c.ListenGrid, self.Grid}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if c.seams.wall == nil {
		c.seams.wall = time.Now
	}
	if c.seams.supports == 0 {
		c.seams.supports = fsm.SupportedLevel
	}
	if c.seams.foundAt == 0 {
		c.seams.foundAt = c.seams.supports
	}
	if c.seams.fault == nil {
		c.seams.fault = fault.Err
	}
	return c
}

// machine is the state machine as the log meets it.
func (c *Config) machine(real raftgroup.FSM) raftgroup.FSM {
	if c.Machine == nil {
		return real
	}
	return c.Machine(real)
}
