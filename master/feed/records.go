package feed

import (
	"encoding/json"
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
	content, err := event.JSON(e)
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	entities := event.Info(e.Type).Entity(e.Body)
	attributes, err := attributesOf(content, entities)
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	id := event.ConceptID(e.Seq)
	if fault.Broken(fault.ReshipWithoutIdempotency) && e.Seq <= w.sent {
		id += "-again"
	}
	w.concept(id, string(content), attributes)
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

// indexed are the fields of an event's JSON form that event storage finds events by.
type indexed struct {
	EventType string `json:"event_type"`
	AgentID   string `json:"agent_id"`
	NodeID    string `json:"node_id"`
	ShardID   string `json:"shard_id"`
	TxnID     string `json:"txn_id"`
	Class     string `json:"class"`
	Chain     string `json:"chain"`
	Timestamp string `json:"timestamp"`
}

// attributesOf takes the attributes from the JSON form, so that the two never differ.
func attributesOf(content []byte, entities []string) (map[string]string, error) {
	var f indexed
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, fmt.Errorf("read its JSON form: %w", err)
	}
	attributes := map[string]string{"event_type": f.EventType, "class": f.Class, "chain": f.Chain, "timestamp": f.Timestamp}
	for name, value := range map[string]string{"agent_id": f.AgentID, "node_id": f.NodeID, "shard_id": f.ShardID, "txn_id": f.TxnID} {
		if value != "" {
			attributes[name] = value
		}
	}
	if len(entities) > 0 {
		attributes["entity"] = entities[0]
	}
	return attributes, nil
}
