package event

// Body is one event's own fields, a struct of this package as a value; its exported fields are its wire form, an array by
// position. Two more tags say how a field looks in JSON: `form:"time"` (int64 µs as RFC 3339), `form:"id"` (a number as a
// string), and `json:"name"` where the wire name is taken by the envelope.
type Body interface{ Type() Type }

// Load is an agent's reading of its machine.
type Load struct {
	CPU      float64 `wire:"cpu" json:"cpu"`             // share of all cores, 0 to 1
	MemoryMB uint64  `wire:"memory_mb" json:"memory_mb"` // used, MiB
	DiskMB   uint64  `wire:"disk_mb" json:"disk_mb"`     // used, MiB
}

// AgentRegistered: an agent appeared, or renewed its record.
type AgentRegistered struct {
	AgentID         AgentID           `wire:"agent_id"`
	Hostname        string            `wire:"hostname"`
	Platform        string            `wire:"platform"`
	AgentEndpoint   string            `wire:"agent_endpoint"`
	MaxStorageNodes uint32            `wire:"max_storage_nodes"`
	Version         string            `wire:"version"`
	Zone            string            `wire:"zone"`
	Labels          map[string]string `wire:"labels"`
	StoreID         string            `wire:"store_id"` // of the agent's data directory; empty when registered over HTTP
}

// AgentHeartbeat changes local state only.
type AgentHeartbeat struct {
	AgentID          AgentID      `wire:"agent_id"`
	StorageNodeCount uint32       `wire:"storage_node_count"`
	Load             Load         `wire:"load"`
	Nodes            []NodeReport `wire:"nodes"` // what runs there now
}

// NodeReport is one node's state as its agent sees it.
type NodeReport struct {
	NodeID       NodeID `wire:"node_id"`
	Status       string `wire:"status"` // running, starting, crashed, stopped
	PID          uint32 `wire:"pid"`
	Endpoint     string `wire:"endpoint"`
	RestartCount uint32 `wire:"restart_count"`
}

// AgentDegraded: 15 s without a heartbeat.
type AgentDegraded struct {
	AgentID               AgentID `wire:"agent_id"`
	SecondsSinceHeartbeat float64 `wire:"seconds_since_heartbeat"`
}

// AgentOffline: 30 s without a heartbeat.
type AgentOffline struct {
	AgentID  AgentID `wire:"agent_id"`
	LastSeen int64   `wire:"last_seen" form:"time"` // unix µs of the last heartbeat
}

// AgentRecovered: a heartbeat after degraded or offline.
type AgentRecovered struct {
	AgentID         AgentID `wire:"agent_id"`
	DowntimeSeconds float64 `wire:"downtime_seconds"`
}

// AgentUnregistered: the agent left for good.
type AgentUnregistered struct {
	AgentID AgentID `wire:"agent_id"`
	Reason  string  `wire:"reason"`
}

// SpawnRequested puts a node into an agent's desired set.
type SpawnRequested struct {
	NodeID        NodeID    `wire:"node_id"`
	AgentID       AgentID   `wire:"agent_id"`
	Port          uint32    `wire:"port"` // 0: the agent chooses
	StoragePath   string    `wire:"storage_path"`
	MemoryLimitMB uint64    `wire:"memory_limit_mb"`
	Shards        []ShardID `wire:"shards"`
}

// SpawnSucceeded: the node listens.
type SpawnSucceeded struct {
	NodeID   NodeID  `wire:"node_id"`
	AgentID  AgentID `wire:"agent_id"`
	PID      uint32  `wire:"pid"`
	Port     uint32  `wire:"port"`
	Endpoint string  `wire:"endpoint"`
	StoreID  string  `wire:"store_id"` // of the node's data directory
	Start    uint64  `wire:"start"`    // the agent's start counter of this node (safety S29)
}

// SpawnFailed: the node could not be started; the agent goes on trying.
type SpawnFailed struct {
	NodeID  NodeID  `wire:"node_id"`
	AgentID AgentID `wire:"agent_id"`
	Error   string  `wire:"error"`
}

// StopRequested takes a node out of an agent's desired set.
type StopRequested struct {
	NodeID  NodeID  `wire:"node_id"`
	AgentID AgentID `wire:"agent_id"`
}

// StopSucceeded: the node's process is gone, on request.
type StopSucceeded struct {
	NodeID  NodeID  `wire:"node_id"`
	AgentID AgentID `wire:"agent_id"`
}

// StopFailed: the node did not stop.
type StopFailed struct {
	NodeID  NodeID  `wire:"node_id"`
	AgentID AgentID `wire:"agent_id"`
	Error   string  `wire:"error"`
}

// NodeCrashed: the node's process ended without being asked to.
type NodeCrashed struct {
	NodeID     NodeID  `wire:"node_id"`
	AgentID    AgentID `wire:"agent_id"`
	ExitCode   *int32  `wire:"exit_code"` // nil: unknown, or ended by a signal
	Signal     string  `wire:"signal"`
	OOM        bool    `wire:"oom"`
	StderrTail string  `wire:"stderr_tail"` // at most 4 KiB
	Start      uint64  `wire:"start"`
}

// NodeRestarted: the node listens again after a crash.
type NodeRestarted struct {
	NodeID       NodeID  `wire:"node_id"`
	AgentID      AgentID `wire:"agent_id"`
	RestartCount uint32  `wire:"restart_count"`
	NewPID       uint32  `wire:"new_pid"`
	Port         uint32  `wire:"port"`
	Endpoint     string  `wire:"endpoint"`
	Start        uint64  `wire:"start"`
}

// ClusterHealthy: derived, recorded when the level changes.
type ClusterHealthy struct {
	TotalAgents   uint32 `wire:"total_agents"`
	HealthyAgents uint32 `wire:"healthy_agents"`
	TotalNodes    uint32 `wire:"total_nodes"`
	RunningNodes  uint32 `wire:"running_nodes"`
}

// ClusterDegraded: derived, recorded when the level changes.
type ClusterDegraded struct {
	TotalAgents   uint32 `wire:"total_agents"`
	HealthyAgents uint32 `wire:"healthy_agents"`
	Reason        string `wire:"reason"`
}

// ClusterCritical: derived, recorded when the level changes.
type ClusterCritical struct {
	TotalAgents   uint32 `wire:"total_agents"`
	HealthyAgents uint32 `wire:"healthy_agents"`
	Reason        string `wire:"reason"`
}

// ShardMapCreated fixes strategy and base count; the shards follow as ShardCreated.
type ShardMapCreated struct {
	Strategy   string   `wire:"strategy"` // hash
	Shards     uint32   `wire:"shards"`   // 1 to 1,023
	Replicas   uint32   `wire:"replicas"` // 1, 3 or 5
	Boundaries []string `wire:"boundaries"`
}

// Voter is one first voter of a replica group.
type Voter struct {
	ReplicaID ReplicaID `wire:"replica_id"`
	NodeID    NodeID    `wire:"node_id"`
}

// ShardCreated creates one replica group, state forming, with its fixed first voters (safety S15).
type ShardCreated struct {
	ShardID ShardID `wire:"shard_id"`
	Voters  []Voter `wire:"voters"`
}

// ShardFormed: the group's first leader reported; from now on an empty replica can only join as a learner.
type ShardFormed struct {
	ShardID ShardID `wire:"shard_id"`
	Term    uint64  `wire:"term"`
}

// ShardLeaderChanged: a new leader of the group reported itself.
type ShardLeaderChanged struct {
	ShardID ShardID `wire:"shard_id"`
	NodeID  NodeID  `wire:"node_id"`
	Term    uint64  `wire:"term"`
}

// ShardQuorumLost: fewer live voters than a majority.
type ShardQuorumLost struct {
	ShardID ShardID `wire:"shard_id"`
	Live    uint32  `wire:"live"`
	Needed  uint32  `wire:"needed"`
}

// ShardQuorumRestored: a majority of the voters is live again.
type ShardQuorumRestored struct {
	ShardID ShardID `wire:"shard_id"`
	Live    uint32  `wire:"live"`
	Needed  uint32  `wire:"needed"`
}

// Position is a place in a grid's history: incarnation number and seq. It orders lexicographically.
type Position struct {
	N   uint64 `wire:"n"`
	Seq uint64 `wire:"seq"`
}

// TxnCommitted is the commit point of a multi-shard transaction.
type TxnCommitted struct {
	TxnID       TxnID     `wire:"txn_id"`
	Attempt     uint64    `wire:"attempt" form:"id"`
	Begin       Position  `wire:"begin"`
	Issued      int64     `wire:"issued" form:"time"` // unix µs
	Shards      []ShardID `wire:"shards"`
	OpCount     uint32    `wire:"op_count"`
	Coordinator MasterID  `wire:"coordinator"`
}

// TxnAborted ends one attempt, or, when Final, every attempt of the transaction.
type TxnAborted struct {
	TxnID   TxnID     `wire:"txn_id"`
	Attempt uint64    `wire:"attempt" form:"id"`
	Final   bool      `wire:"final"`
	Shards  []ShardID `wire:"shards"`
	Reason  string    `wire:"reason"`
	Begin   Position  `wire:"begin"`
}

// TxnCompleted drops the records of transactions that every participant has finished and raises the horizon (safety S4).
type TxnCompleted struct {
	TxnIDs  []TxnID  `wire:"txn_ids"` // up to 1,000
	Horizon Position `wire:"horizon"`
}

// MasterJoined: a master is part of the configuration.
type MasterJoined struct {
	MasterID  MasterID  `wire:"master_id"`
	Address   string    `wire:"address"`  // raft
	Suffrage  string    `wire:"suffrage"` // voter or nonvoter
	HTTP      string    `wire:"http"`
	Grid      string    `wire:"grid"`
	Level     uint32    `wire:"level"`
	ReplicaID ReplicaID `wire:"replica_id"`
}

// MasterLeft: a master was removed from the configuration.
type MasterLeft struct {
	MasterID MasterID `wire:"master_id"`
}

// ReplicaReaddressed: a replica listens elsewhere now. It is the same replica, known by its id.
type ReplicaReaddressed struct {
	ShardID    ShardID   `wire:"shard_id"` // MastersGroup for a master
	ReplicaID  ReplicaID `wire:"replica_id"`
	OldAddress string    `wire:"old_address"` // raft
	Address    string    `wire:"address"`     // raft
	HTTP       string    `wire:"http"`        // of a master
	Grid       string    `wire:"grid"`        // of a master
}

// LeaderElected is a new leader's first event in its term.
type LeaderElected struct {
	MasterID MasterID `wire:"master_id"`
	Term     uint64   `wire:"term"`
	Previous MasterID `wire:"previous"`
}

// MasterUnreachable: the leader has had no contact for 5 s.
type MasterUnreachable struct {
	MasterID    MasterID `wire:"master_id"`
	LastContact int64    `wire:"last_contact" form:"time"` // unix µs
}

// MasterRecovered: contact again.
type MasterRecovered struct {
	MasterID    MasterID `wire:"master_id"`
	LastContact int64    `wire:"last_contact" form:"time"` // unix µs
}

// IncarnationStarted is the first event of every history; the grid's very first has base seq 0.
type IncarnationStarted struct {
	GridID      string      `wire:"grid_id"`
	Incarnation Incarnation `wire:"incarnation"`
	BaseSeq     uint64      `wire:"base_seq"`
	BaseChain   [32]byte    `wire:"base_chain"`
	Reason      string      `wire:"reason"`
	Level       uint32      `wire:"level"`
}

// FeedAcked says how far a sink holds the feed durably; in the log, not in the feed.
type FeedAcked struct {
	Sink    string   `wire:"sink"`
	SinkID  string   `wire:"sink_id"`
	Through uint64   `wire:"through"`
	Chain   [32]byte `wire:"chain" json:"acked_chain"` // of event Through; "chain" is the envelope's
}

// SinkAdded names an event sink.
type SinkAdded struct {
	Sink    string `wire:"sink"`
	Address string `wire:"address"`
	Class   string `wire:"class" json:"sink_class"` // "grid" for the grid's own event storage, "extern" for others
}

// SinkRemoved forgets an event sink.
type SinkRemoved struct {
	Sink string `wire:"sink"`
}

// SettingChanged sets a replicated setting.
type SettingChanged struct {
	Key     string `wire:"key"`
	Value   string `wire:"value"`
	Version uint64 `wire:"version"` // the new version; must be the present one + 1, 0 means "whatever it is"
}

// AssociationTypeAdded gives a number to an association type's name; numbers are given from 1,000 up.
type AssociationTypeAdded struct {
	Name   string `wire:"name"`
	Number uint32 `wire:"number"` // 0 in a proposal: the state machine gives the next
}
