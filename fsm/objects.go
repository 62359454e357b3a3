package fsm

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The statuses of an agent.
const (
	AgentHealthy  = "healthy"
	AgentDegraded = "degraded" // 15 s without a heartbeat
	AgentOffline  = "offline"  // 30 s without a heartbeat
)

// The statuses of a node.
const (
	NodeRequested = "requested" // it has never run
	NodeRunning   = "running"
	NodeCrashed   = "crashed" // its agent starts it again
	NodeStopping  = "stopping"
	NodeStopped   = "stopped"
)

// The levels of the cluster.
const (
	Healthy  = "healthy"
	Degraded = "degraded"
	Critical = "critical"
)

// Agent is a registered agent: history.
type Agent struct {
	ID              event.AgentID     `wire:"agent_id"`
	Hostname        string            `wire:"hostname"`
	Platform        string            `wire:"platform"`
	Endpoint        string            `wire:"endpoint"`
	MaxStorageNodes uint32            `wire:"max_storage_nodes"`
	Version         string            `wire:"version"`
	Zone            string            `wire:"zone"`
	Labels          map[string]string `wire:"labels"`
	StoreID         string            `wire:"store_id"` // of its data directory; empty: registered over HTTP only
	Status          string            `wire:"status"`
	Registered      uint64            `wire:"registered"` // seq of the last registration
	Changed         uint64            `wire:"changed"`    // seq of the last change of status
	LastSeen        int64             `wire:"last_seen"`  // unix µs; when it fell silent, for an agent that is not healthy
	Revision        uint64            `wire:"revision"`   // seq of the last change of its assignment
}

// Pulse is what an agent last reported: local.
type Pulse struct {
	AgentID event.AgentID      `wire:"agent_id"`
	Last    int64              `wire:"last"` // log time of the last heartbeat or registration, unix µs
	Nodes   uint32             `wire:"nodes"`
	Load    event.Load         `wire:"load"`
	Reports []event.NodeReport `wire:"reports"`
}

// Node is a storage node: history.
type Node struct {
	Number        uint64        `wire:"number"` // of its id; given once, never again
	ID            event.NodeID  `wire:"node_id"`
	AgentID       event.AgentID `wire:"agent_id"`
	Desired       bool          `wire:"desired"` // its agent shall run it
	Status        string        `wire:"status"`
	PID           uint32        `wire:"pid"`
	Endpoint      string        `wire:"endpoint"`
	Port          uint32        `wire:"port"` // as asked for; 0: the agent chooses
	StoragePath   string        `wire:"storage_path"`
	MemoryLimitMB uint64        `wire:"memory_limit_mb"`
	StoreID       string        `wire:"store_id"` // of its data directory; empty: it has never run
	Start         uint64        `wire:"start"`    // its agent's start counter, of the last report (safety S29)
	RestartCount  uint32        `wire:"restart_count"`
	Requested     uint64        `wire:"requested"` // seq of spawn_requested
	Changed       uint64        `wire:"changed"`   // seq of the last change of status
	LastError     string        `wire:"last_error"`
}

// Shard is a replica group: history. The routing form of it is shardmap.Shard.
type Shard struct {
	Number  uint64        `wire:"number"`
	ID      event.ShardID `wire:"shard_id"`
	State   string        `wire:"state"` // shardmap.Forming or Formed
	Leader  event.NodeID  `wire:"leader"`
	Term    uint64        `wire:"term"`
	Voters  []event.Voter `wire:"voters"`
	Created uint64        `wire:"created"` // seq
	Live    uint32        `wire:"live"`    // voters whose node runs and whose agent is not offline
	Lost    bool          `wire:"lost"`    // shard_quorum_lost is the last word
}

// Needed is how many live voters the group's quorum takes.
func (s *Shard) Needed() uint32 { return uint32(len(s.Voters)/2 + 1) }

// Master is a member of the masters' configuration: history.
type Master struct {
	ID          event.MasterID  `wire:"master_id"`
	Address     string          `wire:"address"` // raft
	Suffrage    string          `wire:"suffrage"`
	HTTP        string          `wire:"http"`
	Grid        string          `wire:"grid"`
	Level       uint32          `wire:"level"`
	ReplicaID   event.ReplicaID `wire:"replica_id"`
	Unreachable bool            `wire:"unreachable"`
	Changed     uint64          `wire:"changed"` // seq of the last change of reachability
}

// Sink is a receiver of the feed: history.
type Sink struct {
	Name    string `wire:"sink"`
	Address string `wire:"address"`
	Class   string `wire:"class"`
}

// Cursor is how far a sink holds the feed durably: local.
type Cursor struct {
	Sink    string      `wire:"sink"`
	SinkID  string      `wire:"sink_id"` // of the store behind the name; empty: it has not acknowledged anything
	Through uint64      `wire:"through"`
	Chain   event.Chain `wire:"chain"`
}

// Setting is a replicated setting: history.
type Setting struct {
	Key     string `wire:"key"`
	Value   string `wire:"value"`
	Version uint64 `wire:"version"` // counts the changes from 1
}

// AssociationType is a name with its number: history. The five of the Sutra protocol are not stored.
type AssociationType struct {
	Name   string `wire:"name"`
	Number uint32 `wire:"number"`
}

// Txn is what is decided about a multi-shard transaction: history. It is kept until the horizon has passed Begin.
type Txn struct {
	ID        event.TxnID     `wire:"txn_id"`
	Committed bool            `wire:"committed"` // under Attempt
	Final     bool            `wire:"final"`     // aborted for every attempt
	Attempt   uint64          `wire:"attempt"`
	Begin     event.Position  `wire:"begin"` // of the committed attempt; otherwise the latest of the aborted ones
	Issued    int64           `wire:"issued"`
	Seq       uint64          `wire:"seq"`  // of the last decision
	Time      int64           `wire:"time"` // of the last decision, unix µs
	Shards    []event.ShardID `wire:"shards"`
	Completed bool            `wire:"completed"` // every participant has finished what is decided so far
	Aborted   []Attempt       `wire:"aborted"`   // by order of decision; empty once it is committed or final
}

// Attempt is one attempt of a transaction that was aborted alone.
type Attempt struct {
	Attempt uint64         `wire:"attempt"`
	Begin   event.Position `wire:"begin"`
	Seq     uint64         `wire:"seq"`
}

// Emitter is how far an agent's own numbering of events has been taken: local.
type Emitter struct {
	AgentID event.AgentID `wire:"agent_id"`
	StoreID string        `wire:"store_id"` // the numbering is that of this data directory
	Through uint64        `wire:"through"`
}

// Cluster is the grid's level as last recorded, with what it is counted from.
type Cluster struct {
	Level         string // Healthy, Degraded, Critical; empty before the first event
	Reason        string
	Since         uint64 // seq of the event that set the level
	TotalAgents   uint32
	HealthyAgents uint32
	TotalNodes    uint32 // desired
	RunningNodes  uint32 // desired and running
}

// Outbox is what of the feed some sink does not hold yet.
type Outbox struct {
	Events uint64
	Bytes  uint64 // to within 1,024 events
	Quota  uint64 // bytes
	Full   bool   // 80 % of the quota was reached, and it is not yet back under 75 %
}

// Outcome is what the masters know about one attempt of a transaction, or (TxnEnd) about all.
type Outcome struct {
	Decided   bool
	Committed bool   // this attempt
	Seq       uint64 // of the decision; 0: it follows from the horizon
	Other     uint64 // the attempt that is committed, when it is not this one; 0: none
	Final     bool   // no attempt can be committed any more
}
