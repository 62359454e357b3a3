package feed

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Association types in event storage: an entity's event has the event's code, the others are these.
const (
	assocCausedBy = 900 // event -> the event that brought it about
	assocAtMinute = 999 // event -> its time bucket
)

// maxKnown bounds how many concepts a session remembers to have stored; beyond it they are stored again, which changes
// nothing.
const maxKnown = 1 << 16

// writer turns events into requests of the storage protocol: for each event its concept, then the entities and the time
// bucket it refers to, then the edges (safety S10). Everything is idempotent by id.
type writer struct {
	known    map[string]struct{} // concepts of entities and time buckets that this session has stored
	requests []any
	sent     uint64 // an earlier session has sent the events up to here, and perhaps heard nothing of it
}

func newWriter(sent uint64) *writer { return &writer{known: map[string]struct{}{}, sent: sent} }

// add appends the requests of one event.
func (w *writer) add(r fsm.Record) (*event.Envelope, error) {
	e, err := event.DecodeEnvelope(r.Bytes)
	if err != nil {
		return nil, err
	}
	flat, err := event.Flatten(e)
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	info := event.Info(e.Type)
	entities := info.Entity(e.Body)
	id := event.ConceptID(e.Seq)
	if fault.Broken(fault.ReshipWithoutIdempotency) && e.Seq <= w.sent {
		id += "-again"
	}
	w.concept(id, string(flat.JSON), attributesOf(e, info, flat, entities))
	for _, entity := range entities {
		w.once(entity, "entity")
	}
	minute := strconv.FormatInt(time.UnixMicro(e.Time).Unix()/60, 10)
	w.once("ts-"+minute, "time")
	for _, entity := range entities {
		w.edge(entity, id, uint32(e.Type))
	}
	if e.Cause != 0 {
		w.edge(id, event.ConceptID(e.Cause), assocCausedBy)
	}
	w.edge(id, "ts-"+minute, assocAtMinute)
	return e, nil
}

func (w *writer) concept(id, content string, attributes map[string]string) {
	w.requests = append(w.requests, &transport.LearnConcept{ConceptID: id, Content: content, Strength: 1, Confidence: 1,
		Metadata: &transport.Metadata{Attributes: attributes}})
}

// once stores a concept that events share.
func (w *writer) once(id, kind string) {
	if _, ok := w.known[id]; ok {
		return
	}
	if len(w.known) >= maxKnown {
		clear(w.known)
	}
	w.known[id] = struct{}{}
	w.concept(id, id, map[string]string{"kind": kind})
}

func (w *writer) edge(source, target string, assocType uint32) {
	w.requests = append(w.requests, &transport.LearnAssociation{SourceID: source, TargetID: target, AssocType: assocType, Confidence: 1})
}

// take returns the requests so far and starts anew.
func (w *writer) take() []any {
	out := w.requests
	w.requests = nil
	return out
}

// attributesOf is what event storage finds an event by: texts as they stand in its JSON form.
func attributesOf(e *event.Envelope, info event.TypeInfo, flat *event.Flat, entities []string) map[string]string {
	attributes := map[string]string{"event_type": info.Name, "class": info.Class.String(), "chain": hex.EncodeToString(e.Chain[:]), "timestamp": event.FormatTime(e.Time)}
	for _, id := range [...]struct{ name, value string }{
		{"agent_id", flat.AgentID}, {"node_id", flat.NodeID}, {"shard_id", flat.ShardID}, {"txn_id", flat.TxnID},
	} {
		if id.value != "" {
			attributes[id.name] = id.value
		}
	}
	if len(entities) > 0 {
		attributes["entity"] = entities[0]
	}
	return attributes
}
