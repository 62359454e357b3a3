package txn

import (
	"encoding/binary"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What a mark is made of has forms of its own, so that a field that is added to a message does not make a transaction that is repeated
// over an upgrade another one. They are those of the frame of a Txn when marks began; what later kinds of operations added stands
// behind that, for these alone.

type markedTxn struct {
	RequestID     event.RequestID `wire:"request_id"`
	Issued        int64           `wire:"issued"`
	TimeoutMillis uint32          `wire:"timeout_millis"`
	Ops           []markedOp      `wire:"ops"`
}

type markedOp struct {
	Kind       transport.OpKind `wire:"kind"`
	ID         string           `wire:"id"`
	Target     string           `wire:"target"`
	AssocType  uint32           `wire:"assoc_type"`
	Content    string           `wire:"content"`
	Embedding  []float32        `wire:"embedding"`
	Strength   float32          `wire:"strength"`
	Confidence float32          `wire:"confidence"`
	Metadata   *markedMetadata  `wire:"metadata"`
}

type markedMetadata struct {
	Attributes map[string]string `wire:"attributes"`
	Tags       []string          `wire:"tags"`
}

// markedMore are the fields of an operation on an attribute or a version.
type markedMore struct {
	Index   int    `wire:"index"`
	Key     string `wire:"key"`
	Value   string `wire:"value"`
	Number  int64  `wire:"number"`
	Version uint64 `wire:"version"`
}

// formOf is the form of operations: equal for equal ones, and for no others.
func formOf(ops []transport.Op) ([]byte, error) {
	t := markedTxn{Ops: make([]markedOp, len(ops))}
	var more []markedMore
	for i := range ops {
		o := &ops[i]
		t.Ops[i] = markedOp{Kind: o.Kind, ID: o.ID, Target: o.Target, AssocType: o.AssocType, Content: o.Content, Embedding: o.Embedding,
			Strength: o.Strength, Confidence: o.Confidence}
		if o.Metadata != nil {
			t.Ops[i].Metadata = &markedMetadata{o.Metadata.Attributes, o.Metadata.Tags}
		}
		switch o.Kind {
		case transport.OpSetAttribute, transport.OpAdd, transport.OpVersion, transport.OpAttributeEquals, transport.OpAttributeAtLeast:
			more = append(more, markedMore{i, o.Key, o.Value, o.Number, o.Version})
		}
	}
	b := pack.AppendString(pack.AppendMapHeader(make([]byte, 4), 1), "Txn")
	b, err := pack.Append(b, t)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if len(more) == 0 {
		return b, nil
	}
	return pack.AppendArray(b, more)
}
