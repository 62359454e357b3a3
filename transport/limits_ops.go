package transport

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// validatePrepare allows a part behind the first to have no ops: it closes the attempt.
func validatePrepare(m *Prepare, dimension int) *event.Error {
	if m.Part > 0 && len(m.Ops) == 0 {
		return nil
	}
	return validateOps(m.Ops, dimension)
}

func validateOps(ops []Op, dimension int) *event.Error {
	if len(ops) == 0 {
		return invalid("there are no ops")
	}
	if e := atMost("number of ops", int64(len(ops)), MaxOps); e != nil {
		return e
	}
	for i := range ops {
		if e := validateOp(&ops[i], dimension); e != nil {
			e.Message = fmt.Sprintf("ops[%d]: %s", i, e.Message)
			return e
		}
	}
	return nil
}

func validateOp(o *Op, dimension int) *event.Error {
	switch o.Kind {
	case OpLearnConcept:
		return validateConcept(concept{o.ID, o.Content, o.Embedding, o.Strength, o.Confidence, o.Metadata}, dimension)
	case OpDeleteConcept, OpSetAttribute, OpAdd, OpRead, OpReadNeighbors, OpExists, OpAbsent, OpVersion, OpAttributeEquals, OpAttributeAtLeast:
		return validID("id", o.ID)
	case OpLearnAssociation, OpDeleteAssociation, OpDeleteAssociationType, OpLinkOut, OpLinkIn, OpUnlinkOut, OpUnlinkIn, OpUnlinkOutType, OpUnlinkInType:
		return first(validID("id", o.ID), validID("target", o.Target), finite("confidence", o.Confidence))
	}
	return invalid("unknown kind %.32q", o.Kind)
}

// noHalves refuses what only a coordinator makes.
func noHalves(ops []Op) *event.Error {
	for i := range ops {
		if ops[i].Kind.Half() {
			return invalid("ops[%d]: %s is half an operation: send the whole", i, ops[i].Kind)
		}
	}
	return nil
}
