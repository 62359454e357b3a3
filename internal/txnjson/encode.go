package txnjson

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Encode writes a transaction in the form that Decode reads; types of associations as numbers. It fails for halves of operations, which no
// client sends, and for numbers that JSON does not have.
func Encode(t *transport.Txn) ([]byte, error) {
	r := request{TimeoutMillis: t.TimeoutMillis, Ops: make([]map[string]json.RawMessage, len(t.Ops))}
	if !t.RequestID.IsZero() {
		r.RequestID = t.RequestID.String()
	}
	for i := range t.Ops {
		kind, form, err := formOf(&t.Ops[i])
		if err != nil {
			return nil, fmt.Errorf("ops[%d]: %w", i, err)
		}
		fields, err := json.Marshal(form)
		if err != nil {
			return nil, fmt.Errorf("ops[%d]: %w", i, err)
		}
		r.Ops[i] = map[string]json.RawMessage{string(kind): fields}
	}
	return json.Marshal(r)
}

// formOf is an operation's member: its name and its fields.
func formOf(o *transport.Op) (transport.OpKind, any, error) {
	number := json.RawMessage(strconv.FormatUint(uint64(o.AssocType), 10))
	switch o.Kind {
	case transport.OpRead, transport.OpReadNeighbors, transport.OpDeleteConcept, transport.OpExists, transport.OpAbsent:
		return o.Kind, conceptID{&o.ID}, nil
	case transport.OpLearnConcept:
		f := learnConcept{ID: &o.ID, Content: o.Content, Embedding: o.Embedding, Strength: &o.Strength, Confidence: &o.Confidence}
		if o.Metadata != nil {
			f.Attributes, f.Tags = o.Metadata.Attributes, o.Metadata.Tags
		}
		return o.Kind, f, nil
	case transport.OpLearnAssociation:
		return o.Kind, learnAssociation{&o.ID, &o.Target, number, &o.Confidence}, nil
	case transport.OpDeleteAssociation:
		return o.Kind, deleteAssociation{&o.ID, &o.Target, nil}, nil
	case transport.OpDeleteAssociationType:
		return transport.OpDeleteAssociation, deleteAssociation{&o.ID, &o.Target, number}, nil
	case transport.OpSetAttribute, transport.OpAttributeEquals:
		return o.Kind, keyValue{&o.ID, &o.Key, &o.Value}, nil
	case transport.OpAdd:
		return o.Kind, keyDelta{&o.ID, &o.Key, &o.Number}, nil
	case transport.OpAttributeAtLeast:
		return o.Kind, keyAtLeast{&o.ID, &o.Key, &o.Number}, nil
	case transport.OpVersion:
		return o.Kind, atVersion{&o.ID, &o.Version}, nil
	}
	return "", nil, fmt.Errorf("%.40q has no form in JSON", o.Kind)
}
