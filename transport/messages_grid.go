package transport

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// The grid protocol, spoken on a master's grid port (7002). Any master answers; what needs the leader is forwarded.
type (
	// RegisterAgent adds or renews an agent's record; answered when committed.
	RegisterAgent struct {
		AgentID         event.AgentID     `wire:"agent_id"`
		Hostname        string            `wire:"hostname"`
		Platform        string            `wire:"platform"`
		AgentEndpoint   string            `wire:"agent_endpoint"`
		MaxStorageNodes uint32            `wire:"max_storage_nodes"`
		Version         string            `wire:"version"`
		Zone            string            `wire:"zone,optional"`
		Labels          map[string]string `wire:"labels,optional"`
		StoreID         string            `wire:"store_id,optional"`
		GridID          string            `wire:"grid_id,optional"` // pinned at the first registration; another one is refused
		RequestID       event.RequestID   `wire:"request_id,optional"`
		Issued          int64             `wire:"issued,optional"`
	}
	// RegisterAgentOk says which grid the agent now belongs to.
	RegisterAgentOk struct {
		GridID string `wire:"grid_id"`
		Seq    uint64 `wire:"seq"`
	}
	// Heartbeat reports an agent's state every 10 s; answered when committed. Unknown agents get KindUnknownAgent.
	Heartbeat struct {
		AgentID          event.AgentID      `wire:"agent_id"`
		StorageNodeCount uint32             `wire:"storage_node_count"`
		Load             event.Load         `wire:"load,optional"`
		Nodes            []event.NodeReport `wire:"nodes,optional"`
		Revision         uint64             `wire:"revision,optional"` // the assignment revision the agent has reached
	}
	// HeartbeatOk answers Heartbeat.
	HeartbeatOk struct {
		Seq uint64 `wire:"seq"`
	}
	// UnregisterAgent removes an agent that runs nothing.
	UnregisterAgent struct {
		AgentID   event.AgentID   `wire:"agent_id"`
		Reason    string          `wire:"reason,optional"`
		RequestID event.RequestID `wire:"request_id,optional"`
		Issued    int64           `wire:"issued,optional"`
	}
	// UnregisterAgentOk answers UnregisterAgent.
	UnregisterAgentOk struct {
		Seq uint64 `wire:"seq"`
	}
	// ListAgents is a linearizable read of all agents.
	ListAgents struct{ Reading }
	// ListAgentsOk is ordered by id.
	ListAgentsOk struct {
		Agents []AgentRecord  `wire:"agents"`
		Seq    uint64         `wire:"seq"`
		Epoch  event.Position `wire:"epoch"`
		Read
	}
	// GetAgent is a linearizable read of one agent.
	GetAgent struct {
		AgentID event.AgentID `wire:"agent_id"`
		Reading
	}
	// GetAgentOk answers GetAgent; an unknown id is an Error of kind not_found.
	GetAgentOk struct {
		Agent AgentRecord    `wire:"agent"`
		Seq   uint64         `wire:"seq"`
		Epoch event.Position `wire:"epoch"`
		Read
	}
	// AgentRecord is the JSON of GET /api/agents too.
	AgentRecord struct {
		AgentID             event.AgentID     `wire:"agent_id" json:"agent_id"`
		Hostname            string            `wire:"hostname" json:"hostname"`
		Platform            string            `wire:"platform" json:"platform"`
		AgentEndpoint       string            `wire:"agent_endpoint" json:"agent_endpoint"`
		Status              string            `wire:"status" json:"status"` // healthy, degraded or offline
		MaxStorageNodes     uint32            `wire:"max_storage_nodes" json:"max_storage_nodes"`
		CurrentStorageNodes uint32            `wire:"current_storage_nodes" json:"current_storage_nodes"`
		LastHeartbeat       int64             `wire:"last_heartbeat" json:"last_heartbeat"` // unix s
		Version             string            `wire:"version" json:"version"`
		Zone                string            `wire:"zone" json:"zone"`
		Labels              map[string]string `wire:"labels" json:"labels"`
		Load                event.Load        `wire:"load" json:"load"`
		StorageNodes        []NodeRecord      `wire:"storage_nodes" json:"storage_nodes"`
	}
	// NodeRecord is one storage node of an agent.
	NodeRecord struct {
		NodeID       event.NodeID    `wire:"node_id" json:"node_id"`
		AgentID      event.AgentID   `wire:"agent_id" json:"agent_id,omitempty"`
		Status       string          `wire:"status" json:"status"` // requested, running, crashed, stopping, stopped
		PID          uint32          `wire:"pid" json:"pid"`
		Endpoint     string          `wire:"endpoint" json:"endpoint"`
		Shards       []event.ShardID `wire:"shards" json:"shards"`
		RestartCount uint32          `wire:"restart_count" json:"restart_count"`
	}
	// ListNodes is a linearizable read of all storage nodes.
	ListNodes struct{ Reading }
	// ListNodesOk is ordered by id.
	ListNodesOk struct {
		Nodes []NodeRecord   `wire:"nodes"`
		Seq   uint64         `wire:"seq"`
		Epoch event.Position `wire:"epoch"`
		Read
	}
	// GetClusterStatus asks for the body of GET /api/health.
	GetClusterStatus struct{ Reading }
	// ClusterStatus is the answer; also the JSON of /api/health and `gridctl status`.
	ClusterStatus struct {
		Status              string         `wire:"status" json:"status"` // ok, no_leader or starting (this master)
		Level               string         `wire:"level" json:"level"`   // healthy, degraded or critical
		Reason              string         `wire:"reason" json:"reason,omitempty"`
		Leader              event.MasterID `wire:"leader" json:"leader"`
		GridID              string         `wire:"grid_id" json:"grid_id"`
		Masters             []Peer         `wire:"masters" json:"masters"`
		TotalAgents         uint32         `wire:"total_agents" json:"total_agents"`
		HealthyAgents       uint32         `wire:"healthy_agents" json:"healthy_agents"`
		TotalStorageNodes   uint32         `wire:"total_storage_nodes" json:"total_storage_nodes"`
		RunningStorageNodes uint32         `wire:"running_storage_nodes" json:"running_storage_nodes"`
		Shards              []ShardHealth  `wire:"shards" json:"shards"`
		FeedLagEvents       uint64         `wire:"feed_lag_events" json:"feed_lag_events"`
		EventSink           string         `wire:"event_sink" json:"event_sink,omitempty"` // address of the first sink
		Seq                 uint64         `wire:"seq" json:"seq"`
		Epoch               uint64         `wire:"epoch" json:"epoch"`
		ReadMode            string         `wire:"read_mode" json:"read_mode"`
		AgeMillis           uint64         `wire:"age_ms,optional" json:"age_ms,omitempty"` // as in Read
		Term                uint64         `wire:"term,optional" json:"term,omitempty"`     // as in Read
	}
	// ShardHealth is one shard in a ClusterStatus.
	ShardHealth struct {
		ShardID event.ShardID `wire:"shard_id" json:"shard_id"`
		State   string        `wire:"state" json:"state"`
		Leader  event.NodeID  `wire:"leader" json:"leader"`
		Live    uint32        `wire:"live" json:"live"`
		Want    uint32        `wire:"want" json:"want"`
	}
	// RaftPeers asks for the masters' raft configuration.
	RaftPeers struct {
		Hops uint32 `wire:"hops,optional"` // how often it was passed on
	}
	// RaftPeersOk is ordered by id.
	RaftPeersOk struct {
		Peers  []Peer `wire:"peers"`
		Halted string `wire:"halted,optional"` // why the leader takes no commands; empty: it does
	}
	// Peer is one master; MatchIndex is known to the leader only (a follower asks it).
	Peer struct {
		ID         event.MasterID  `wire:"id" json:"id"`
		Address    string          `wire:"address" json:"address"`
		Suffrage   string          `wire:"suffrage" json:"suffrage"`
		Leader     bool            `wire:"leader" json:"leader"`
		MatchIndex uint64          `wire:"match_index" json:"match_index"`
		ReplicaID  event.ReplicaID `wire:"replica_id,optional" json:"-"` // for people: a master that is being replaced has two
	}
	// GetShardMap is a linearizable read of the map.
	GetShardMap struct{ Reading }
	// ShardMapOk answers GetShardMap, and is each message of a WatchShardMap stream.
	ShardMapOk struct {
		Map         shardmap.Map      `wire:"map"`
		GridID      string            `wire:"grid_id"`
		Incarnation event.Incarnation `wire:"incarnation"`
		Horizon     event.Position    `wire:"horizon"` // transaction horizon
		Seq         uint64            `wire:"seq,optional"`
		Read
	}
	// WatchShardMap streams ShardMapOk: the present map at once if it is newer than Epoch, then each newer one (intermediate
	// ones may be skipped, the newest never is). A message at least every 5 s shows that the stream lives; no map is older than
	// Epoch. A map of a later incarnation is newer, whatever its seq. A master that is behind Epoch, or in an earlier
	// incarnation, answers KindUnavailable: ask another. Another Incarnation of the same number: KindOldIncarnation.
	WatchShardMap struct {
		Epoch       event.Position    `wire:"epoch"`
		Incarnation event.Incarnation `wire:"incarnation,optional"` // of Epoch; zero: not compared
	}
	// WatchAssignments streams Assignments to an agent, level-triggered; the first at once.
	WatchAssignments struct {
		AgentID event.AgentID `wire:"agent_id"`
	}
	// Assignments is the full desired set of an agent. A message at least every 5 s shows that the stream lives.
	Assignments struct {
		Revision uint64           `wire:"revision"` // seq of the last change that concerns this agent
		Nodes    []NodeAssignment `wire:"nodes"`
	}
	// NodeAssignment is one node the agent must run.
	NodeAssignment struct {
		NodeID        event.NodeID `wire:"node_id"`
		Port          uint32       `wire:"port"`
		StoragePath   string       `wire:"storage_path"`
		MemoryLimitMB uint64       `wire:"memory_limit_mb"`
		Init          bool         `wire:"init"` // the node never ran: its data directory may be created; otherwise a missing one is refused
	}
	// EmitEvents hands over an emitter's lifecycle events, numbered without gaps from First (safety S5).
	EmitEvents struct {
		Emitter string         `wire:"emitter"` // "<agent id>.<store id>"
		First   uint64         `wire:"first"`
		Events  []EmittedEvent `wire:"events"`
	}
	// EmittedEvent is one event's type and packed body (event.AppendBody).
	EmittedEvent struct {
		Type event.Type `wire:"type"`
		Body []byte     `wire:"body"`
	}
	// EmitEventsOk: every event up to Through is committed (or was refused for good and is counted in Refused).
	EmitEventsOk struct {
		Through uint64 `wire:"through"`
		Refused uint32 `wire:"refused"`
	}
	// EmitTelemetry hands over readings (class T) in their order. Each is put into the feed at most once: what may have been done is
	// not sent again. Below the level that has them, and from a master that does not know them, the answer is KindUnsupported.
	EmitTelemetry struct {
		Actor  string         `wire:"actor"`  // who took them
		Events []EmittedEvent `wire:"events"` // 1 to 256
		Hops   uint32         `wire:"hops,optional"`
	}
	// EmitTelemetryOk: the outcome of each event is one of three.
	EmitTelemetryOk struct {
		Taken   uint32 `wire:"taken"`           // in the feed, or dropped and counted by a leader whose outbox is nearly full
		Refused uint32 `wire:"refused"`         // for good
		Unknown uint32 `wire:"unknown"`         // nobody knows whether they are in the feed
		Reason  string `wire:"reason,optional"` // of the first that was refused
	}
	// Propose asks for one event; the state machine accepts or refuses it. Nodes report leadership with it.
	Propose struct {
		RequestID event.RequestID `wire:"request_id"` // zero for types that are idempotent by content
		Issued    int64           `wire:"issued"`
		Actor     string          `wire:"actor"`
		Type      event.Type      `wire:"type"`
		Body      []byte          `wire:"body"`
	}
	// ProposeOk answers Propose.
	ProposeOk struct {
		Seq   uint64         `wire:"seq"`
		Epoch event.Position `wire:"epoch"`
		Term  uint64         `wire:"term"`
		Value uint64         `wire:"value,optional"` // what the type gives back, for example a setting's new version
	}
	// Forward hands encoded commands of a follower to the leader; at most 3 hops.
	Forward struct {
		Commands [][]byte `wire:"commands"`
		Hops     uint32   `wire:"hops"`
	}
	// ForwardOk has one answer per command.
	ForwardOk struct {
		Answers []Answered `wire:"answers"`
		Term    uint64     `wire:"term"`
	}
	// Answered is a command's answer: accepted at Seq, or Error.
	Answered struct {
		Seq   uint64         `wire:"seq"`
		Error *event.Error   `wire:"error"`
		Value uint64         `wire:"value"`          // what the type gives back, for example an association type's number
		Epoch event.Position `wire:"epoch,optional"` // of the shard map behind the command
	}
	// ReadIndex asks the leader for a linearizable read index (safety S7); followers serve reads behind it.
	ReadIndex struct {
		Hops        uint32 `wire:"hops"`
		Unconfirmed bool   `wire:"unconfirmed,optional"` // what the leader has applied will do: a read of consistency leader
	}
	// ReadIndexOk answers ReadIndex.
	ReadIndexOk struct {
		Index uint64 `wire:"index"`
		Term  uint64 `wire:"term"`
	}
	// WatchEvents streams EventsOk: at once where the stream begins, then the events that the filter chooses, each once and in
	// order. At least every 5 s a message says how far the stream has come.
	//
	// A From that is not there yet is waited for, as any master may be a little behind. One that is older than what is kept:
	// KindTrimmed; a watcher that falls behind that: KindLagging. A watcher of an earlier incarnation, or of another one of the
	// same number: KindOldIncarnation; of a later one: KindUnavailable, as this master's is over (safety S2).
	WatchEvents struct {
		From        uint64            `wire:"from"`                 // seq, inclusive; 0: what is committed from now on, as this master knows it
		Incarnation event.Incarnation `wire:"incarnation,optional"` // of From; zero: whatever this master is in
		event.Filter
	}
	// ListEvents reads a page of the committed feed.
	ListEvents struct {
		From  uint64     `wire:"from"`
		To    uint64     `wire:"to,optional"`    // inclusive; 0: the end
		Limit uint32     `wire:"limit,optional"` // 0: 1,000; at most 10,000
		Type  event.Type `wire:"type,optional"`  // 0: all
		Reading
	}
	// EventsOk holds encoded envelopes in seq order; an empty one is a progress mark.
	EventsOk struct {
		Events [][]byte `wire:"events"`
		Last   uint64   `wire:"last"` // everything up to here has been sent or filtered: go on behind it
		Contract
		Incarnation event.Incarnation `wire:"incarnation,optional"` // of Last, in a stream
	}
	// TxnOutcome asks how a transaction ended; undecided ones are aborted first (safety S4).
	TxnOutcome struct {
		TxnID   event.TxnID     `wire:"txn_id"`
		Attempt uint64          `wire:"attempt"`
		Begin   event.Position  `wire:"begin"`
		Shards  []event.ShardID `wire:"shards"`
		Hops    uint32          `wire:"hops,optional"` // how often it was passed on
	}
	// TxnOutcomeOk: Committed is final.
	TxnOutcomeOk struct {
		Committed bool           `wire:"committed"`
		Seq       uint64         `wire:"seq"`
		Horizon   event.Position `wire:"horizon"`
	}
	// AssociationType asks for the number of an association type's name, which is given if it has none.
	AssociationType struct {
		Name string `wire:"name"`
	}
	// AssociationTypeOk answers AssociationType.
	AssociationTypeOk struct {
		Number uint32 `wire:"number"`
	}
	// AssociationTypes lists all names with numbers, the five of the Sutra protocol included.
	AssociationTypes struct{ Reading }
	// AssociationTypesOk is ordered by number.
	AssociationTypesOk struct {
		Names   []string `wire:"names"`
		Numbers []uint32 `wire:"numbers"`
		Contract
	}
	// MasterHello is how masters of one peer list find each other before there is a grid (safety S15).
	MasterHello struct {
		MasterID event.MasterID `wire:"master_id"`
		StoreID  string         `wire:"store_id"`
		Peers    string         `wire:"peers"` // canonical peer list; all must agree
	}
	// MasterHelloOk: Formed says that the answering master has state; Servers is then the first configuration.
	MasterHelloOk struct {
		MasterID    event.MasterID    `wire:"master_id"`
		StoreID     string            `wire:"store_id"`
		Peers       string            `wire:"peers"`
		Formed      bool              `wire:"formed"`
		GridID      string            `wire:"grid_id"`
		Incarnation event.Incarnation `wire:"incarnation"`
		Servers     []event.ReplicaID `wire:"servers"`
		Level       uint32            `wire:"level,optional"` // the highest that the answering master supports (safety S13)
		Raft        string            `wire:"raft,optional"`  // where the answering master listens, in its own words
		HTTP        string            `wire:"http,optional"`
		Grid        string            `wire:"grid,optional"`
	}
)
