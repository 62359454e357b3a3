package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// maxLinks is how many associations one Links gives: as many as the largest walk may know.
	maxLinks = 1 << 18
	// maxLinkScan is how many it looks at to find those of a type: a second's work at most.
	maxLinkScan = 1 << 20
)

// Each calls fn for each of the concepts that are there, by its place in ids, without its vector. All of it is one point in time.
func (e *Engine) Each(ids []string, fn func(i int, c *Concept) error) error {
	return e.view(func(r pebble.Reader) error {
		for i, id := range ids {
			if _, err := row(r, conceptKey(nil, id), func(value []byte) error {
				var c conceptRecord
				if err := pack.UnmarshalLoose(value, &c); err != nil {
					return fmt.Errorf("decode concept %q: %w", id, err)
				}
				return fn(i, c.concept(id))
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Links lists, for each of the ids, the concepts that it is associated with in one direction, each with the highest confidence
// of the associations to it, in byte order. All of it is one point in time. More than 262,144 together are refused (TooLarge).
func (e *Engine) Links(q *transport.Links) (*transport.LinksOk, error) {
	s, err := sideOf(q.Direction)
	if err != nil {
		return nil, err
	}
	ok := &transport.LinksOk{Links: make([][]transport.Edge, len(q.ConceptIDs))}
	err = e.view(func(r pebble.Reader) error {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{s.links()}, UpperBound: []byte{s.links() + 1}})
		if err != nil {
			return err
		}
		l := linking{it: it, side: s, q: q}
		for i, id := range q.ConceptIDs {
			if ok.Links[i], err = l.of(id); err != nil {
				break
			}
		}
		return errors.Join(err, it.Close())
	})
	if err != nil {
		return nil, err
	}
	return ok, nil
}

// linking reads the associations of many concepts with one iterator.
type linking struct {
	it             *pebble.Iterator
	side           side
	q              *transport.Links
	prefix         []byte
	found, scanned int
}

func (l *linking) of(id string) ([]transport.Edge, error) {
	edges := []transport.Edge{}
	l.prefix = linkPrefix(l.prefix[:0], l.side, id)
	for ok := l.it.SeekGE(l.prefix); ok && bytes.HasPrefix(l.it.Key(), l.prefix); ok = l.it.Next() {
		value, err := l.it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		var at link
		if err := at.read(value); err != nil {
			return nil, fmt.Errorf("decode key %x: %w", l.it.Key(), err)
		}
		if l.q.Type == nil || *l.q.Type == at.Type {
			edges = append(edges, transport.Edge{ID: at.Other, Confidence: at.Confidence})
			l.found++
		}
		if l.scanned++; l.found > maxLinks || l.scanned > maxLinkScan {
			return nil, &event.Error{Kind: event.KindTooLarge, Op: "read associations",
				Message: fmt.Sprintf("more than %d associations of a type, or %d of all, are concerned: ask with a smaller depth or a narrower filter", maxLinks, maxLinkScan)}
		}
	}
	slices.SortFunc(edges, func(a, b transport.Edge) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.Confidence, a.Confidence))
	})
	return slices.CompactFunc(edges, func(a, b transport.Edge) bool { return a.ID == b.ID }), l.it.Error()
}
