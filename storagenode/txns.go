package storagenode

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// preparedTxns lists what is prepared at this shard, linearizably: an attempt whose vote was heard before is in it, or has ended.
func (r *replica) preparedTxns(ctx context.Context) (outcome, error) {
	ok := &transport.PreparedTxnsOk{Txns: []transport.PreparedTxn{}}
	index, err := r.rows(ctx, false, nil, func() error {
		for _, p := range r.engine.Prepared() {
			ok.Txns = append(ok.Txns, transport.PreparedTxn{TxnID: p.TxnID, Attempt: p.Attempt, Begin: p.Begin, Start: p.Start, Issued: p.Issued,
				Coordinator: p.Coordinator, Participants: p.Participants, Open: p.Open,
				AgeMillis: uint64(max(time.Now().UnixMicro()-p.Since, 0) / 1000)})
		}
		return nil
	})
	return outcome{ok, index}, err
}

// readConcept reads one concept with its version and times.
func readConcept(e *engine.Engine, q *transport.ReadConcept) (any, error) {
	ok := &transport.ReadConceptOk{ConceptItem: transport.ConceptItem{ConceptID: q.ConceptID}}
	c, found, err := e.Concept(q.ConceptID)
	if err != nil || !found {
		return ok, err
	}
	ok.Found = true
	ok.Content, ok.Strength, ok.Confidence = c.Content, c.Strength, c.Confidence
	ok.Version, ok.Created, ok.Modified = c.Version, transport.Seconds(c.Created), transport.Seconds(c.Modified)
	if len(c.Attributes) > 0 || len(c.Tags) > 0 {
		ok.Metadata = &transport.Metadata{Attributes: c.Attributes, Tags: c.Tags}
	}
	return ok, nil
}
