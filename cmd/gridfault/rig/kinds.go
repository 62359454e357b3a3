package rig

import (
	"errors"
	"fmt"
	"slices"
)

// ErrUnsupported is what Inject answers when a rig cannot make a fault happen: this kind never, or not on this machine.
var ErrUnsupported = errors.New("this rig cannot do that here")

// ErrNotMet is what Inject answers when what a fault waits for has not come: no process has passed its point. Nothing has happened.
var ErrNotMet = errors.New("the fault has met nobody")

// Kind names a fault: "family.what".
type Kind string

// The kinds of faults. What a rig of processes needs for each stands in the table.
const (
	CutLeader       Kind = "partition.leader"          // the leading master, from all masters
	CutLeaderAll    Kind = "partition.leader-all"      // from everybody, clients included
	CutMinority     Kind = "partition.leader-minority" // the leader with a minority of the masters
	CutRing         Kind = "partition.ring"            // each master sees a majority, no two the same
	CutLeaderOut    Kind = "partition.leader-out"      // nothing gets out of the leader to the masters
	CutLeaderIn     Kind = "partition.leader-in"       // nothing gets in
	CutCoordinator  Kind = "partition.coordinator"     // a master from the leader of one shard, one way or both
	CutShardLeader  Kind = "partition.shard-leader"    // a shard's leader from the other voters
	CutShipper      Kind = "partition.shipper"         // event storage from all masters
	CutClients      Kind = "partition.clients"         // some clients from the leading master
	NetLoss         Kind = "net.loss"                  // a part of what is sent between processes is lost
	NetDelay        Kind = "net.delay"                 // slow links, with jitter
	PauseLeader     Kind = "pause.leader"              // SIGSTOP, 0.5 to 20 s
	PauseShard      Kind = "pause.shard-leader"        // the node that leads a shard
	PauseRandom     Kind = "pause.random"              // any process
	KillLeader      Kind = "kill.leader"               // kill -9 and, at Heal, a new start on the same disk
	KillShard       Kind = "kill.shard-leader"         // the node that leads a shard
	KillAgent       Kind = "kill.agent"                // an agent; its nodes live on
	KillRandom      Kind = "kill.random"               // any process
	KillMasters     Kind = "kill.masters"              // all masters at once
	KillAll         Kind = "kill.all"                  // all processes at once
	KillRolling     Kind = "kill.rolling"              // one process after the other, each when the last one runs again
	PowerOne        Kind = "power.one"                 // the machine of a master or a node: what was not synced is gone
	PowerMinority   Kind = "power.minority"            // of a minority of the masters, and of one voter of each shard
	PowerAll        Kind = "power.all"                 // everything at once
	PowerTorn       Kind = "power.torn"                // one machine, and what its logs had not synced is there in part
	DiskError       Kind = "disk.error"                // EIO from the disk of one process
	DiskFull        Kind = "disk.full"                 // no space left
	DiskFrozen      Kind = "disk.frozen"               // fsfreeze: nothing returns
	DiskSlow        Kind = "disk.slow"                 // every sync takes long
	DiskReadOnly    Kind = "disk.readonly"             // the kernel has remounted it
	CorruptFlip     Kind = "corrupt.flip"              // a bit of a stopped process's files, on a minority
	CorruptTruncate Kind = "corrupt.truncate"          // a file of it is cut short
	ClockBump       Kind = "clock.bump"                // the wall clock of one process jumps
	ClockStrobe     Kind = "clock.strobe"              // to and fro
	ClockDrift      Kind = "clock.drift"               // runs fast or slow
	SqueezeCPU      Kind = "squeeze.cpu"               // one process gets a tenth of a core
	SqueezeMemory   Kind = "squeeze.memory"            // and little memory
	SnapshotForce   Kind = "raft.snapshot"             // every replica takes a snapshot and cuts its log
	LeaderTransfer  Kind = "raft.transfer"             // the leading master hands over
	ShardTransfer   Kind = "raft.shard-transfer"       // a shard's leader hands over
	ReplicaReplace  Kind = "raft.replace"              // a voter of a shard is replaced by one on another agent
	MasterReplace   Kind = "raft.member"               // a master is removed and added again, restarted meanwhile
	SinkDown        Kind = "sink.down"                 // event storage is stopped
	SinkSlow        Kind = "sink.slow"                 // it answers late
	SinkError       Kind = "sink.error"                // its disk answers errors
	KindPoint       Kind = "point"                     // a labelled fault point: Fault.Label, Fault.Action
)

// The kinds that a program of the user's makes (Fault.Label is the name that it is called with), on a grid that was given. Whether a majority
// is left is not ours to know, so there are two.
const (
	KindHook   Kind = "hook"
	KindOutage Kind = "outage" // it leaves no majority
)

// Spec is what the table says about a kind.
type Spec struct {
	Kind     Kind
	What     string
	Proof    string // what shows that it happened
	Majority bool   // a majority of everything can be reached by most clients meanwhile, so most operations must succeed
	Sim      bool   // rig S can do it
	Needs    []Need // what rig P needs for it
}

// Need is what a machine must permit for a fault of rig P.
type Need string

// The needs. Without them the processes share the loopback interface and plain directories, and kinds that need more are refused.
const (
	NeedNetns  Need = "netns"  // a network namespace for each machine, joined by a bridge
	NeedNft    Need = "nft"    // packets dropped on that bridge
	NeedMount  Need = "mount"  // an ext4 image on a loop device for each machine
	NeedClock  Need = "clock"  // a process's vDSO can be rewritten: Linux on amd64, ptrace
	NeedCgroup Need = "cgroup" // cgroup v2 controllers cpu and memory
	NeedFaults Need = "faults" // programs built with -tags faults
)

// Kinds is the table of all kinds that rigs of ours make. The result is shared and must not be changed.
func Kinds() []Spec { return kinds }

// Hooks is the table of those that a program of the user's makes. The result is shared and must not be changed.
func Hooks() []Spec { return hooks }

// MeetsNodes tells whether a fault of this kind can take a storage node away from those who need it.
func (k Kind) MeetsNodes() bool {
	switch k {
	case CutCoordinator, CutShardLeader, NetLoss, PauseShard, PauseRandom, KillShard, KillRandom, KillRolling, PowerOne, PowerMinority, PowerTorn,
		DiskError, DiskFull, DiskFrozen, DiskReadOnly, DiskSlow, CorruptFlip, CorruptTruncate, SqueezeCPU, SqueezeMemory, ShardTransfer, ReplicaReplace, KindPoint:
		return true
	}
	return false
}

// Lookup finds a kind of either table.
func Lookup(k Kind) (Spec, error) {
	for _, s := range slices.Concat(kinds, hooks) {
		if s.Kind == k {
			return s, nil
		}
	}
	return Spec{}, fmt.Errorf("fault %q: no such kind; gridfault list shows them", k)
}

var (
	onNet  = []Need{NeedNetns, NeedNft}
	onDisk = []Need{NeedMount}
)

var hooks = []Spec{
	{KindHook, "a program of yours does it", "what it prints at the end", true, false, nil},
	{KindOutage, "a program of yours does it, and it leaves no majority", "what it prints at the end", false, false, nil},
}

var kinds = []Spec{
	{CutLeader, "the leading master is cut off from the masters", "packets dropped", true, true, onNet},
	{CutLeaderAll, "the leading master is cut off from everybody", "packets dropped", true, true, onNet},
	{CutMinority, "the leading master and a minority are cut off from the other masters", "packets dropped", true, true, onNet},
	{CutRing, "every master sees a majority, no two the same", "packets dropped", true, true, onNet},
	{CutLeaderOut, "nothing gets out of the leading master", "packets dropped", true, true, onNet},
	{CutLeaderIn, "nothing gets in to the leading master", "packets dropped", true, true, onNet},
	{CutCoordinator, "a master is cut off from the leader of one shard", "packets dropped", true, true, onNet},
	{CutShardLeader, "a shard's leader is cut off from its voters", "packets dropped", true, true, onNet},
	{CutShipper, "event storage is cut off from the masters", "packets dropped", true, true, onNet},
	{CutClients, "clients are cut off from the leading master", "packets dropped", true, true, onNet},
	{NetLoss, "packets are lost between all machines", "packets dropped", true, true, onNet},
	{NetDelay, "links are slow and jitter", "round trips delayed", true, true, []Need{NeedNetns}},
	{PauseLeader, "the leading master stands still", "process stopped", true, true, nil},
	{PauseShard, "the node that leads a shard stands still", "process stopped", true, true, nil},
	{PauseRandom, "a process stands still", "process stopped", true, true, nil},
	{KillLeader, "the leading master is killed", "exits seen", true, true, nil},
	{KillShard, "the node that leads a shard is killed", "exits seen", true, true, nil},
	{KillAgent, "an agent is killed", "exits seen", true, true, nil},
	{KillRandom, "a process is killed", "exits seen", true, true, nil},
	{KillMasters, "all masters are killed at once", "exits seen", false, true, nil},
	{KillAll, "all processes are killed at once", "exits seen", false, true, nil},
	{KillRolling, "one process after the other is killed", "exits seen", true, true, nil},
	{PowerOne, "a machine loses power", "machines without power", true, true, onDisk},
	{PowerMinority, "a minority of the machines loses power", "machines without power", true, true, onDisk},
	{PowerAll, "all machines lose power", "machines without power", false, true, onDisk},
	{PowerTorn, "a machine loses power, its last writes are there in part", "machines without power", true, true, onDisk},
	{DiskError, "a disk answers EIO", "exits seen", true, false, []Need{NeedFaults}},
	{DiskFull, "a disk is full", "exits seen", true, false, onDisk},
	{DiskFrozen, "a disk does not return", "exits seen", true, false, onDisk},
	{DiskSlow, "every sync takes long", "syncs delayed", true, false, []Need{NeedFaults}},
	{DiskReadOnly, "a disk is read-only", "exits seen", true, false, onDisk},
	{CorruptFlip, "a bit of a replica's files is flipped", "bytes changed", true, false, nil},
	{CorruptTruncate, "a file of a replica is cut short", "bytes lost", true, false, nil},
	{ClockBump, "the wall clock of a process jumps", "clock read", true, false, []Need{NeedClock}},
	{ClockStrobe, "the wall clock of a process jumps to and fro", "clock read", true, false, []Need{NeedClock}},
	{ClockDrift, "the wall clock of a process runs fast or slow", "clock read", true, false, []Need{NeedClock}},
	{SqueezeCPU, "a process gets a tenth of a core", "periods throttled", true, false, []Need{NeedCgroup}},
	{SqueezeMemory, "a process gets little memory", "reclaims", true, false, []Need{NeedCgroup}},
	{SnapshotForce, "all replicas take a snapshot and cut their logs", "snapshots", true, true, nil},
	{LeaderTransfer, "the leading master hands over", "terms changed", true, true, nil},
	{ShardTransfer, "a shard's leader hands over", "terms changed", true, true, nil},
	{ReplicaReplace, "a voter of a shard is replaced", "voters changed", true, true, nil},
	{MasterReplace, "a master is removed and added again", "members changed", true, true, nil},
	{SinkDown, "event storage is stopped", "exits seen", true, true, nil},
	{SinkSlow, "event storage answers late", "round trips delayed", true, true, []Need{NeedFaults}},
	{SinkError, "event storage's disk answers errors", "exits seen", true, false, []Need{NeedFaults}},
	{KindPoint, "a process fails at a labelled point", "passes", true, true, []Need{NeedFaults}},
}
