package engine

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Bounds of one command. They decide what Apply answers: constants of level 3.
const (
	maxResultBytes  = 16 << 20 // of what its reads answer
	maxRemoved      = 10_000   // associations that its deletes remove
	maxRewrite      = 96 << 20 // of rows that it changes or deletes, as they were, and of concepts as it leaves them
	maxConceptBytes = 32 << 20 // of a concept as set_attribute or add leaves it: as much as a log entry can hold
)

// execution runs the ops of a command in order and for real, each on what those before it left. What must not stay is undone
// by the journal. It stops at the first op that cannot be.
type execution struct {
	a    *applier
	self event.TxnID // whose locks are no obstacle; zero: a write
	sure bool        // the ops were executed before, on the same state: bounds were kept

	unmet  unmet
	locked *event.Error // a row that no op names and that a transaction holds
	row    string       // that row

	results   []transport.OpResult // one per op
	far       []transport.AssociationID
	farSeen   map[transport.AssociationID]struct{}
	absent    []string // the first few of their ends that are not here
	farOp     uint32   // the first op that found one
	neighbors []string // the ends that are here of what deletes of concepts remove

	size, scanned, removed, rewritten int
}

// failed tells whether the ops cannot take effect.
func (x *execution) failed() bool { return x.unmet.state != 0 || x.locked != nil }

// run executes ops up to the first that cannot be.
func (x *execution) run(ops []transport.Op) error {
	x.a.adoptDimension(ops)
	for i := range ops {
		op := &ops[i]
		x.results = append(x.results, transport.OpResult{})
		state, err := x.step(op, &x.results[len(x.results)-1])
		if err != nil {
			return fmt.Errorf("%s: %w", opPhrase(op), err)
		}
		if state == 0 {
			state = x.bound()
		}
		if state != 0 {
			x.unmet = unmet{state, uint32(i) + 1, concerned(op)}
		}
		if x.locked != nil {
			x.locked.OpNumber = uint32(i) + 1
		}
		if x.failed() {
			return nil
		}
		if len(x.far) > 0 && x.farOp == 0 {
			x.farOp = uint32(i) + 1
		}
		x.a.position++
	}
	return nil
}

// concerned is the concept that a refusal of op names.
func concerned(op *transport.Op) string {
	id, _ := localEnds(op)
	return id
}

// bound holds what was done against the bounds of a command.
func (x *execution) bound() outcomeState {
	switch {
	case x.sure:
		return 0
	case x.size > maxResultBytes || x.scanned > maxLinkScan:
		return refusedResults
	case x.removed > x.a.e.o.bounds.removed:
		return refusedEdges
	case x.rewritten+x.a.journal.bytes > maxRewrite:
		return refusedSize
	}
	return 0
}

// step executes one op; a state other than 0 is why it cannot be.
func (x *execution) step(op *transport.Op, result *transport.OpResult) (outcomeState, error) {
	switch op.Kind {
	case transport.OpLearnConcept:
		return 0, x.a.learn(op)
	case transport.OpLearnAssociation:
		return x.link(op, outgoing, incoming)
	case transport.OpLinkOut:
		return x.link(op, outgoing)
	case transport.OpLinkIn:
		return x.link(op, incoming)
	case transport.OpDeleteConcept:
		return x.deleteConcept(op, result)
	case transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
		return x.unlink(op, result, outgoing, incoming)
	case transport.OpUnlinkOut, transport.OpUnlinkOutType:
		return x.unlink(op, result, outgoing)
	case transport.OpUnlinkIn, transport.OpUnlinkInType:
		return x.unlink(op, result, incoming)
	case transport.OpSetAttribute, transport.OpAdd:
		return x.change(op, result)
	case transport.OpRead:
		return 0, x.read(op, result)
	case transport.OpReadNeighbors:
		return 0, x.readNeighbors(op, result)
	case transport.OpExists, transport.OpAbsent, transport.OpVersion, transport.OpAttributeEquals, transport.OpAttributeAtLeast:
		return x.compare(op)
	}
	return 0, fmt.Errorf("no handler for op %q", op.Kind)
}

// link stores the halves of an association that live here; their ends must exist.
func (x *execution) link(op *transport.Op, sides ...side) (outcomeState, error) {
	for _, s := range sides {
		id := op.ID
		if s == incoming {
			id = op.Target
		}
		x.a.key = conceptKey(x.a.key[:0], id)
		if there, err := x.a.has(x.a.key); err != nil || !there {
			return writeRefused, err
		}
	}
	for _, s := range sides {
		if err := x.a.link(s, op); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// unlink removes the halves of associations between two concepts that live here.
func (x *execution) unlink(op *transport.Op, result *transport.OpResult, sides ...side) (outcomeState, error) {
	var set edgeSet
	for _, s := range sides {
		if err := x.a.linksBetween(op, s, &set); err != nil {
			return 0, err
		}
	}
	if len(set.list) > transport.MaxDeleteEdges {
		return deleteRefused, nil
	}
	x.removed += len(set.list)
	result.Found = len(set.list) > 0
	if len(sides) == 2 {
		if _, err := x.others(set.list); err != nil {
			return 0, err
		}
	}
	if len(set.list) > 0 && sides[0] == outgoing {
		x.a.meta.Written++
	}
	return 0, x.a.unlinkAll(set.list, sides...)
}

// deleteConcept removes a concept, and of its associations what is here; the rest is told of as far.
func (x *execution) deleteConcept(op *transport.Op, result *transport.OpResult) (outcomeState, error) {
	before, edges, err := x.a.found(op)
	if err != nil || before == nil {
		return 0, err
	}
	if len(edges) > transport.MaxDeleteEdges {
		return deleteRefused, nil
	}
	x.removed += len(edges)
	here, err := x.others(edges)
	if err != nil {
		return 0, err
	}
	for _, id := range here {
		if h, held := x.a.e.locks.Blocker(lock.Row{ID: id, Mode: lock.Exclusive}, x.self); held {
			x.locked, x.row = lockedBy(op, 0, id, h), id
			return 0, nil
		}
		if id != op.ID {
			x.neighbors = append(x.neighbors, id)
		}
	}
	x.a.meta.Written++
	result.Found = true
	return 0, x.a.removeFound(op, before, edges)
}

// others notes those of edges that have an end elsewhere, and lists the ends that are here, distinct.
func (x *execution) others(edges []edge) (here []string, err error) {
	seen := make(map[string]bool, len(edges)+1)
	for _, e := range edges {
		far := false
		for _, id := range [2]string{e.source, e.target} {
			there, known := seen[id]
			if !known {
				x.a.key = conceptKey(x.a.key[:0], id)
				if there, err = x.a.has(x.a.key); err != nil {
					return nil, err
				}
				seen[id] = there
				if there {
					here = append(here, id)
				} else if len(x.absent) < maxNamed {
					x.absent = append(x.absent, strconv.Quote(id))
				}
			}
			far = far || !there
		}
		if far {
			x.noteFar(transport.AssociationID{Source: e.source, Target: e.target, AssocType: e.assocType})
		}
	}
	return here, nil
}

func (x *execution) noteFar(id transport.AssociationID) {
	if x.farSeen == nil {
		x.farSeen = map[transport.AssociationID]struct{}{}
	}
	if _, again := x.farSeen[id]; again {
		return
	}
	x.farSeen[id] = struct{}{}
	x.far = append(x.far, id)
	x.size += len(id.Source) + len(id.Target) + resultOverhead
}

var errUndone = errors.New("what was prepared cannot be done")

// must is for ops that locks have kept possible: that they are not is a defect, and ends the replica.
func (x *execution) must() error {
	switch {
	case x.locked != nil:
		return fmt.Errorf("%w: %w", errUndone, x.locked)
	case x.unmet.state != 0:
		return fmt.Errorf("%w: %w", errUndone, x.unmet.refusal("execute"))
	}
	return nil
}
