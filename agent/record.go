package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/agent/spool"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/transport"
)

// RecordFile is the name of the Record in an agent's data directory.
const RecordFile = "agent.json"

// Record is all an agent must remember. It is replaced atomically at every step, before the step has effects.
type Record struct {
	AgentID  event.AgentID `json:"agent_id"`
	StoreID  string        `json:"store_id"`
	GridID   string        `json:"grid_id"`  // pinned at the first registration; empty before
	Revision uint64        `json:"revision"` // of the assignments the nodes below follow
	Nodes    []NodeRecord  `json:"nodes"`    // in the order of their first assignment
	Emitted  Emitted       `json:"emitted"`
}

// Emitted is the last event that was numbered. It is recorded together with the change it reports and spooled behind that, so
// change and event happen both or not at all.
type Emitted struct {
	Number uint64     `json:"number"`
	Type   event.Type `json:"type"`
	Body   []byte     `json:"body"`
}

// Phase is where a node is in its life.
type Phase string

// The phases. Starting, Running and Stopping have a process; the others have none.
const (
	Stopped  Phase = "stopped"  // in good order, or never started
	Starting Phase = "starting" // the process is there or about to be; it has not said that it is ready
	Running  Phase = "running"
	Stopping Phase = "stopping" // asked to end
	Crashed  Phase = "crashed"  // ended without being asked to; starts again when its time comes
)

// alive tells whether a process belongs to the phase.
func (p Phase) alive() bool { return p == Starting || p == Running || p == Stopping }

// NodeRecord is one node: what the masters assigned, and what became of it.
type NodeRecord struct {
	NodeID        event.NodeID `json:"node_id"`
	Wanted        bool         `json:"wanted"`        // it is in the assignments
	AssignedPort  uint32       `json:"assigned_port"` // 0: the agent chooses
	StoragePath   string       `json:"storage_path"`  // empty: nodes/<id>/data
	MemoryLimitMB uint64       `json:"memory_limit_mb"`
	Init          bool         `json:"init"` // the masters say that it never ran

	Phase       Phase        `json:"phase"`
	Start       uint64       `json:"start"` // how often it was started; recorded before each start (safety S29)
	Ref         platform.Ref `json:"ref"`   // of the instance of this start; empty: there is none yet
	PID         int          `json:"pid"`
	Port        uint32       `json:"port"` // kept over restarts
	Endpoint    string       `json:"endpoint"`
	StoreID     string       `json:"store_id"`    // of the node's data directory, as it said when ready
	Initialised bool         `json:"initialised"` // it was ready once: its data directory exists and must never be made again
	Crashed     bool         `json:"crashed"`     // a crash was reported since it was last ready: the next ready is a restart
	Restarts    uint32       `json:"restarts"`
}

// ReadRecord reads the record in an agent's data directory, also of an agent that runs or is dead. A missing one is an error
// that is fs.ErrNotExist.
func ReadRecord(dir string) (Record, error) {
	path := filepath.Join(dir, RecordFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// journal is the record and the spool behind it. Only the keeper's goroutine changes it, once the agent is open.
type journal struct {
	path   string
	record Record
	spool  *spool.Spool
}

// openJournal reads what an earlier run recorded, or begins a record in a directory that has none, and spools the last event if
// the earlier run ended before it could.
func openJournal(dir *datadir.Dir, id datadir.Identity) (*journal, error) {
	j := &journal{path: dir.Path(RecordFile)}
	record, err := ReadRecord(dir.Path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := unused(dir); err != nil {
			return nil, err
		}
		record = Record{AgentID: event.AgentID(id.ID), StoreID: id.StoreID}
	case err != nil:
		return nil, err
	case record.StoreID != id.StoreID || string(record.AgentID) != id.ID:
		return nil, fmt.Errorf("%s is of agent %s with store id %s, but the directory is of agent %s with store id %s", j.path, record.AgentID, record.StoreID, id.ID, id.StoreID)
	}
	j.record = record
	if errors.Is(err, fs.ErrNotExist) { // before the spool, or an agent that ends here would take itself for one that lost its record
		if err := j.commit(nil); err != nil {
			return nil, err
		}
	}
	if j.spool, err = spool.Open(dir.Path("spool"), record.Emitted.Number); err != nil {
		return nil, err
	}
	return j, j.respool()
}

// unused refuses a directory whose record was lost: its nodes would be forgotten, and its events numbered anew.
func unused(dir *datadir.Dir) error {
	for _, name := range []string{"spool", "nodes"} {
		if there, err := datadir.Exists(dir.Path(name)); err != nil || there {
			return errors.Join(err, fmt.Errorf("%s is missing, but %s exists: restore the file, or start with a new data directory", dir.Path(RecordFile), dir.Path(name)))
		}
	}
	return nil
}

// commit makes the record durable as it is now, and with it the event that reports the change; nil reports nothing.
func (j *journal) commit(body event.Body) error {
	if body != nil {
		b, err := event.AppendBody(nil, body)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		j.record.Emitted = Emitted{Number: j.record.Emitted.Number + 1, Type: body.Type(), Body: b}
	}
	text, err := json.MarshalIndent(j.record, "", "  ")
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := datadir.WriteFileAtomic(j.path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if body == nil {
		return nil
	}
	return j.respool()
}

// respool spools the recorded event unless it is there. One that was acknowledged and removed before the agent ended is sent
// once more; the masters know it by its number.
func (j *journal) respool() error {
	e := j.record.Emitted
	if e.Number == 0 {
		return nil
	}
	return j.spool.Put(e.Number, transport.EmittedEvent{Type: e.Type, Body: e.Body})
}

// node finds a node's record; nil: there is none. The pointer is valid until the next follow.
func (j *journal) node(id event.NodeID) *NodeRecord {
	if i := slices.IndexFunc(j.record.Nodes, func(n NodeRecord) bool { return n.NodeID == id }); i >= 0 {
		return &j.record.Nodes[i]
	}
	return nil
}

// follow takes a newer set of assignments into the record and tells whether it was newer: a master that lags may send an older
// one, and following it would stop what must run.
func (j *journal) follow(a *transport.Assignments) bool {
	if a.Revision <= j.record.Revision {
		return false
	}
	j.record.Revision = a.Revision
	for i := range j.record.Nodes {
		j.record.Nodes[i].Wanted = false
	}
	for _, n := range a.Nodes {
		r := j.node(n.NodeID)
		if r == nil {
			j.record.Nodes = append(j.record.Nodes, NodeRecord{NodeID: n.NodeID, Phase: Stopped})
			r = &j.record.Nodes[len(j.record.Nodes)-1]
		}
		r.Wanted, r.AssignedPort, r.StoragePath, r.MemoryLimitMB, r.Init = true, n.Port, n.StoragePath, n.MemoryLimitMB, n.Init
	}
	return true
}
