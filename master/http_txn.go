package master

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/txnjson"
	"github.com/sutra-grid/sutra-grid/master/txn"
	"github.com/sutra-grid/sutra-grid/transport"
)

// txn runs a transaction. Its statuses are few, so that every client can act on them: 200 it happened; 409 it did not and never will; 400 and 413
// it is no transaction; 422 its id is another one's; 503 nobody knows yet, and the same id gives the outcome.
func (a *api) txn(ctx context.Context, r *http.Request) (reply, error) {
	data, err := readAll(r.Body)
	if err != nil {
		return reply{}, err
	}
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	t, err := txnjson.Decode(data, func(name string) (uint32, error) {
		ok, err := c.associationType(ctx, &transport.AssociationType{Name: name})
		if err != nil {
			return 0, err
		}
		return ok.Number, nil
	})
	if err != nil {
		return txnFailure(&transport.Txn{}, err), nil
	}
	ok, err := transport.As[transport.TxnOk](c.Handle(ctx, nil, t))
	if err != nil {
		return txnFailure(t, err), nil
	}
	con := contract{Seq: ok.Seq, Epoch: c.replica.View().Epoch().Seq}
	return reply{http.StatusOK, struct {
		*txnjson.Committed
		contract
	}{txnjson.CommittedOf(t.Ops, ok), con}, con}, nil
}

// txnFailure is the reply to a transaction that did not happen, or may not have.
func txnFailure(t *transport.Txn, err error) reply {
	rep := failure(err)
	e := asError("txn", err)
	switch {
	case e.Kind == event.KindAborted, e.Kind == event.KindPrecondition:
		body := txnjson.AbortedOf(e, txn.Reason(err))
		if !t.RequestID.IsZero() {
			body.TxnID = t.RequestID.String()
		}
		rep.body = body
	case rep.status != http.StatusBadRequest && rep.status != http.StatusRequestEntityTooLarge && rep.status != http.StatusUnprocessableEntity:
		rep.status = http.StatusServiceUnavailable
	}
	return rep
}

// conceptBody is a concept as GET answers it.
type conceptBody struct {
	ConceptID string `json:"concept_id"`
	*txnjson.Concept
	ShardSeq uint64 `json:"shard_seq"` // the shard's log index that it stands for
	contract
}

// ageless is a body whose age nobody knows: a shard's replica does not tell how old its state is.
type ageless interface{ ageless() }

func (conceptBody) ageless() {}

// getConcept reads one concept: linearizable, or of any replica of its shard (?consistency=stale).
func (a *api) getConcept(ctx context.Context, r *http.Request) (reply, error) {
	q := &transport.Query{Consistency: r.URL.Query().Get("consistency"), Request: transport.Any{Value: &transport.ReadConcept{ConceptID: r.PathValue("id")}}}
	c, err := a.core(ctx)
	if err != nil {
		return reply{}, err
	}
	ok, err := transport.As[transport.QueryOk](c.Handle(ctx, nil, q))
	if err != nil {
		return reply{}, err
	}
	got, err := transport.As[transport.ReadConceptOk](ok.Reply.Value, nil)
	if err != nil || len(ok.Reads) != 1 {
		return reply{}, errors.Join(err, fmt.Errorf("a read of one concept was answered by %d shards", len(ok.Reads)))
	}
	if !got.Found {
		return reply{status: http.StatusNotFound, body: errorBody{fmt.Sprintf("there is no concept %q", got.ConceptID), event.KindNotFound, "learn it first, for example with POST /api/txn"}}, nil
	}
	con := contract{Seq: c.replica.View().Seq(), Epoch: ok.Epoch.Seq, Read: transport.Read{ReadMode: ok.Reads[0].ReadMode}}
	body := conceptBody{ConceptID: got.ConceptID, ShardSeq: ok.Reads[0].ShardSeq, contract: con}
	body.Concept = &txnjson.Concept{Content: got.Content, Strength: got.Strength, Confidence: got.Confidence, Version: got.Version, Created: got.Created, Modified: got.Modified}
	if got.Metadata != nil {
		body.Attributes, body.Tags = got.Metadata.Attributes, got.Metadata.Tags
	}
	body.Concept = txnjson.NewConcept(*body.Concept)
	return reply{http.StatusOK, body, con}, nil
}
