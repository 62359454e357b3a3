package history

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/sutra-grid/sutra-grid/transport"
)

// args is an operation's arguments in JSON, as POST /api/txn names them. Vectors are not recorded: no checker looks at them.
type args struct {
	ID         string            `json:"id,omitempty"`
	Source     string            `json:"source,omitempty"`
	Target     string            `json:"target,omitempty"`
	Type       uint32            `json:"type,omitempty"`
	Content    string            `json:"content,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Key        string            `json:"key,omitempty"`
	Value      *json.RawMessage  `json:"value,omitempty"` // a string, or attribute_at_least's number
	Delta      int64             `json:"delta,omitempty"`
	Version    uint64            `json:"version,omitempty"`
}

// jsonOp is an operation as {"<kind>":{…}}.
type jsonOp struct{ transport.Op }

// MarshalJSON implements json.Marshaler.
func (o jsonOp) MarshalJSON() ([]byte, error) {
	a := args{ID: o.ID, Key: o.Key, Content: o.Content, Version: o.Version, Type: o.AssocType}
	var value any
	switch o.Kind {
	case transport.OpLearnAssociation, transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
		a.ID, a.Source, a.Target = "", o.ID, o.Target
	case transport.OpAdd:
		a.Delta = o.Number
	case transport.OpAttributeAtLeast:
		value = o.Number
	case transport.OpSetAttribute, transport.OpAttributeEquals:
		value = o.Value
	}
	if value != nil {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		a.Value = (*json.RawMessage)(&raw)
	}
	if o.Metadata != nil {
		a.Attributes = o.Metadata.Attributes
	}
	return json.Marshal(map[transport.OpKind]args{o.Kind: a})
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *jsonOp) UnmarshalJSON(b []byte) error {
	var one map[transport.OpKind]args
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&one); err != nil {
		return err
	}
	if len(one) != 1 {
		return fmt.Errorf("an operation with %d names", len(one))
	}
	for kind, a := range one {
		return o.set(kind, a)
	}
	return nil
}

func (o *jsonOp) set(kind transport.OpKind, a args) error {
	o.Op = transport.Op{Kind: kind, ID: a.ID, Target: a.Target, AssocType: a.Type, Content: a.Content, Key: a.Key, Number: a.Delta, Version: a.Version}
	if a.Attributes != nil {
		o.Metadata = &transport.Metadata{Attributes: a.Attributes}
	}
	into := any(nil)
	switch kind {
	case transport.OpLearnConcept, transport.OpDeleteConcept, transport.OpRead, transport.OpReadNeighbors, transport.OpExists, transport.OpAbsent,
		transport.OpVersion, transport.OpAdd:
	case transport.OpLearnAssociation, transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
		o.ID = a.Source
	case transport.OpAttributeAtLeast:
		into = &o.Number
	case transport.OpSetAttribute, transport.OpAttributeEquals:
		into = &o.Value
	default:
		return fmt.Errorf("operation %.32q", kind)
	}
	if into == nil {
		return nil
	}
	if a.Value == nil {
		return fmt.Errorf("%s without a value", kind)
	}
	return json.Unmarshal(*a.Value, into)
}

// jsonResult is what an operation was answered; null: nothing.
type jsonResult struct{ transport.OpResult }

// answer is a result's form.
type answer struct {
	Found      *bool             `json:"found,omitempty"`
	Content    string            `json:"content,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Version    uint64            `json:"version,omitempty"`
	Neighbors  []string          `json:"neighbors,omitempty"`
	Value      int64             `json:"value,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r jsonResult) MarshalJSON() ([]byte, error) {
	a := answer{Content: r.Content, Attributes: r.Attributes, Version: r.Version, Neighbors: r.Neighbors, Value: r.Value}
	if r.Found {
		a.Found = &r.Found
	}
	return json.Marshal(a)
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *jsonResult) UnmarshalJSON(b []byte) error {
	var a answer
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return err
	}
	r.OpResult = transport.OpResult{Found: a.Found != nil && *a.Found, Content: a.Content, Attributes: a.Attributes, Version: a.Version, Neighbors: a.Neighbors, Value: a.Value}
	return nil
}
