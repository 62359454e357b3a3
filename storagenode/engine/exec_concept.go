package engine

import (
	"maps"
	"math"
	"strconv"

	"github.com/sutra-grid/sutra-grid/transport"
)

// The ops that read, compare or change one concept.

// change writes one attribute of a concept; everything else of it stays, vector and associations too.
func (x *execution) change(op *transport.Op, result *transport.OpResult) (outcomeState, error) {
	a := x.a
	var record conceptRecord
	a.key = conceptKey(a.key[:0], op.ID)
	found, err := a.getRecord(a.key, &record)
	if err != nil || !found {
		return refusedAbsent, err
	}
	value := op.Value
	if op.Kind == transport.OpAdd {
		sum, state := added(record.Attributes, op)
		if state != 0 {
			return state, nil
		}
		result.Value, value = sum, strconv.FormatInt(sum, 10)
	}
	if _, there := record.Attributes[op.Key]; !there && len(record.Attributes) >= transport.MaxAttributes {
		return refusedAttributes, nil
	}
	before := indexed{record.Created, record.Attributes, record.Tags}
	record.Attributes = maps.Clone(record.Attributes)
	if record.Attributes == nil {
		record.Attributes = map[string]string{}
	}
	record.Attributes[op.Key] = value
	record.Version++
	record.Modified = a.now
	a.meta.Written++
	a.key = conceptKey(a.key[:0], op.ID)
	if err := a.putRecord(a.key, &record); err != nil {
		return 0, err
	}
	if len(a.value) > maxConceptBytes && !x.sure {
		return refusedSize, nil
	}
	x.rewritten += len(a.value)
	return 0, a.reindex(op.ID, &before, &indexed{record.Created, record.Attributes, record.Tags})
}

// added is the sum that op makes of an attribute.
func added(attributes map[string]string, op *transport.Op) (sum int64, state outcomeState) {
	n, state := number(attributes, op.Key)
	if state != 0 {
		return 0, state
	}
	if (op.Number > 0 && n > math.MaxInt64-op.Number) || (op.Number < 0 && n < math.MinInt64-op.Number) {
		return 0, refusedOverflow
	}
	return n + op.Number, 0
}

// number reads an attribute as a decimal int64; absent it is 0.
func number(attributes map[string]string, key string) (int64, outcomeState) {
	text, there := attributes[key]
	if !there {
		return 0, 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, refusedNumber
	}
	return n, 0
}

// resultOverhead is about what an answer or an id takes beside its texts.
const resultOverhead = 32

// read answers a concept as the ops before left it, without its vector.
func (x *execution) read(op *transport.Op, result *transport.OpResult) error {
	var r conceptRecord
	x.a.key = conceptKey(x.a.key[:0], op.ID)
	found, err := x.a.getRecord(x.a.key, &r)
	if err != nil || !found {
		return err
	}
	*result = transport.OpResult{Found: true, Content: r.Content, Strength: r.Strength, Confidence: r.Confidence, Attributes: r.Attributes,
		Tags: r.Tags, Version: r.Version, Created: r.Created, Modified: r.Modified}
	x.size += len(r.Content) + resultOverhead
	for k, v := range r.Attributes {
		x.size += len(k) + len(v) + resultOverhead
	}
	for _, tag := range r.Tags {
		x.size += len(tag) + resultOverhead
	}
	return nil
}

// readNeighbors answers distinct targets, in commit order of the first association to each. It ends where a bound does.
func (x *execution) readNeighbors(op *transport.Op, result *transport.OpResult) error {
	x.a.key = conceptKey(x.a.key[:0], op.ID)
	there, err := x.a.has(x.a.key)
	if err != nil || !there {
		return err
	}
	seen := map[string]struct{}{}
	return x.a.each(linkPrefix(nil, outgoing, op.ID), func(_, value []byte) (more bool, err error) {
		var l link
		if err := l.read(value); err != nil {
			return false, err
		}
		x.scanned++
		if _, again := seen[l.Other]; !again {
			seen[l.Other] = struct{}{}
			result.Neighbors = append(result.Neighbors, l.Other)
			x.size += len(l.Other) + resultOverhead
		}
		return x.size <= maxResultBytes && x.scanned <= maxLinkScan, nil
	})
}

// compare holds a concept against a precondition.
func (x *execution) compare(op *transport.Op) (outcomeState, error) {
	h, err := x.a.head(op.ID)
	switch {
	case err != nil:
		return 0, err
	case op.Kind == transport.OpAbsent && h != nil:
		return refusedPresent, nil
	case op.Kind == transport.OpAbsent:
		return 0, nil
	case h == nil:
		return refusedAbsent, nil
	}
	switch op.Kind {
	case transport.OpVersion:
		if h.version != op.Version {
			return refusedVersion, nil
		}
	case transport.OpAttributeEquals:
		if value, there := h.attributes[op.Key]; !there || value != op.Value {
			return refusedAttribute, nil
		}
	case transport.OpAttributeAtLeast:
		n, state := number(h.attributes, op.Key)
		if state == 0 && n < op.Number {
			state = refusedAttribute
		}
		return state, nil
	}
	return 0, nil
}
