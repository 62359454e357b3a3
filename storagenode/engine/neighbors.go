package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxPageScan is how many associations one page looks at when few of them are of the type that is asked for. The page
// then ends early, with a cursor.
const maxPageScan = 100_000

// sideOf reads a direction's name.
func sideOf(direction string) (s side, err error) {
	switch direction {
	case "out":
		return outgoing, nil
	case "in":
		return incoming, nil
	}
	return 0, &event.Error{Kind: event.KindInvalid, Op: "read associations", Message: fmt.Sprintf("direction is %.16q: want out or in", direction)}
}

// Neighbors answers one page of a concept's associations, in commit order; an unknown concept has none. Every page is a
// point in time of its own, and what was committed before the first page is in one of them.
func (e *Engine) Neighbors(q *transport.Neighbors) (*transport.NeighborsOk, error) {
	if err := transport.Validate(q, 0); err != nil {
		return nil, err
	}
	page := &page{q: q, limit: int(q.Limit), items: []transport.Neighbor{}}
	if page.limit == 0 {
		page.limit = transport.DefaultNeighbors
	}
	if q.Cursor != "" {
		after, err := decodeCursor(q)
		if err != nil {
			return nil, err
		}
		page.after = &after
	}
	cursor := ""
	err := e.view(func(r pebble.Reader) (err error) {
		cursor, err = page.read(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &transport.NeighborsOk{Items: page.items, Cursor: cursor}, nil
}

// page is one page in the making.
type page struct {
	q     *transport.Neighbors
	limit int
	after *place
	items []transport.Neighbor
}

// read merges the sides that are asked for, by commit order, and returns the cursor of the next page.
func (p *page) read(r pebble.Reader) (cursor string, err error) {
	var runs []*run
	defer func() {
		for _, run := range runs {
			err = errors.Join(err, run.close())
		}
	}()
	for _, s := range []side{outgoing, incoming} {
		if p.q.Direction != "both" && p.q.Direction != s.String() {
			continue
		}
		run, err := newRun(r, s, p.q.ConceptID)
		if err != nil {
			return "", err
		}
		runs = append(runs, run)
		if err := run.start(p.after); err != nil {
			return "", err
		}
	}
	var last place
	for scanned := 0; ; scanned++ {
		next := first(runs)
		if next == nil {
			return "", nil
		}
		if len(p.items) == p.limit || scanned == maxPageScan {
			return encodeCursor(last, p.q), nil
		}
		last = next.place
		if p.q.Type == nil || *p.q.Type == next.link.Type {
			p.items = append(p.items, transport.Neighbor{
				ID: next.link.Other, Type: next.link.Type, Confidence: next.link.Confidence, Direction: next.side.String(),
			})
		}
		if err := next.advance(); err != nil {
			return "", err
		}
	}
}

// first is the run whose present association is the oldest; nil when all are at their end.
func first(runs []*run) *run {
	var best *run
	for _, r := range runs {
		if r.valid && (best == nil || r.place.before(best.place)) {
			best = r
		}
	}
	return best
}

// run reads the associations of one side of one concept after another, in commit order.
type run struct {
	place  // of the present one
	link   link
	valid  bool // there is a present one
	prefix []byte
	it     *pebble.Iterator
}

func newRun(r pebble.Reader, s side, id string) (*run, error) {
	prefix := linkPrefix(nil, s, id)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(nil, prefix)})
	if err != nil {
		return nil, err
	}
	return &run{place: place{side: s}, prefix: prefix, it: it}, nil
}

// start goes to the first association behind after; nil: to the first of all.
func (r *run) start(after *place) error {
	if after == nil {
		return r.take(r.it.First())
	}
	if err := r.take(r.it.SeekGE(after.at.append(r.prefix))); err != nil {
		return err
	}
	if r.valid && !after.before(r.place) {
		return r.advance()
	}
	return nil
}

func (r *run) advance() error { return r.take(r.it.Next()) }

func (r *run) close() error { return r.it.Close() }

// take reads the association that the iterator stands on.
func (r *run) take(valid bool) error {
	r.valid = valid
	if !valid {
		return r.it.Error()
	}
	at, err := decodeOrder(r.it.Key()[len(r.prefix):])
	if err != nil {
		return fmt.Errorf("decode key %x: %w", r.it.Key(), err)
	}
	value, err := r.it.ValueAndErr()
	if err != nil {
		return err
	}
	r.at, r.link = at, link{}
	if err := r.link.read(value); err != nil {
		return fmt.Errorf("decode key %x: %w", r.it.Key(), err)
	}
	return nil
}

// Targets lists the distinct targets of a concept's outgoing associations, in commit order of the first to each.
func (e *Engine) Targets(id string) ([]string, error) {
	ok, err := e.Expand(&transport.Expand{ConceptIDs: []string{id}, Direction: "out"})
	if err != nil {
		return nil, err
	}
	return ok.Neighbors[0], nil
}

// Expand lists, for each of a frontier of ids, the distinct concepts at the other ends, in commit order of the first
// association to each, and tells which of the ids exist. All of it is one point in time.
func (e *Engine) Expand(q *transport.Expand) (*transport.ExpandOk, error) {
	if err := transport.Validate(q, 0); err != nil {
		return nil, err
	}
	s, err := sideOf(q.Direction)
	if err != nil {
		return nil, err
	}
	answer := &transport.ExpandOk{Neighbors: make([][]string, len(q.ConceptIDs)), Known: make([]bool, len(q.ConceptIDs))}
	err = e.view(func(r pebble.Reader) error {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{s.links()}, UpperBound: []byte{s.links() + 1}})
		if err != nil {
			return err
		}
		x := expansion{it: it, side: s, seen: make(map[string]struct{})}
		for i, id := range q.ConceptIDs {
			if answer.Known[i], err = row(r, conceptKey(nil, id), ignoreValue); err == nil {
				answer.Neighbors[i], err = x.others(id)
			}
			if err != nil {
				return errors.Join(err, it.Close())
			}
		}
		return it.Close()
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// expansion reads the other ends of many concepts with one iterator.
type expansion struct {
	it     *pebble.Iterator
	side   side
	seen   map[string]struct{}
	prefix []byte
	size   int // bytes of ids so far
}

func (x *expansion) others(id string) ([]string, error) {
	others := []string{}
	clear(x.seen)
	x.prefix = linkPrefix(x.prefix[:0], x.side, id)
	for ok := x.it.SeekGE(x.prefix); ok && bytes.HasPrefix(x.it.Key(), x.prefix); ok = x.it.Next() {
		value, err := x.it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		var l link
		if err := l.read(value); err != nil {
			return nil, fmt.Errorf("decode key %x: %w", x.it.Key(), err)
		}
		if _, again := x.seen[l.Other]; again {
			continue
		}
		x.seen[l.Other] = struct{}{}
		others = append(others, l.Other)
		if x.size += idBytes(l.Other); x.size > maxReplyBytes {
			return nil, tooLarge("expand", "ask for fewer ids, or page through Neighbors")
		}
	}
	return others, x.it.Error()
}
