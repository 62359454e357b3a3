package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A delete removes what it finds when it is applied, so Apply must see rows of the same entry: such an entry is applied to an
// indexed batch of its own (readable). So is one with ops that must see each other.
//
// It commits here only if both ends of everything it removes live here (safety S19), and if none of the rows it changes is
// held by a transaction; neither refusal is kept, because the same request goes on, as a transaction or when the row is free.

// edge is one association by its identity.
type edge struct {
	source, target string
	assocType      uint32
}

// deletesAlone tells whether a command is a write of one delete.
func (c *Command) deletesAlone() bool {
	return c.Kind == Write && len(c.Write.Ops) == 1 && c.Write.Ops[0].Kind.Deletes()
}

// looks tells whether a command looks at what the entry in hand has written.
func (a *applier) looks(c decodedCommand) bool {
	p := a.prepared[c.requestID()]
	switch {
	case !plain(c.ops()):
		return true
	case c.Prepare != nil:
		return p != nil || c.Prepare.Part > 0 || c.Prepare.Open
	}
	return c.Finish != nil && p != nil && !p.plain
}

// readable makes the batch one that iterators can be made of, with everything that was applied so far in it or in the store.
// It is called between entries.
func (a *applier) readable() error {
	if a.iterable {
		return nil
	}
	if err := a.commit(); err != nil {
		return err
	}
	if err := a.batch.Close(); err != nil {
		return err
	}
	a.batch, a.iterable = a.db.NewIndexedBatch(), true
	return nil
}

// deleteAlone applies a delete that is the only op of its write.
func (a *applier) deleteAlone(c *Command, record outcome) (Answer, error) {
	op := &c.Write.Ops[0]
	before, edges, err := a.found(op)
	if err != nil {
		return Answer{}, err
	}
	if refusal, err := a.elsewhere(op, edges); refusal != nil || err != nil {
		return Answer{Err: refusal}, err
	}
	if refusal, row := a.held(op, edges); refusal != nil {
		return Answer{Err: refusal, Row: row}, nil
	}
	answer := Answer{Seq: a.index}
	switch {
	case len(edges) > transport.MaxDeleteEdges:
		return a.refuseWrite(c, record, &unmet{deleteRefused, 1, op.ID})
	case before == nil && len(edges) == 0:
		record.State, answer.Nothing = deleteNothing, true
	default:
		a.meta.Written++
		if err := a.removeFound(op, before, edges); err != nil {
			return Answer{}, fmt.Errorf("%s: %w", opPhrase(op), err)
		}
	}
	return answer, a.putOutcome(c.RequestID, record)
}

// found is what a delete would remove: a concept, nil when there is none or none is meant, and associations, of which it
// stops counting above the limit.
func (a *applier) found(op *transport.Op) (before *head, edges []edge, err error) {
	var set edgeSet
	if op.Kind == transport.OpDeleteConcept {
		if before, err = a.head(op.ID); err != nil || before == nil {
			return nil, nil, err
		}
	}
	for _, s := range []side{outgoing, incoming} {
		if before != nil {
			err = a.linksOf(op.ID, s, &set)
		} else {
			err = a.linksBetween(op, s, &set)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return before, set.list, nil
}

// edgeSet is distinct associations in the order in which they were found: one whose ends are both here is found twice.
type edgeSet struct {
	list []edge
	seen map[edge]struct{}
}

// add tells whether more are of interest.
func (s *edgeSet) add(e edge) (more bool) {
	if s.seen == nil {
		s.seen = make(map[edge]struct{})
	}
	if _, again := s.seen[e]; !again {
		s.seen[e] = struct{}{}
		s.list = append(s.list, e)
	}
	return len(s.list) <= transport.MaxDeleteEdges
}

// linksOf finds the associations of a concept on one side.
func (a *applier) linksOf(id string, s side, set *edgeSet) error {
	return a.each(linkPrefix(nil, s, id), func(_, value []byte) (more bool, err error) {
		var l link
		if err := l.read(value); err != nil {
			return false, err
		}
		if s == incoming {
			return set.add(edge{l.Other, id, l.Type}), nil
		}
		return set.add(edge{id, l.Other, l.Type}), nil
	})
}

// linksBetween finds the associations from one concept to another, seen from one side.
func (a *applier) linksBetween(op *transport.Op, s side, set *edgeSet) error {
	id, other := op.ID, op.Target
	if s == incoming {
		id, other = other, id
	}
	prefix := indexPrefix(nil, s, id, other)
	switch op.Kind {
	case transport.OpDeleteAssociationType, transport.OpUnlinkOutType, transport.OpUnlinkInType:
		prefix = binary.BigEndian.AppendUint32(prefix, op.AssocType)
	}
	return a.each(prefix, func(key, _ []byte) (more bool, err error) {
		return set.add(edge{op.ID, op.Target, binary.BigEndian.Uint32(key[len(key)-4:])}), nil
	})
}

// each calls fn for the rows with a prefix, in key order, until it says that it needs no more.
func (a *applier) each(prefix []byte, fn func(key, value []byte) (more bool, err error)) error {
	it, err := a.batch.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(nil, prefix)})
	if err != nil {
		return err
	}
	more := true
	for ok := it.First(); ok && more; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			more, err = fn(it.Key(), value)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read key %x: %w", it.Key(), err), it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// maxNamed is how many neighbours a refusal names.
const maxNamed = 10

// elsewhere refuses a delete when an end of what it removes lives in another shard.
func (a *applier) elsewhere(op *transport.Op, edges []edge) (*event.Error, error) {
	var far []string
	seen := map[string]struct{}{}
	for _, e := range edges {
		for _, id := range [2]string{e.source, e.target} {
			if _, known := seen[id]; known {
				continue
			}
			seen[id] = struct{}{}
			a.key = conceptKey(a.key[:0], id)
			here, err := a.has(a.key)
			if err != nil {
				return nil, err
			}
			if !here && len(far) < maxNamed {
				far = append(far, fmt.Sprintf("%q", id))
			}
		}
	}
	if len(far) == 0 {
		return nil, nil
	}
	return needsTxn(op, 1, far), nil
}

func needsTxn(op *transport.Op, opNumber uint32, far []string) *event.Error {
	return &event.Error{Kind: event.KindNeedsTxn, Op: opPhrase(op), OpNumber: opNumber,
		Message: fmt.Sprintf("it has associations with concepts of other shards (%s), and one shard's commit cannot remove both ends", strings.Join(far, ", "))}
}

// held refuses a delete when a transaction holds the other end of an association that it removes; row is that end. The ends
// that the op names were looked at before.
func (a *applier) held(op *transport.Op, edges []edge) (refusal *event.Error, row string) {
	if len(a.prepared) == 0 {
		return nil, ""
	}
	for _, e := range edges {
		for _, id := range [2]string{e.source, e.target} {
			if h, held := a.e.locks.Blocker(lock.Row{ID: id, Mode: lock.Exclusive}, event.TxnID{}); held {
				return lockedBy(op, 1, id, h), id
			}
		}
	}
	return nil, ""
}

// removeFound deletes the rows of a concept, and of associations what is here.
func (a *applier) removeFound(op *transport.Op, before *head, edges []edge) error {
	if err := a.unlinkAll(edges, outgoing, incoming); err != nil {
		return err
	}
	if before == nil {
		return nil
	}
	a.meta.Concepts--
	if before.dimension != 0 {
		a.meta.Vectors--
		if err := a.remove(vectorKey(nil, op.ID)); err != nil {
			return err
		}
		if err := a.recordVector(op.ID); err != nil {
			return err
		}
	}
	if err := a.reindex(op.ID, &before.indexed, nil); err != nil {
		return err
	}
	return a.deleteRow(conceptKey(nil, op.ID))
}

// unlinkAll deletes halves of associations, those that are here.
func (a *applier) unlinkAll(edges []edge, sides ...side) error {
	for _, e := range edges {
		for _, s := range sides {
			id, other := e.source, e.target
			if s == incoming {
				id, other = other, id
			}
			if err := a.unlink(s, id, other, e.assocType); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlink deletes one half of an association, if it is here.
func (a *applier) unlink(s side, id, other string, assocType uint32) error {
	a.key = indexKey(a.key[:0], s, id, other, assocType)
	value, err := a.get(a.key)
	if err != nil || value == nil {
		return err
	}
	at, err := decodeOrder(value)
	if err != nil {
		return err
	}
	if err := a.deleteRow(a.key); err != nil {
		return err
	}
	if s == outgoing {
		a.meta.Edges--
	}
	a.key = linkKey(a.key[:0], s, id, at)
	return a.remove(a.key)
}
