package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// overlap is how much of a replica's feed is read again after it was restarted.
const overlap = 200

// replicaFeed is how far the checker has read one replica's feed.
type replicaFeed struct {
	read uint64 // the last event read
}

// readFeed follows a replica's own feed through to an event and compares it with the others'.
func (w *world) readFeed(id event.MasterID, through uint64) error {
	r := w.readers[id]
	// What it was sent a snapshot for, it does not have; others do, and were read before.
	if r.read = max(r.read, w.member(id).Oldest()-1); r.read >= through {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	peer, _ := w.peers.Find(id)
	var fault error
	err := w.pool.Stream(ctx, peer.Grid, &transport.WatchEvents{From: r.read + 1}, func(msg any) error {
		for _, b := range msg.(*transport.EventsOk).Events {
			if fault = w.take1(id, r, b); fault != nil {
				return transport.ErrStop
			}
		}
		if r.read >= through {
			return transport.ErrStop
		}
		return nil
	})
	if err = errors.Join(fault, err); err != nil {
		return fmt.Errorf("feed of %s behind event %d: %w", id, r.read, err)
	}
	return nil
}

// take1 compares one event of a replica with what it must follow and with the other replicas.
func (w *world) take1(id event.MasterID, r *replicaFeed, encoded []byte) error {
	e, err := event.DecodeEnvelope(encoded)
	if err != nil {
		return err
	}
	if e.Seq != r.read+1 {
		return fmt.Errorf("event %d follows event %d", e.Seq, r.read)
	}
	if err := event.Verify(w.ledger.at(r.read).chain, e); err != nil {
		return err
	}
	p, err := placeOf(e)
	if err != nil {
		return err
	}
	if w.ofEstate(e.Body) {
		p.token = ""
	}
	if err := w.ledger.add(e.Seq, p); err != nil {
		return err
	}
	r.read = e.Seq
	return nil
}

// placeOf finds the token of a client in an event.
func placeOf(e *event.Envelope) (place, error) {
	p := place{typ: e.Type, chain: e.Chain}
	switch b := e.Body.(type) {
	case event.SettingChanged:
		p.token = b.Value
	case event.AssociationTypeAdded:
		p.token, p.value = b.Name, uint64(b.Number)
	case event.AgentRegistered:
		p.token = b.Version
	case event.SpawnSucceeded:
		p.token = emitterToken(b.AgentID, 2*b.Start-1)
	case event.NodeRestarted:
		p.token = emitterToken(b.AgentID, 2*b.Start-1)
	case event.NodeCrashed:
		p.token = emitterToken(b.AgentID, 2*b.Start)
	case event.LeaderElected:
		p.term = b.Term
	}
	text, err := event.JSON(e)
	if err != nil {
		return place{}, err
	}
	p.json = sha256.Sum256(text)
	return p, nil
}

// checkStorage reads the events between from and to out of event storage, and compares them with the feed.
func (w *world) checkStorage(from, to uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for seq := from; seq <= to; seq++ {
		got, err := transport.Call[transport.QueryConceptOk](ctx, w.pool, eventsHost+":50052", &transport.QueryConcept{ConceptID: event.ConceptID(seq)})
		if err != nil {
			return fmt.Errorf("read event %d from event storage: %w", seq, err)
		}
		if !got.Found {
			return fmt.Errorf("event %d is acknowledged as shipped and is not in event storage", seq)
		}
		if sha256.Sum256([]byte(got.Content)) != w.ledger.at(seq).json {
			return fmt.Errorf("event %d differs in event storage: %s", seq, got.Content)
		}
	}
	return nil
}

// shipped waits until the state of every running master says that event storage holds the feed through an event.
func (w *world) shipped(through uint64) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for _, id := range w.running() {
		m := w.member(id)
		for {
			changed := m.Changed()
			if m.View().Cursor("events").Through >= through {
				break
			}
			select {
			case <-changed:
			case <-limit.C:
				return fmt.Errorf("%s: event storage holds %d of %d events after %s", id, m.View().Cursor("events").Through, through, patience)
			}
		}
	}
	return nil
}
