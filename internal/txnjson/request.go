package txnjson

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TypeNumber finds the number of an association type by its name. Its errors are passed on.
type TypeNumber func(name string) (uint32, error)

// MaxBytes bounds a request: embeddings are the longest part of one, and take about twice the bytes of their binary form.
const MaxBytes = 2 * transport.MaxTxnBytes

// request is the form of a transaction.
type request struct {
	RequestID     string                       `json:"request_id,omitempty"` // 32 hex digits
	TimeoutMillis uint32                       `json:"timeout_ms,omitempty"`
	Ops           []map[string]json.RawMessage `json:"ops"` // each of one member: the operation's kind
}

// The operations' forms. A pointer is a field that must be there, or whose absence means something.
type (
	conceptID struct {
		ID *string `json:"id"`
	}
	learnConcept struct {
		ID         *string           `json:"id"`
		Content    string            `json:"content,omitempty"`
		Embedding  []float32         `json:"embedding,omitempty"`
		Strength   *float32          `json:"strength,omitempty"`   // 1
		Confidence *float32          `json:"confidence,omitempty"` // 1
		Attributes map[string]string `json:"attributes,omitempty"`
		Tags       []string          `json:"tags,omitempty"`
	}
	learnAssociation struct {
		Source     *string         `json:"source"`
		Target     *string         `json:"target"`
		Type       json.RawMessage `json:"type,omitempty"`       // a name or a number; 0
		Confidence *float32        `json:"confidence,omitempty"` // 1
	}
	deleteAssociation struct {
		Source *string         `json:"source"`
		Target *string         `json:"target"`
		Type   json.RawMessage `json:"type,omitempty"` // a name or a number; all types
	}
	keyValue struct {
		ID    *string `json:"id"`
		Key   *string `json:"key"`
		Value *string `json:"value"`
	}
	keyDelta struct {
		ID    *string `json:"id"`
		Key   *string `json:"key"`
		Delta *int64  `json:"delta"`
	}
	keyAtLeast struct {
		ID    *string `json:"id"`
		Key   *string `json:"key"`
		Value *int64  `json:"value"`
	}
	atVersion struct {
		ID      *string `json:"id"`
		Version *uint64 `json:"version"`
	}
)

// Decode reads a transaction. Errors are *event.Error, of KindInvalid or KindTooLarge, with the operation's number if one is at fault; or those of types.
func Decode(data []byte, types TypeNumber) (*transport.Txn, error) {
	if len(data) > MaxBytes {
		return nil, &event.Error{Kind: event.KindTooLarge, Op: "read transaction", Message: fmt.Sprintf("%d bytes of JSON: at most %d are allowed", len(data), MaxBytes)}
	}
	if !utf8.Valid(data) { // the decoder would replace what is not, and nobody would know
		return nil, invalid(0, errors.New("the JSON is not UTF-8"))
	}
	var r request
	if err := strict(data, &r); err != nil {
		return nil, invalid(0, err)
	}
	t := &transport.Txn{TimeoutMillis: r.TimeoutMillis}
	if r.RequestID != "" {
		n, err := hex.Decode(t.RequestID[:], []byte(r.RequestID[:min(len(r.RequestID), 2*len(t.RequestID))]))
		if err != nil || n != len(t.RequestID) || len(r.RequestID) != 2*n || t.RequestID.IsZero() {
			return nil, invalid(0, fmt.Errorf("request_id %.40q: want 32 hex digits, not all 0", r.RequestID))
		}
	}
	if len(r.Ops) > transport.MaxOps {
		return nil, &event.Error{Kind: event.KindTooLarge, Op: "read transaction", Message: fmt.Sprintf("%d ops: at most %d are allowed", len(r.Ops), transport.MaxOps)}
	}
	for i, member := range r.Ops {
		op, err := decodeOp(member, types)
		var known *event.Error
		switch {
		case errors.As(err, &known):
			return nil, err
		case err != nil:
			return nil, invalid(i+1, err)
		}
		t.Ops = append(t.Ops, op)
	}
	return t, nil
}

func invalid(opNumber int, err error) *event.Error {
	e := &event.Error{Kind: event.KindInvalid, Op: "read transaction", OpNumber: uint32(opNumber), Message: err.Error()}
	if opNumber > 0 {
		e.Message = fmt.Sprintf("ops[%d]: %s", opNumber-1, e.Message)
	}
	return e
}

// strict decodes the one value of data, whose fields must all be known.
func strict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("not the JSON of a transaction: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the JSON")
	}
	return nil
}

// decodeOp reads the one member of an operation.
func decodeOp(member map[string]json.RawMessage, types TypeNumber) (op transport.Op, err error) {
	if len(member) != 1 {
		return op, fmt.Errorf("%d members: want one, whose name is the kind of the operation", len(member))
	}
	for kind, fields := range member {
		read, known := readers[transport.OpKind(kind)]
		if !known {
			return op, fmt.Errorf("unknown operation %.40q", kind)
		}
		if op, err = read(fields, types); err != nil {
			return op, fmt.Errorf("%s: %w", kind, err)
		}
		if op.Kind == "" {
			op.Kind = transport.OpKind(kind)
		}
	}
	return op, nil
}

// reader reads the fields of one kind of operation.
type reader func(fields []byte, types TypeNumber) (transport.Op, error)

// readers is the one table of what operations there are.
var readers = map[transport.OpKind]reader{
	transport.OpRead: readID, transport.OpReadNeighbors: readID, transport.OpDeleteConcept: readID, transport.OpExists: readID, transport.OpAbsent: readID,
	transport.OpLearnConcept: readConcept, transport.OpLearnAssociation: readAssociation, transport.OpDeleteAssociation: readDelete,
	transport.OpSetAttribute: readValue, transport.OpAttributeEquals: readValue, transport.OpAdd: readDelta, transport.OpAttributeAtLeast: readAtLeast,
	transport.OpVersion: readVersion,
}

// fieldsOf reads the fields of an operation's form.
func fieldsOf[T any](data []byte) (f T, err error) {
	if string(data) == "null" {
		return f, errors.New("want an object")
	}
	return f, strict(data, &f)
}

// need is the value of a field that must be there.
func need[T any](v *T, name string, err *error) T {
	if v == nil {
		if *err == nil {
			*err = fmt.Errorf("%s is missing", name)
		}
		return *new(T)
	}
	return *v
}

// or is the value of a field, or what it is when it is missing.
func or(v *float32, missing float32) float32 {
	if v == nil {
		return missing
	}
	return *v
}

func readID(data []byte, _ TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[conceptID](data)
	op.ID = need(f.ID, "id", &err)
	return op, err
}

func readConcept(data []byte, _ TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[learnConcept](data)
	op = transport.Op{ID: need(f.ID, "id", &err), Content: f.Content, Embedding: f.Embedding, Strength: or(f.Strength, 1), Confidence: or(f.Confidence, 1)}
	if len(f.Attributes) > 0 || len(f.Tags) > 0 {
		op.Metadata = &transport.Metadata{Attributes: f.Attributes, Tags: f.Tags}
	}
	if len(f.Embedding) == 0 {
		op.Embedding = nil
	}
	return op, err
}

func readAssociation(data []byte, types TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[learnAssociation](data)
	op = transport.Op{ID: need(f.Source, "source", &err), Target: need(f.Target, "target", &err), Confidence: or(f.Confidence, 1)}
	if err == nil && len(f.Type) > 0 {
		op.AssocType, err = typeOf(f.Type, types)
	}
	return op, err
}

func readDelete(data []byte, types TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[deleteAssociation](data)
	op = transport.Op{ID: need(f.Source, "source", &err), Target: need(f.Target, "target", &err)}
	if err == nil && len(f.Type) > 0 {
		op.Kind = transport.OpDeleteAssociationType
		op.AssocType, err = typeOf(f.Type, types)
	}
	return op, err
}

func readValue(data []byte, _ TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[keyValue](data)
	op = transport.Op{ID: need(f.ID, "id", &err), Key: need(f.Key, "key", &err), Value: need(f.Value, "value", &err)}
	return op, err
}

func readDelta(data []byte, _ TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[keyDelta](data)
	op = transport.Op{ID: need(f.ID, "id", &err), Key: need(f.Key, "key", &err), Number: need(f.Delta, "delta", &err)}
	return op, err
}

func readAtLeast(data []byte, _ TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[keyAtLeast](data)
	op = transport.Op{ID: need(f.ID, "id", &err), Key: need(f.Key, "key", &err), Number: need(f.Value, "value", &err)}
	return op, err
}

func readVersion(data []byte, _ TypeNumber) (op transport.Op, err error) {
	f, err := fieldsOf[atVersion](data)
	op = transport.Op{ID: need(f.ID, "id", &err), Version: need(f.Version, "version", &err)}
	return op, err
}

// typeOf is an association type: a number is itself, a name the grid knows.
func typeOf(data json.RawMessage, types TypeNumber) (uint32, error) {
	if data[0] == '"' {
		var name string
		if err := json.Unmarshal(data, &name); err != nil {
			return 0, err
		}
		return types(name)
	}
	n, err := strconv.ParseUint(string(data), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("type %.20s: want a name, or a number up to %d", data, uint32(math.MaxUint32))
	}
	return uint32(n), nil
}
