package history

import (
	"encoding/json"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Span is one request as its client saw it. Times are nanoseconds since the history began.
type Span struct {
	Call    uint64 // its number in the history
	Client  int    // a client has one request under way at a time
	Invoke  int64
	Return  int64 // Never: Outcome is Unknown
	Outcome Outcome
	Refused bool   // Fail: a condition of the request did not hold, at some moment between Invoke and Return
	Reason  string // of Fail and Unknown, for people
}

// RegisterKind is what is done with a register.
type RegisterKind string

// The kinds.
const (
	RegisterRead  RegisterKind = "read"
	RegisterWrite RegisterKind = "write"
	RegisterCAS   RegisterKind = "cas" // a write that is refused unless the register is at version Expect
)

// RegisterOp is an operation on a register: something with a value and a version that grows by one with each write. No two writes of a
// register have the same value.
type RegisterOp struct {
	Key    string       `json:"key"`
	Kind   RegisterKind `json:"op"`
	Value  string       `json:"value,omitempty"`  // of a write
	Expect uint64       `json:"expect,omitempty"` // of a cas
	At     string       `json:"at,omitempty"`     // who was asked, for people

	// Foreign says that others write the register too, and by more than one version at once: only the order of what was read, and that a
	// version has one value, are judged.
	Foreign bool `json:"foreign,omitempty"`
}

// RegisterAnswer is what was said.
type RegisterAnswer struct {
	Value   string         `json:"value,omitempty"` // read
	Version uint64         `json:"version"`         // read; or that of the write; 0: never written
	Seq     uint64         `json:"seq,omitempty"`   // event that the reader's state ends with, or that the write is; 0: not said
	Epoch   event.Position `json:"epoch,omitzero"`  // of the shard map
}

// Register is an operation on a register with its end.
type Register struct {
	Span
	RegisterOp
	RegisterAnswer RegisterAnswer // Outcome OK
}

// Note is what whoever recorded the history says of it, for those who judge it: which workload, which accounts.
type Note struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// Log is all that one history holds, each kind in the order in which it began.
type Log struct {
	Txns      []Txn
	Registers []Register
	Queries   []Query
	Events    []FeedEvent
	Watches   []WatchStep
	Notes     []Note
}

// requests is how many requests the log has.
func (l *Log) requests() int { return len(l.Txns) + len(l.Registers) + len(l.Queries) }

// Note finds the notes of a name and reads the last one into v; false: there is none.
func (l *Log) Note(name string, v any) (bool, error) {
	for i := len(l.Notes) - 1; i >= 0; i-- {
		if l.Notes[i].Name == name {
			return true, json.Unmarshal(l.Notes[i].Value, v)
		}
	}
	return false, nil
}

// Query is a read of ids by an index, with its end.
type Query struct {
	Span
	QueryOp
	IDs []string // Outcome OK; in any order
}

// QueryOp is what was asked.
type QueryOp struct {
	Index string `json:"index"` // one of the indexes
	Of    string `json:"of"`    // what is looked for
}

// The indexes.
const (
	IndexScan     = "scan"     // ids that begin with Of
	IndexMetadata = "metadata" // concepts whose attribute AttributeGroup is Of
	IndexIncoming = "incoming" // concepts with an association to Of
	IndexAgents   = "agents"   // of the registry; Of is empty
	IndexNodes    = "nodes"    // of the registry: "<node>@<agent>"; Of is empty
)

// AttributeGroup is the attribute by which IndexMetadata looks.
const AttributeGroup = "group"

// FeedEvent is an event as somebody holds it.
type FeedEvent struct {
	Source string `json:"source"` // who: a master, or SourceStorage
	Seq    uint64 `json:"seq"`
	Type   string `json:"type"`
	Sum    string `json:"sum"`             // of its JSON form
	Chain  string `json:"chain"`           // hash over all before it
	Fault  string `json:"fault,omitempty"` // why the chain does not hold here
	Txn    string `json:"txn,omitempty"`   // of a decision
	Final  bool   `json:"final,omitempty"` // of an abort: for every attempt
	Term   uint64 `json:"term,omitempty"`  // of leader_elected
	Leader string `json:"leader,omitempty"`
}

// SourceStorage is event storage as a source of events.
const SourceStorage = "event storage"

// WatchStep is one message of a watch.
type WatchStep struct {
	Watcher string   `json:"watcher"`
	From    uint64   `json:"from"`             // seq from which this watch began; 0: from now on
	Begun   bool     `json:"begun,omitempty"`  // it is the first of a watch: of a watcher's first, or of one that goes on
	Seqs    []uint64 `json:"seqs,omitempty"`   // of the events
	Next    uint64   `json:"next"`             // everything below has come, or is not wanted
	Newest  uint64   `json:"newest"`           // the master has applied
	Types   []string `json:"types,omitempty"`  // that are wanted; none: all
	Fault   string   `json:"fault,omitempty"`  // why the watch cannot go on
	Missed  uint64   `json:"missed,omitempty"` // no master keeps what is from here up to Next, and the watcher was told so
}
