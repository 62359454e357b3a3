package engine

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What the log and the store hold has forms of its own: a field that is added to a message of the protocol changes neither
// an entry's bytes nor a row's. The forms follow the messages field by field.

type metadataForm struct {
	Attributes map[string]string `wire:"attributes,optional"`
	Tags       []string          `wire:"tags,optional"`
}

// opForm has what level 3 added at its end; those that use none of it are written as opForm1.
type opForm struct {
	Kind       transport.OpKind `wire:"kind"`
	ID         string           `wire:"id"`
	Target     string           `wire:"target,optional"`
	AssocType  uint32           `wire:"assoc_type,optional"`
	Content    string           `wire:"content,optional"`
	Embedding  []float32        `wire:"embedding,optional"`
	Strength   float32          `wire:"strength,optional"`
	Confidence float32          `wire:"confidence,optional"`
	Metadata   *metadataForm    `wire:"metadata,optional"`
	Key        string           `wire:"key,optional"`
	Value      string           `wire:"value,optional"`
	Number     int64            `wire:"number,optional"`
	Version    uint64           `wire:"version,optional"`
}

// opForm1 is the form of levels 1 and 2. A list of ops has one form: this one as long as it can, so that what older versions
// understand stays byte for byte what they write, and a request that is repeated over an upgrade is the same one.
type opForm1 struct {
	Kind       transport.OpKind `wire:"kind"`
	ID         string           `wire:"id"`
	Target     string           `wire:"target,optional"`
	AssocType  uint32           `wire:"assoc_type,optional"`
	Content    string           `wire:"content,optional"`
	Embedding  []float32        `wire:"embedding,optional"`
	Strength   float32          `wire:"strength,optional"`
	Confidence float32          `wire:"confidence,optional"`
	Metadata   *metadataForm    `wire:"metadata,optional"`
}

type writeForm struct {
	Ops []opForm `wire:"ops"`
}

type writeForm1 struct {
	Ops []opForm1 `wire:"ops"`
}

type prepareForm struct {
	TxnID        event.TxnID     `wire:"txn_id"`
	Attempt      uint64          `wire:"attempt"`
	Begin        event.Position  `wire:"begin"`
	Start        int64           `wire:"start"`
	Coordinator  event.MasterID  `wire:"coordinator"`
	Participants []event.ShardID `wire:"participants"`
	Issued       int64           `wire:"issued"`
	Horizon      event.Position  `wire:"horizon"`
	Ops          []opForm        `wire:"ops"`
	Part         uint32          `wire:"part,optional"`
	Open         bool            `wire:"open,optional"`
}

type prepareForm1 struct {
	TxnID        event.TxnID     `wire:"txn_id"`
	Attempt      uint64          `wire:"attempt"`
	Begin        event.Position  `wire:"begin"`
	Start        int64           `wire:"start"`
	Coordinator  event.MasterID  `wire:"coordinator"`
	Participants []event.ShardID `wire:"participants"`
	Issued       int64           `wire:"issued"`
	Horizon      event.Position  `wire:"horizon"`
	Ops          []opForm1       `wire:"ops"`
}

type finishForm struct {
	TxnID   event.TxnID    `wire:"txn_id"`
	Attempt uint64         `wire:"attempt"`
	Begin   event.Position `wire:"begin"`
	Commit  bool           `wire:"commit"`
	Horizon event.Position `wire:"horizon"`
}

func formOfMetadata(m *transport.Metadata) *metadataForm {
	if m == nil {
		return nil
	}
	return &metadataForm{Attributes: m.Attributes, Tags: m.Tags}
}

func (f *opForm) op() transport.Op {
	o := transport.Op{Kind: f.Kind, ID: f.ID, Target: f.Target, AssocType: f.AssocType, Content: f.Content, Embedding: f.Embedding,
		Strength: f.Strength, Confidence: f.Confidence, Key: f.Key, Value: f.Value, Number: f.Number, Version: f.Version}
	if f.Metadata != nil {
		o.Metadata = &transport.Metadata{Attributes: f.Metadata.Attributes, Tags: f.Metadata.Tags}
	}
	return o
}

func formOfOps(ops []transport.Op) []opForm {
	forms := make([]opForm, len(ops))
	for i := range ops {
		o := &ops[i]
		forms[i] = opForm{Kind: o.Kind, ID: o.ID, Target: o.Target, AssocType: o.AssocType, Content: o.Content, Embedding: o.Embedding,
			Strength: o.Strength, Confidence: o.Confidence, Metadata: formOfMetadata(o.Metadata),
			Key: o.Key, Value: o.Value, Number: o.Number, Version: o.Version}
	}
	return forms
}

// forms1 is the same in the form of levels 1 and 2; false: it would lose something.
func forms1(ops []transport.Op) ([]opForm1, bool) {
	forms := make([]opForm1, len(ops))
	for i := range ops {
		o := &ops[i]
		if o.Key != "" || o.Value != "" || o.Number != 0 || o.Version != 0 {
			return nil, false
		}
		forms[i] = opForm1{o.Kind, o.ID, o.Target, o.AssocType, o.Content, o.Embedding, o.Strength, o.Confidence, formOfMetadata(o.Metadata)}
	}
	return forms, true
}

func opsOfForm(forms []opForm) []transport.Op {
	ops := make([]transport.Op, len(forms))
	for i := range forms {
		ops[i] = forms[i].op()
	}
	return ops
}

func formOfWrite(w *transport.Write) any {
	if old, ok := forms1(w.Ops); ok {
		return &writeForm1{old}
	}
	return &writeForm{formOfOps(w.Ops)}
}

func formOfPrepare(p *transport.Prepare) any {
	if old, ok := forms1(p.Ops); ok && p.Part == 0 && !p.Open {
		return &prepareForm1{p.TxnID, p.Attempt, p.Begin, p.Start, p.Coordinator, p.Participants, p.Issued, p.Horizon, old}
	}
	return &prepareForm{p.TxnID, p.Attempt, p.Begin, p.Start, p.Coordinator, p.Participants, p.Issued, p.Horizon, formOfOps(p.Ops), p.Part, p.Open}
}

func (f *prepareForm) prepare() *transport.Prepare {
	return &transport.Prepare{TxnID: f.TxnID, Attempt: f.Attempt, Begin: f.Begin, Start: f.Start, Coordinator: f.Coordinator,
		Participants: f.Participants, Issued: f.Issued, Horizon: f.Horizon, Ops: opsOfForm(f.Ops), Part: f.Part, Open: f.Open}
}

func formOfFinish(f *transport.Finish) *finishForm {
	return &finishForm{TxnID: f.TxnID, Attempt: f.Attempt, Begin: f.Begin, Commit: f.Commit, Horizon: f.Horizon}
}

func (f *finishForm) finish() *transport.Finish {
	return &transport.Finish{TxnID: f.TxnID, Attempt: f.Attempt, Begin: f.Begin, Commit: f.Commit, Horizon: f.Horizon}
}

// resultForm is what an op answered, as it is kept.
type resultForm struct {
	Op         uint32            `wire:"op"` // its index
	Found      bool              `wire:"found,optional"`
	Content    string            `wire:"content,optional"`
	Strength   float32           `wire:"strength,optional"`
	Confidence float32           `wire:"confidence,optional"`
	Attributes map[string]string `wire:"attributes,optional"`
	Tags       []string          `wire:"tags,optional"`
	Version    uint64            `wire:"version,optional"`
	Created    int64             `wire:"created,optional"`
	Modified   int64             `wire:"modified,optional"`
	Neighbors  []string          `wire:"neighbors,optional"`
	Value      int64             `wire:"value,optional"`
}

// formOfResults leaves out what is zero: most ops of a transaction answer nothing.
func formOfResults(results []transport.OpResult) []resultForm {
	var forms []resultForm
	for i, r := range results {
		if !r.Found && len(r.Neighbors) == 0 && r.Value == 0 {
			continue
		}
		forms = append(forms, resultForm{uint32(i), r.Found, r.Content, r.Strength, r.Confidence, r.Attributes, r.Tags, r.Version, r.Created, r.Modified, r.Neighbors, r.Value})
	}
	return forms
}

// results are those of all ops.
func (r *resultsRecord) results() []transport.OpResult {
	results := make([]transport.OpResult, r.Ops)
	for _, f := range r.Results {
		results[f.Op] = transport.OpResult{Found: f.Found, Content: f.Content, Strength: f.Strength, Confidence: f.Confidence, Attributes: f.Attributes,
			Tags: f.Tags, Version: f.Version, Created: f.Created, Modified: f.Modified, Neighbors: f.Neighbors, Value: f.Value}
	}
	return results
}
