package engine

import (
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What the log and the store hold has forms of its own: a field that is added to a message of the protocol changes neither
// an entry's bytes nor a row's. The forms follow the messages of level 1 field by field.

type metadataForm struct {
	Attributes map[string]string `wire:"attributes,optional"`
	Tags       []string          `wire:"tags,optional"`
}

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
}

type writeForm struct {
	Ops []opForm `wire:"ops"`
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
}

type finishForm struct {
	TxnID   event.TxnID    `wire:"txn_id"`
	Attempt uint64         `wire:"attempt"`
	Begin   event.Position `wire:"begin"`
	Commit  bool           `wire:"commit"`
	Horizon event.Position `wire:"horizon"`
}

func formOfOp(o *transport.Op) opForm {
	f := opForm{Kind: o.Kind, ID: o.ID, Target: o.Target, AssocType: o.AssocType, Content: o.Content, Embedding: o.Embedding,
		Strength: o.Strength, Confidence: o.Confidence}
	if o.Metadata != nil {
		f.Metadata = &metadataForm{Attributes: o.Metadata.Attributes, Tags: o.Metadata.Tags}
	}
	return f
}

func (f *opForm) op() transport.Op {
	o := transport.Op{Kind: f.Kind, ID: f.ID, Target: f.Target, AssocType: f.AssocType, Content: f.Content, Embedding: f.Embedding,
		Strength: f.Strength, Confidence: f.Confidence}
	if f.Metadata != nil {
		o.Metadata = &transport.Metadata{Attributes: f.Metadata.Attributes, Tags: f.Metadata.Tags}
	}
	return o
}

func formOfOps(ops []transport.Op) []opForm {
	forms := make([]opForm, len(ops))
	for i := range ops {
		forms[i] = formOfOp(&ops[i])
	}
	return forms
}

func opsOfForm(forms []opForm) []transport.Op {
	ops := make([]transport.Op, len(forms))
	for i := range forms {
		ops[i] = forms[i].op()
	}
	return ops
}

func formOfPrepare(p *transport.Prepare) *prepareForm {
	return &prepareForm{TxnID: p.TxnID, Attempt: p.Attempt, Begin: p.Begin, Start: p.Start, Coordinator: p.Coordinator,
		Participants: p.Participants, Issued: p.Issued, Horizon: p.Horizon, Ops: formOfOps(p.Ops)}
}

func (f *prepareForm) prepare() *transport.Prepare {
	return &transport.Prepare{TxnID: f.TxnID, Attempt: f.Attempt, Begin: f.Begin, Start: f.Start, Coordinator: f.Coordinator,
		Participants: f.Participants, Issued: f.Issued, Horizon: f.Horizon, Ops: opsOfForm(f.Ops)}
}

func formOfFinish(f *transport.Finish) *finishForm {
	return &finishForm{TxnID: f.TxnID, Attempt: f.Attempt, Begin: f.Begin, Commit: f.Commit, Horizon: f.Horizon}
}

func (f *finishForm) finish() *transport.Finish {
	return &transport.Finish{TxnID: f.TxnID, Attempt: f.Attempt, Begin: f.Begin, Commit: f.Commit, Horizon: f.Horizon}
}
