package fsm

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// SupportedLevel is the highest level (safety S13) of which this binary knows all rules. Level 2 brought state_checked,
// clock_skew and replica_readdressed, and the last check into the history; level 3 brought feed_rewound; level 4 brought
// replica_assigned, replica_promoted and replica_removed, and the members of shards that have changed, and the readings of nodes and masters.
const SupportedLevel = 4

// The sections of a state.
const (
	secHead section = iota + 1
	secAgents
	secNodes
	secShards
	secTxns
	secMasters
	secSettings
	secTypes
	secSinks
	secMark
	secPulses
	secRequests
	secEmitters
	secCursors
	secBacklog
	secEnd
	secCheck
	secMembers
)

// State is the masters' state at one place in the log. A published State never changes: any number of goroutines may read
// it, and what it returns by pointer must not be changed.
type State struct {
	history
	local
	index    indexes
	counts   counts
	limits   limits
	shardMap *shardmap.Map // of the present epoch; rebuilt when that moves
	supports uint32        // the highest level whose rules the machine knows
}

// history is a function of the feed alone; Digest covers exactly it.
type history struct {
	head     head
	agents   table[event.AgentID, Agent]
	nodes    table[uint64, Node] // by number
	shards   table[uint64, Shard]
	txns     table[event.TxnID, Txn]
	masters  table[event.MasterID, Master]
	settings table[string, Setting]
	types    table[string, AssociationType]
	sinks    table[string, Sink]
	check    StateCheck             // zero, not hashed and not in snapshots below CheckLevel
	members  table[uint64, Members] // by number of the shard; empty, not hashed and not in snapshots below MembersLevel
}

// local is replicated and in snapshots, but not in the feed; LocalDigest covers it.
type local struct {
	mark     mark
	pulses   table[event.AgentID, Pulse]
	requests table[event.RequestID, request]
	emitters table[event.AgentID, Emitter]
	cursors  table[string, Cursor]
	backlog  table[uint64, backlogMark] // by seq
}

// head is the part of the history that there is once.
type head struct {
	Seq         uint64            `wire:"seq"` // of the last event
	Chain       event.Chain       `wire:"chain"`
	Time        int64             `wire:"time"`       // of the last event, unix µs
	FeedBytes   uint64            `wire:"feed_bytes"` // encoded length of all events
	GridID      string            `wire:"grid_id"`    // empty: nothing has started
	Incarnation event.Incarnation `wire:"incarnation"`
	Level       uint32            `wire:"level"`
	LastNode    uint64            `wire:"last_node"` // highest node number ever given
	Horizon     event.Position    `wire:"horizon"`
	Map         mapHead           `wire:"map"`
	Cluster     levelHead         `wire:"cluster"`
	Leader      event.MasterID    `wire:"leader"`
	LeaderTerm  uint64            `wire:"leader_term"`
}

// mapHead is the shard map without its shards.
type mapHead struct {
	Strategy string         `wire:"strategy"`
	Shards   uint32         `wire:"shards"` // 0: no map yet
	Replicas uint32         `wire:"replicas"`
	Epoch    event.Position `wire:"epoch"` // of the last change that a router can see
}

// levelHead is the cluster's level as last recorded.
type levelHead struct {
	Level  string `wire:"level"`
	Reason string `wire:"reason"`
	Since  uint64 `wire:"since"` // seq
}

// mark is the part of the local state that there is once.
type mark struct {
	RaftIndex  uint64 `wire:"raft_index"`  // of the last entry
	Time       int64  `wire:"time"`        // log time: the greatest of all entries' and events', unix µs
	Forgotten  int64  `wire:"forgotten"`   // greatest issued that was ever evicted from the request table
	AckedBytes uint64 `wire:"acked_bytes"` // of the feed, held by every sink, to within 1,024 events
	OutboxFull bool   `wire:"outbox_full"` // 80 % reached and not yet back under 75 %
}

// indexes are derived from the tables.
type indexes struct {
	nodesOf  index[agentNode]
	byBegin  index[txnBegin]  // all transactions
	open     index[txnSeq]    // those not completed, oldest decision first
	byIssued index[issuedKey] // the request table, oldest first
}

type agentNode struct {
	agent  event.AgentID
	number uint64
}

type txnBegin struct {
	begin event.Position
	id    event.TxnID
}

type txnSeq struct {
	seq uint64
	id  event.TxnID
}

type issuedKey struct {
	issued int64
	id     event.RequestID
}

// counts are derived from the tables, so that the cluster's level costs nothing to derive.
type counts struct {
	healthyAgents uint32
	desiredNodes  uint32
	runningNodes  uint32
	unreachable   uint32 // masters
	lostShards    uint32
	shortShards   uint32 // fewer live voters than replicas
}

func newState() *State {
	s := &State{shardMap: &shardmap.Map{}, supports: SupportedLevel}
	s.history = history{
		agents:   ordered[event.AgentID, Agent](secAgents),
		nodes:    ordered[uint64, Node](secNodes),
		shards:   ordered[uint64, Shard](secShards),
		txns:     newTable[event.TxnID, Txn](secTxns, compareRequests),
		masters:  ordered[event.MasterID, Master](secMasters),
		settings: ordered[string, Setting](secSettings),
		types:    ordered[string, AssociationType](secTypes),
		sinks:    ordered[string, Sink](secSinks),
		members:  ordered[uint64, Members](secMembers),
	}
	s.local = local{
		pulses:   ordered[event.AgentID, Pulse](secPulses),
		requests: newTable[event.RequestID, request](secRequests, compareRequests),
		emitters: ordered[event.AgentID, Emitter](secEmitters),
		cursors:  ordered[string, Cursor](secCursors),
		backlog:  ordered[uint64, backlogMark](secBacklog),
	}
	s.index = indexes{
		nodesOf: newIndex(func(a, b agentNode) int {
			return cmp.Or(cmp.Compare(a.agent, b.agent), cmp.Compare(a.number, b.number))
		}),
		byBegin: newIndex(func(a, b txnBegin) int {
			return cmp.Or(a.begin.Compare(b.begin), compareRequests(a.id, b.id))
		}),
		open: newIndex(func(a, b txnSeq) int {
			return cmp.Or(cmp.Compare(a.seq, b.seq), compareRequests(a.id, b.id))
		}),
		byIssued: newIndex(func(a, b issuedKey) int {
			return cmp.Or(cmp.Compare(a.issued, b.issued), compareRequests(a.id, b.id))
		}),
	}
	s.limits = limitsOf(s)
	return s
}

func compareRequests(a, b event.RequestID) int { return bytes.Compare(a[:], b[:]) }

// copy is a state that later changes of s do not touch. Only the one writer may call it.
func (s *State) copy() *State {
	c := *s
	c.agents, c.nodes, c.shards = s.agents.copy(), s.nodes.copy(), s.shards.copy()
	c.txns, c.masters, c.settings = s.txns.copy(), s.masters.copy(), s.settings.copy()
	c.types, c.sinks, c.members = s.types.copy(), s.sinks.copy(), s.members.copy()
	c.pulses, c.requests, c.emitters = s.pulses.copy(), s.requests.copy(), s.emitters.copy()
	c.cursors, c.backlog = s.cursors.copy(), s.backlog.copy()
	c.index = indexes{
		nodesOf: s.index.nodesOf.copy(), byBegin: s.index.byBegin.copy(),
		open: s.index.open.copy(), byIssued: s.index.byIssued.copy(),
	}
	return &c
}

// nodePrefix of every node's id; the number behind it is dense from 1 and never given twice.
const nodePrefix = "node-"

func nodeID(n uint64) event.NodeID {
	return event.NodeID(nodePrefix + strconv.FormatUint(n, 10))
}

// nodeNumber is n of "node-<n>", 0 for anything that is not an id the masters give.
func nodeNumber(id event.NodeID) uint64 {
	digits, ok := strings.CutPrefix(string(id), nodePrefix)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || nodeID(n) != id {
		return 0
	}
	return n
}
