package semanticwalk

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// The reasons of a contradiction.
const (
	reasonDenied  = "one denies what the other states"
	reasonAmounts = "the same statement with different amounts"
)

// stance is how a concept stands to its subject. Concepts of one subject and one stance do not contradict each other.
type stance struct {
	negated bool
	numbers uint64
}

// opposed says why two stances to one subject contradict each other; "": they do not. What is denied says nothing about other
// amounts.
func (a stance) opposed(b stance) string {
	switch {
	case a.negated != b.negated && a.numbers == b.numbers:
		return reasonDenied
	case !a.negated && !b.negated && a.numbers != b.numbers && a.numbers != 0 && b.numbers != 0:
		return reasonAmounts
	}
	return ""
}

// opinions are statements by subject and stance.
type opinions struct {
	subjects map[uint64]map[stance][]string
	known    map[string]struct{}
}

func newOpinions() *opinions {
	return &opinions{subjects: map[uint64]map[stance][]string{}, known: map[string]struct{}{}}
}

// add takes in what concepts state.
func (o *opinions) add(concepts []transport.Classified) error {
	for i := range concepts {
		c := &concepts[i]
		if _, twice := o.known[c.ConceptID]; twice || c.Statement.Subject == 0 || !c.Known || !c.Passes {
			continue
		}
		o.known[c.ConceptID] = struct{}{}
		of := o.subjects[c.Statement.Subject]
		if of == nil {
			of = map[stance][]string{}
			o.subjects[c.Statement.Subject] = of
		}
		s := stance{c.Statement.Negated, c.Statement.Numbers}
		of[s] = append(of[s], c.ConceptID)
	}
	if len(o.known) > MaxStatements {
		return tooLarge("statements", MaxStatements)
	}
	return nil
}

// pairs are the first MaxPaths contradictions, in the order of their ids; the smaller id comes first.
func (o *opinions) pairs() [][]string {
	type holder struct {
		id string
		stance
		of map[stance][]string
	}
	var holders []holder
	for _, of := range o.subjects {
		if len(of) < 2 {
			continue
		}
		for s, ids := range of {
			slices.Sort(ids)
			for _, id := range ids {
				holders = append(holders, holder{id, s, of})
			}
		}
	}
	slices.SortFunc(holders, func(a, b holder) int { return strings.Compare(a.id, b.id) })
	found := [][]string{}
	for _, h := range holders {
		if len(found) >= transport.MaxPaths {
			break
		}
		found = append(found, against(h.id, h.stance, h.of)...)
	}
	return found[:min(len(found), transport.MaxPaths)]
}

// against lists up to MaxPaths larger ids that contradict one, in order.
func against(id string, s stance, of map[stance][]string) (found [][]string) {
	for other, ids := range of {
		reason := s.opposed(other)
		if reason == "" {
			continue
		}
		from, _ := slices.BinarySearch(ids, id)
		for _, second := range ids[from:min(len(ids), from+transport.MaxPaths)] {
			found = append(found, []string{id, second, reason})
		}
		if len(found) > 16*transport.MaxPaths {
			found = firstOf(found)
		}
	}
	return firstOf(found)
}

func firstOf(found [][]string) [][]string {
	slices.SortFunc(found, func(a, b []string) int { return cmp.Compare(a[1], b[1]) })
	return found[:min(len(found), transport.MaxPaths)]
}

// contradictions compares the statements of a domain, or of the concepts around one.
func contradictions(ctx context.Context, s Store, q *transport.FindContradictions) ([][]string, error) {
	f := &transport.SemanticFilter{DomainContext: q.Domain}
	o := newOpinions()
	if q.ConceptID == nil {
		if err := s.Survey(ctx, f, o.add); err != nil {
			return nil, err
		}
		return o.pairs(), nil
	}
	w := newWalk(s, nil)
	near, err := w.around(ctx, *q.ConceptID, int(*q.MaxDepth))
	if err != nil {
		return nil, err
	}
	for i := range w.nodes {
		c := &w.nodes[i]
		c.Passes = near[int32(i)] && (q.Domain == nil || *q.Domain == "" || c.Domain == lower(*q.Domain))
	}
	if err := o.add(w.nodes); err != nil {
		return nil, err
	}
	return o.pairs(), nil
}

// around reaches the concepts within depth associations of one, in either direction.
func (w *walk) around(ctx context.Context, id string, depth int) (near map[int32]bool, err error) {
	s, there, err := w.begin(ctx, id, out)
	if err != nil || !there {
		return nil, err
	}
	for i := 0; i < depth && len(s.frontier) > 0; i++ {
		incoming := &side{direction: in, seen: s.seen, frontier: s.frontier}
		if err := w.advance(ctx, s); err != nil {
			return nil, err
		}
		if err := w.advance(ctx, incoming); err != nil {
			return nil, err
		}
		s.frontier = append(s.frontier, incoming.frontier...)
	}
	return s.seen, nil
}

func lower(name string) string { return strings.ToLower(name) }
