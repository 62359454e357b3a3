// Package rig is the vocabulary of the fault suite: what a grid that can be hurt is, which faults there are, and what a fault has to
// show before anybody believes that it happened.
//
//	plan(seed) --Fault--> Grid.Inject --Injected.Heal--> Proof
//	workload   --requests over Grid.Network-->  the grid --> history
//
// There are three rigs: rig S runs the production assembly in virtual time, in memory; rig P runs the real programs; rig G is a grid that
// was there before, and that others use meanwhile. Workloads, plans and checkers know none of them: they reach a grid over a
// transport.Network, tell time by package time, and take their randomness from a seed.
//
// Invariants: a Fault says all there is to say about a fault, so a plan can be written down and run again; a fault without a proof of its
// effect did not happen.
//
// The package imports nothing of the grid but its network and ids.
package rig

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Layout is what a grid consists of. Addresses are those of the grid protocol, "host:port".
type Layout struct {
	Masters  []Member
	Events   string          // event storage
	Shards   int             // hash shards
	Replicas int             // voters of each shard; each on a node, and an agent, of its own
	Agents   []event.AgentID // at least those whose nodes hold replicas
	Given    *Given          // nil: the grid was started for the run, which has it alone
}

// Given is what is to be known of a grid that others use, too.
type Given struct {
	Contents bool     // all that the replicas of shards hold may be read and compared
	LeftOut  []string // what is not judged, and why; for people
}

// Member is one master.
type Member struct {
	ID      event.MasterID
	Address string
}

// Grid is one running grid. Its methods may be called concurrently; Inject and Heal one at a time.
type Grid interface {
	// Layout is the same as long as the grid lives.
	Layout() Layout

	// Network is how a client reaches the grid. Every name is a host of its own, which faults can cut off.
	Network(client string) transport.Network

	// Inject makes a fault happen and returns when it has begun; what it meets follows from the fault's dice and from who leads now. It
	// fails with ErrUnsupported when this rig cannot do it on this machine, with ErrNotMet when the load gives it no occasion, and with another
	// error when the grid is not as it has to be.
	Inject(ctx context.Context, f Fault) (Injected, error)

	// Trouble is what the grid's processes said since the last call and no fault explains, one line each: panics, data races, states that
	// differ.
	Trouble() []string

	// Usage is what each process uses now.
	Usage() ([]Usage, error)

	// Close ends all processes and frees everything; Trouble can still be called.
	Close() error
}

// Injected is a fault that lasts.
type Injected interface {
	// Heal ends the fault, starts what it has ended, and returns when that runs again (not when the grid has recovered), with
	// what shows that the fault had an effect.
	Heal(ctx context.Context) (Proof, error)
}

// Proof is what a fault has done, as seen from outside: packets dropped, exits seen, a term that changed.
type Proof struct {
	What  string // "packets dropped"
	Count int64  // how many; 0 is no proof: the episode is not valid
	Met   string // whom: "master-2"
}

// Usage is what a process, or in virtual time the whole grid, uses.
type Usage struct {
	Process    string
	Goroutines int   // 0: not known
	Files      int   // open file descriptors
	HeapBytes  int64 // in use; 0: not known
	RSSBytes   int64
	DiskBytes  int64
}

// Fault is one fault of a plan.
type Fault struct {
	Kind Kind          `json:"kind"`
	Dice uint64        `json:"dice"` // decides whom it meets, and how hard
	Hold time.Duration `json:"hold"` // ns from its beginning to Heal
	Rest time.Duration `json:"rest"` // ns behind it in which nothing else happens

	// Masters says that the load has work for the masters alone: a storage node that is hurt may show nothing of it.
	Masters bool `json:"masters,omitempty"`

	// Label is of KindPoint the fault point (internal/fault), of KindHook and KindOutage the name that the program is called with. Action is
	// for KindPoint alone: what happens there, as a plan of that package says it: "crash", "hang", "delay=500ms", "error=EIO".
	Label  string `json:"label,omitempty"`
	Action string `json:"action,omitempty"`
}

// Name is the fault in a word: its kind, and its label if it has one.
func (f Fault) Name() string {
	if f.Label == "" {
		return string(f.Kind)
	}
	return string(f.Kind) + ":" + f.Label
}
