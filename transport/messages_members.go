package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The masters' membership, spoken on a master's grid port. Any master answers; what needs the leader is forwarded.
type (
	// AnnounceMaster is a master's own word of who it is and where it listens: to each other master whenever the state says
	// otherwise, and by one that wants to join until it is a member. The leader records it.
	AnnounceMaster struct {
		MasterID event.MasterID `wire:"master_id"`
		StoreID  string         `wire:"store_id"`
		GridID   string         `wire:"grid_id"`
		Raft     string         `wire:"raft"`
		HTTP     string         `wire:"http"`
		Grid     string         `wire:"grid"`
		Level    uint32         `wire:"level"`         // the highest it supports (safety S13)
		Hops     uint32         `wire:"hops,optional"` // how often it was passed on
	}
	// AnnounceMasterOk: Member says that the leader's configuration has this replica.
	AnnounceMasterOk struct {
		Member bool `wire:"member"`
	}
	// AddMaster admits a master that has announced itself, as a learner; the leader promotes it when it has caught up.
	AddMaster struct {
		MasterID event.MasterID `wire:"master_id"`
		Hops     uint32         `wire:"hops,optional"`
	}
	// AddMasterOk answers AddMaster; also for a master that is a member already.
	AddMasterOk struct {
		ReplicaID event.ReplicaID `wire:"replica_id" json:"replica_id"`
		Suffrage  string          `wire:"suffrage" json:"suffrage"` // voter or learner
		Index     uint64          `wire:"index" json:"index"`       // of the configuration
	}
	// RemoveMaster takes a master out of the configuration. ID is a master's id, or a replica's where a master has two.
	RemoveMaster struct {
		ID     string `wire:"id"`
		Shrink bool   `wire:"shrink,optional"` // fewer than three voters may be left
		Hops   uint32 `wire:"hops,optional"`
	}
	// RemoveMasterOk answers RemoveMaster when the removal is committed.
	RemoveMasterOk struct {
		ReplicaID event.ReplicaID `wire:"replica_id" json:"replica_id"`
		Index     uint64          `wire:"index" json:"index"` // of the configuration
	}
	// TransferLeadership hands leadership to a voter.
	TransferLeadership struct {
		To   event.MasterID `wire:"to,optional"` // empty: whoever has the most of the log
		Hops uint32         `wire:"hops,optional"`
	}
	// TransferLeadershipOk names the leader afterwards.
	TransferLeadershipOk struct {
		Leader event.MasterID `wire:"leader" json:"leader"`
		Term   uint64         `wire:"term" json:"term"`
	}
	// TakeSnapshot makes one master take a snapshot and cut its log off behind it.
	TakeSnapshot struct {
		MasterID event.MasterID `wire:"master_id,optional"` // empty: the leader
		Hops     uint32         `wire:"hops,optional"`
	}
	// TakeSnapshotOk answers TakeSnapshot: the snapshot holds the log up to Index at least.
	TakeSnapshotOk struct {
		MasterID event.MasterID `wire:"master_id" json:"master_id"`
		Index    uint64         `wire:"index" json:"index"`
		Seq      uint64         `wire:"seq" json:"seq"` // the last event that is surely in it
	}
	// IsMember asks the leader, by a linearizable read of the configuration, whether a replica is in it.
	IsMember struct {
		GridID      string            `wire:"grid_id"`
		Incarnation event.Incarnation `wire:"incarnation"`
		ReplicaID   event.ReplicaID   `wire:"replica_id"`
		Hops        uint32            `wire:"hops,optional"`
	}
	// IsMemberOk answers IsMember.
	IsMemberOk struct {
		Member bool   `wire:"member"`
		Index  uint64 `wire:"index"` // of the configuration
	}
)
