package feed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// callTimeout bounds one exchange with a sink; a batch is one group commit there.
const callTimeout = 30 * time.Second

// featureBatch in HelloOk: the server takes Batch.
const featureBatch = "batch"

// sinkConn is one connection to a sink, any server of the storage protocol.
type sinkConn struct {
	ctx     context.Context
	conn    *transport.Conn
	batches bool // the server takes Batch, each one group commit
}

func dialSink(ctx context.Context, pool *transport.Pool, address string) (*sinkConn, error) {
	timed, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := pool.Dial(timed, address)
	if err != nil {
		return nil, err
	}
	hello := conn.Hello()
	return &sinkConn{ctx: ctx, conn: conn, batches: hello != nil && slices.Contains(hello.Features, featureBatch)}, nil
}

func (c *sinkConn) close() { _ = c.conn.Close() } // nothing is pending on it

func (c *sinkConn) call(req any) (any, error) {
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	return c.conn.Call(ctx, req)
}

// concept reads one concept.
func (c *sinkConn) concept(id string) (*transport.QueryConceptOk, error) {
	reply, err := c.call(&transport.QueryConcept{ConceptID: id})
	if err != nil {
		return nil, fmt.Errorf("read concept %s: %w", id, err)
	}
	ok, is := reply.(*transport.QueryConceptOk)
	if !is {
		return nil, fmt.Errorf("read concept %s: the sink answered %T", id, reply)
	}
	return ok, nil
}

// store writes requests in order and returns when all of them are durable in the sink. Any one that fails is an error, and
// then some may be stored and others not: the caller stores all of them again.
func (c *sinkConn) store(requests []any) error {
	if !c.batches {
		return c.storePlain(requests)
	}
	for chunk := range slices.Chunk(requests, transport.MaxBatch) {
		if err := c.storeBatch(chunk); err != nil {
			return err
		}
	}
	return nil
}

func (c *sinkConn) storeBatch(requests []any) error {
	batch := &transport.Batch{Requests: make([]transport.Any, len(requests))}
	for i, r := range requests {
		batch.Requests[i].Value = r
	}
	reply, err := c.call(batch)
	if err != nil {
		return fmt.Errorf("store batch: %w", err)
	}
	ok, is := reply.(*transport.BatchOk)
	if !is || len(ok.Replies) != len(requests) {
		return fmt.Errorf("store batch of %d: the sink answered %T", len(requests), reply)
	}
	for i, r := range ok.Replies {
		if err := stored(requests[i], r.Value); err != nil {
			return fmt.Errorf("store batch: %w", err)
		}
	}
	return nil
}

// storePlain is for any other Sutra server: one message after the other, then Flush makes them durable.
func (c *sinkConn) storePlain(requests []any) error {
	for _, req := range append(slices.Clone(requests), &transport.Flush{}) {
		reply, err := c.call(req)
		if err == nil {
			err = stored(req, reply)
		}
		if err != nil {
			return fmt.Errorf("store %s: %w", transport.VariantName(req), err)
		}
	}
	return nil
}

// stored checks that a reply is the one that means success.
func stored(req, reply any) error {
	ok := false
	switch req.(type) {
	case *transport.LearnConcept:
		_, ok = reply.(*transport.LearnConceptOk)
	case *transport.LearnAssociation:
		_, ok = reply.(*transport.LearnAssociationOk)
	case *transport.Flush:
		_, ok = reply.(*transport.FlushOk)
	}
	if ok {
		return nil
	}
	if e, is := reply.(*event.Error); is {
		return e
	}
	return fmt.Errorf("%s answered with %T", transport.VariantName(req), reply)
}

// identify proves that the sink is the one the state knows, and introduces a new one. The id in the sink and the id in the
// state must be equal; the state's comes first, so that two leaders that meet a new sink at once cannot leave it with
// two: the first feed_acked with an id decides, and only a decided id is written.
func (w *worker) identify(conn *sinkConn, gridID string, cursor fsm.Cursor) (string, error) {
	held, err := conn.concept(idConcept(gridID))
	if err != nil {
		return "", err
	}
	switch {
	case held.Found && cursor.SinkID == "": // it has seen this grid before; what it holds is verified by chain
		return held.Content, w.introduce(held.Content)
	case held.Found && held.Content != cursor.SinkID:
		return "", lostf("it identifies itself as %s, but %s acknowledged the feed through %d: another store answers at this address", held.Content, cursor.SinkID, cursor.Through)
	case held.Found:
		return cursor.SinkID, nil
	case cursor.Through > 0:
		return "", lostf("it acknowledged the feed through %d as %s, and now is empty: its data is lost", cursor.Through, cursor.SinkID)
	}
	id := cursor.SinkID
	if id == "" {
		id = newSinkID()
		if err := w.introduce(id); err != nil {
			return "", err
		}
	}
	return id, conn.name(gridID, id)
}

// idConcept is the concept in which a sink holds its id.
func idConcept(gridID string) string { return "grid-feed-" + gridID }

// name writes the id of the store into it, durably.
func (c *sinkConn) name(gridID, id string) error {
	return c.store([]any{&transport.LearnConcept{ConceptID: idConcept(gridID), Content: id, Strength: 1, Confidence: 1,
		Metadata: &transport.Metadata{Attributes: map[string]string{"kind": "feed", "grid_id": gridID}}}})
}

// introduce makes id the sink's in the state. Apply refuses it when the sink has another by now.
func (w *worker) introduce(id string) error {
	return w.proposeAck(id, 0, event.Chain{})
}

func newSinkID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// verify compares the chain on both sides of the cursor: the sink must hold the event it acknowledged last, and if it holds
// the next one, that must be ours. Equal ids prove nothing, equal chain values prove everything before them (safety S2).
func (w *worker) verify(conn *sinkConn, cursor fsm.Cursor) error {
	if cursor.Through > 0 {
		held, err := chainIn(conn, cursor.Through)
		if err != nil {
			return err
		}
		if held == "" {
			return lostf("it acknowledged the feed through %d, and now has no such event: it lost data", cursor.Through)
		}
		if err := sameChain(cursor.Through, held, cursor.Chain); err != nil {
			return err
		}
	}
	return w.verifyNext(conn, cursor.Through+1)
}

// verifyNext checks that the event that is shipped next, if the sink holds it, is ours.
func (w *worker) verifyNext(conn *sinkConn, next uint64) error {
	held, err := chainIn(conn, next)
	if err != nil || held == "" {
		return err
	}
	records, err := w.cfg.Outbox.Range(next, 1, 0)
	if errors.Is(err, ErrTrimmed) {
		return nil // shipping will say so
	}
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return refusef("it holds event %d, which this grid does not have yet: it holds another history", next)
	}
	ours, err := chainOf(records[0].Bytes)
	if err != nil {
		return err
	}
	return sameChain(next, held, ours)
}

// sameChain refuses a sink whose event is not ours.
func sameChain(seq uint64, held string, ours event.Chain) error {
	if held == hexChain(ours) {
		return nil
	}
	return refusef("its event %d has chain %s, the feed's has %s: it holds another history", seq, held, hexChain(ours))
}

// chainIn is the chain value of an event in the sink, empty when it does not have the event.
func chainIn(conn *sinkConn, seq uint64) (string, error) {
	c, err := conn.concept(event.ConceptID(seq))
	if err != nil || !c.Found {
		return "", err
	}
	if c.Metadata == nil || c.Metadata.Attributes["chain"] == "" {
		return "", refusef("its concept %s has no chain: it is not an event of a feed", event.ConceptID(seq))
	}
	return c.Metadata.Attributes["chain"], nil
}
