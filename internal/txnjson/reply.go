package txnjson

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Committed is the reply to a transaction that took effect.
type Committed struct {
	TxnID          string    `json:"txn_id"`
	Status         string    `json:"status"`                    // StatusCommitted
	Results        []*Result `json:"results"`                   // one for each operation, null of those without one
	ResultsOmitted bool      `json:"results_omitted,omitempty"` // it took effect before, and they are no longer kept: results is null
}

// Aborted is the reply to a transaction that surely did not happen, and never will.
type Aborted struct {
	TxnID  string `json:"txn_id,omitempty"`
	Status string `json:"status"` // StatusAborted
	Op     *int   `json:"op"`     // index of the operation at fault; null: none
	Reason string `json:"reason"` // precondition, conflict, deadline, aborted or a kind of error
	Error  string `json:"error"`
}

// The statuses of a transaction.
const (
	StatusCommitted = "committed"
	StatusAborted   = "aborted"
)

// Result is that of one operation: of a read, of read_neighbors, or of an add.
type Result struct {
	*Read
	Neighbors *[]string `json:"neighbors,omitempty"` // distinct targets, in the order in which their associations committed
	Value     *int64    `json:"value,omitempty"`     // the sum
}

// Read is a concept as a transaction saw it.
type Read struct {
	Found bool `json:"found"`
	*Concept
}

// Concept is what a concept is made of.
type Concept struct {
	Content    string            `json:"content"`
	Strength   float32           `json:"strength"`
	Confidence float32           `json:"confidence"`
	Attributes map[string]string `json:"attributes"`
	Tags       []string          `json:"tags"`
	Version    uint64            `json:"version"`
	Created    float64           `json:"created"`  // unix seconds
	Modified   float64           `json:"modified"` // unix seconds
}

// NewConcept is a concept without nulls: no attributes are {}, no tags [].
func NewConcept(c Concept) *Concept {
	if c.Attributes == nil {
		c.Attributes = map[string]string{}
	}
	if c.Tags == nil {
		c.Tags = []string{}
	}
	return &c
}

// CommittedOf is the reply to a transaction of these operations.
func CommittedOf(ops []transport.Op, ok *transport.TxnOk) *Committed {
	c := &Committed{TxnID: ok.TxnID.String(), Status: StatusCommitted, ResultsOmitted: ok.ResultsOmitted}
	if ok.ResultsOmitted {
		return c
	}
	c.Results = make([]*Result, len(ops))
	for i := range min(len(ops), len(ok.Results)) {
		c.Results[i] = resultOf(ops[i].Kind, &ok.Results[i])
	}
	return c
}

func resultOf(kind transport.OpKind, r *transport.OpResult) *Result {
	switch kind {
	case transport.OpRead:
		if !r.Found {
			return &Result{Read: &Read{}}
		}
		return &Result{Read: &Read{true, NewConcept(Concept{Content: r.Content, Strength: r.Strength, Confidence: r.Confidence, Attributes: r.Attributes,
			Tags: r.Tags, Version: r.Version, Created: float64(r.Created) / 1e6, Modified: float64(r.Modified) / 1e6})}}
	case transport.OpReadNeighbors:
		ids := r.Neighbors
		if ids == nil {
			ids = []string{}
		}
		return &Result{Neighbors: &ids}
	case transport.OpAdd:
		return &Result{Value: &r.Value}
	}
	return nil
}

// AbortedOf is the reply to a transaction that ended with an error of a kind that says so; reason in one word.
func AbortedOf(e *event.Error, reason string) *Aborted {
	a := &Aborted{Status: StatusAborted, Reason: reason, Error: e.Error()}
	if !e.Txn.IsZero() {
		a.TxnID = e.Txn.String()
	}
	if e.OpNumber > 0 {
		index := int(e.OpNumber) - 1
		a.Op = &index
	}
	return a
}
