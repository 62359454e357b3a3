package engine

import (
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Locks are the rows that ops lock at this shard, sorted and distinct: shared for what only reads, exclusive for what writes, and
// for an association the ends that live here (safety S8). What a delete of a concept finds at its other ends comes to it in Apply.
func Locks(ops []transport.Op) []lock.Row {
	rows := make([]lock.Row, 0, len(ops))
	for i := range ops {
		first, second := localRows(&ops[i])
		rows = append(rows, first)
		if second.ID != "" {
			rows = append(rows, second)
		}
	}
	return lock.Merge(rows)
}

// LockIDs are the ids of Locks, sorted and distinct.
func LockIDs(ops []transport.Op) []string {
	rows := Locks(ops)
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

func localRows(op *transport.Op) (first, second lock.Row) {
	mode := lock.Exclusive
	if op.Kind.ReadsOnly() {
		mode = lock.Shared
	}
	a, b := localEnds(op)
	return lock.Row{ID: a, Mode: mode}, lock.Row{ID: b, Mode: mode}
}

// localEnds are the ids of op that live at this shard; b is empty when there is only one.
func localEnds(op *transport.Op) (a, b string) {
	switch op.Kind {
	case transport.OpLearnAssociation, transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
		return op.ID, op.Target
	case transport.OpLinkIn, transport.OpUnlinkIn, transport.OpUnlinkInType:
		return op.Target, ""
	default:
		return op.ID, ""
	}
}

// blocked refuses ops on a row that a transaction holds, other than the ops' own.
func (a *applier) blocked(ops []transport.Op, self event.TxnID) *event.Error {
	if len(a.prepared) == 0 {
		return nil
	}
	for i := range ops {
		first, second := localRows(&ops[i])
		for _, row := range [2]lock.Row{first, second} {
			if h, held := a.e.locks.Blocker(row, self); held && row.ID != "" {
				return lockedBy(&ops[i], uint32(i)+1, row.ID, h)
			}
		}
	}
	return nil
}

func lockedBy(op *transport.Op, opNumber uint32, id string, h lock.Holder) *event.Error {
	return &event.Error{Kind: event.KindLocked, Op: opPhrase(op), Txn: h.Txn, OpNumber: opNumber,
		Message: fmt.Sprintf("concept %q is held by transaction %s, which is in doubt", id, h.Txn)}
}

// opPhrase says what an op was to do.
func opPhrase(op *transport.Op) string {
	verb := string(op.Kind)
	switch op.Kind {
	case transport.OpLearnConcept:
		verb = "learn concept"
	case transport.OpDeleteConcept:
		verb = "delete concept"
	case transport.OpLearnAssociation, transport.OpLinkOut, transport.OpLinkIn:
		verb = "learn association"
	case transport.OpDeleteAssociation, transport.OpDeleteAssociationType, transport.OpUnlinkOut, transport.OpUnlinkIn,
		transport.OpUnlinkOutType, transport.OpUnlinkInType:
		verb = "delete association"
	}
	if op.Target != "" {
		return fmt.Sprintf("%s %q -> %q", verb, op.ID, op.Target)
	}
	return fmt.Sprintf("%s %q", verb, op.ID)
}

// plain tells whether ops only learn: these need no execution in order, since none of them can undo what another one needs.
func plain(ops []transport.Op) bool {
	return !slices.ContainsFunc(ops, func(op transport.Op) bool { return !learns(op.Kind) })
}

func learns(k transport.OpKind) bool {
	switch k {
	case transport.OpLearnConcept, transport.OpLearnAssociation, transport.OpLinkOut, transport.OpLinkIn:
		return true
	}
	return false
}

// answers tells whether one of ops has a result.
func answers(ops []transport.Op) bool {
	return slices.ContainsFunc(ops, func(op transport.Op) bool { return op.Kind.Answers() })
}
