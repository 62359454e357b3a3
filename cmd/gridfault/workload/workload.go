package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

// Env is where a workload runs. Grid and History are needed.
type Env struct {
	Grid    rig.Grid
	History *history.Recorder
	Seed    uint64
	Clients int     // 0: 10
	Rate    float64 // requests per second of all clients together; 0: as fast as it goes
	Tally   *Tally  // counts what comes back; nil: one of the workload's own

	// ReadTimeout is how long a client of W1 that is pinned to a master waits for its answer; 0: 25 s. It must be longer than the
	// faults: one that gives up sooner never sees what a master says that was away.
	ReadTimeout time.Duration

	Broken Broken // for tests of the suite
}

// Broken is a defect of the harness that the suite itself must notice.
type Broken string

// The defects.
const (
	UnknownAsFail Broken = "unknown recorded as fail"
	DropsHistory  Broken = "history drops 1 in 1,000"
	EmptyHistory  Broken = "nothing is recorded"
)

// Workload is a load with its checkers. The methods are called once each, in their order; Close whenever New was called.
type Workload interface {
	// Setup creates what the workload works on, again and again until it is there or ctx ends.
	Setup(ctx context.Context) error

	// Run loads the grid until ctx ends, and returns when all clients have: a request that is under way is waited for. What clients
	// are told is no error; an error is a defect of the harness.
	Run(ctx context.Context) error

	// Settle reads everything once more when the grid is healed, until it has or ctx ends.
	Settle(ctx context.Context) error

	// Check judges a history: the reports are one for each checker, in a fixed order.
	Check(l *history.Log) []history.Report

	// Tally counts the requests of clients.
	Tally() *Tally

	// Leaves is what all that the workload leaves on the grid is called, for people: no other run has these names.
	Leaves() []string

	// Close ends the clients' connections.
	Close() error
}

// Spec is what the table says about a workload.
type Spec struct {
	ID    string
	Title string
	New   func(Env) Workload
	Check func(*history.Log) []history.Report // judges a history of it without a grid

	Events   bool   // it reads event storage
	Disrupts string // why it is not for a grid that others rely on; empty: it writes data of its own, and does nothing else
}

// Workloads is the table of all workloads.
func Workloads() []Spec {
	return []Spec{
		{"W1", "registers: settings and the shard map, read and written at every master", newRegisters, checkRegisters, false, ""},
		{"W2", "registry: agents register and leave, nodes are listed", newRegistry, checkRegistry, false, "agents that run nothing register and leave"},
		{"W3", "bank: transfers over shards, with a ledger on both accounts", newBank, checkBank, false, ""},
		{"W4", "append: lists over shards, appended to and read in one transaction", newAppends, checkAppends, false, ""},
		{"W5", "graph: concepts, associations with their inverses, deletes with all of them; indexes", newGraph, checkGraph, false, ""},
		{"W6", "feed: the decisions of transactions, read from every master and from event storage", newFeed, checkFeed, true, ""},
		{"W7", "watch: the feed followed from now, from long ago, from what is not there yet, in parts, slowly", newWatch, checkWatch, true, ""},
		{"W8", "move: bank and append together, while leaders and replicas of shards move", newMove, checkMove, false, "leaders and replicas of shards are to move meanwhile"},
		{"W9", "order: long forks, sequences, unique ids, sets", newOrder, checkOrder, false, ""},
		{"W10", "membership: registers, while masters come and go", newMembership, checkRegisters, false, "masters are to come and go meanwhile"},
	}
}

// Lookup finds a workload.
func Lookup(id string) (Spec, error) {
	for _, s := range Workloads() {
		if s.ID == id {
			return s, nil
		}
	}
	return Spec{}, fmt.Errorf("workload %.20q: no such one; gridfault list shows them", id)
}

// noteWorkload names the workloads of a history, noteRequests how many requests each sent.
const (
	noteWorkload = "workload"
	noteRequests = "requests"
)

// errNoWorkload is what Check says of a history that was not recorded by a workload.
var errNoWorkload = errors.New("the history does not say which workload it is of")

// errCutOff is what Complete says of a history whose recording ended before the workload.
var errCutOff = errors.New("the history does not say how many requests were sent: its recording was cut off")

// Check judges a stored history by the workloads that it says it is of.
func Check(l *history.Log) ([]history.Report, error) {
	var all []history.Report
	seen := map[string]bool{}
	for _, n := range l.Notes {
		if n.Name != noteWorkload {
			continue
		}
		id, err := noteText(n)
		if err != nil {
			return nil, err
		}
		s, err := Lookup(id)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			all = append(all, s.Check(l)...)
		}
		seen[id] = true
	}
	if len(seen) == 0 {
		return nil, errNoWorkload
	}
	return append(all, Complete(l)), nil
}

// Complete checks that a history has all the requests that its workloads sent, as far as they came to their end.
func Complete(l *history.Log) history.Report {
	sent, noted := 0, 0
	for _, n := range l.Notes {
		if n.Name != noteRequests {
			continue
		}
		var requests int
		if err := json.Unmarshal(n.Value, &requests); err != nil {
			return history.Fault("complete", fmt.Errorf("note %s: %w", n.Name, err))
		}
		sent, noted = sent+requests, noted+1
	}
	if noted == 0 {
		return history.Fault("complete", errCutOff)
	}
	return history.Complete(l, sent)
}
