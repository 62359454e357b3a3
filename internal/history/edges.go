package history

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// sight is concepts as one transaction that only reads saw them.
type sight struct {
	Txn
	found     map[string]bool
	neighbors map[string][]string
	said      string // all of it
}

// sights is what the transactions that only read, and were answered, saw of chosen concepts, in the order of their beginnings.
func sights(h []Txn, of Concepts) (all []sight) {
	for _, t := range sorted(h) {
		if t.Outcome != OK || len(t.Results) != len(t.Ops) || slices.ContainsFunc(t.Ops, func(o transport.Op) bool { return !o.Kind.ReadsOnly() }) {
			continue
		}
		s := sight{Txn: t, found: map[string]bool{}, neighbors: map[string][]string{}}
		for i, op := range t.Ops {
			switch {
			case of != nil && !of(op.ID):
			case op.Kind == transport.OpRead:
				s.found[op.ID] = t.Results[i].Found
			case op.Kind == transport.OpReadNeighbors:
				s.neighbors[op.ID] = t.Results[i].Neighbors
			}
		}
		if len(s.found) > 0 && len(s.neighbors) > 0 {
			s.said = sayResults(t.Ops, t.Results, nil)
			all = append(all, s)
		}
	}
	return all
}

// Edges checks a load that creates each association together with its inverse: whatever one transaction reads of both ends agrees, and no
// association leads from or to a concept that the same transaction does not find.
func Edges(h []Txn, of Concepts) Report {
	r := Report{Checker: "edges"}
	for _, s := range sights(h, of) {
		r.Checked++
		for _, op := range s.Ops {
			if op.Kind == transport.OpReadNeighbors {
				s.edges(&r, op.ID)
			}
		}
	}
	r.empty()
	return r
}

func (s sight) edges(r *Report, id string) {
	if there, read := s.found[id]; read && !there && len(s.neighbors[id]) > 0 {
		r.Add(DanglingEdge, []uint64{s.Call}, "%s is absent and has neighbours\n%s", id, say(s.Txn))
	}
	for _, n := range s.neighbors[id] {
		if there, read := s.found[n]; read && !there {
			r.Add(DanglingEdge, []uint64{s.Call}, "%s is associated with %s, which is absent\n%s", id, n, say(s.Txn))
			continue
		}
		if back, read := s.neighbors[n]; read && !slices.Contains(back, id) {
			r.Add(HalfEdge, []uint64{s.Call}, "%s is associated with %s, and not the other way round\n%s", id, n, say(s.Txn))
		}
	}
}

// Indexes compares what indexes say with the concepts themselves, where a transaction that read all concepts of a group said the same
// before and behind the query: ids of a group begin with its name. Every group is judged where anything is asked of it.
func Indexes(l *Log, of Concepts) Report {
	r := Report{Checker: "indexes"}
	all := sights(l.Txns, of)
	for _, q := range l.Queries {
		if q.Outcome != OK || q.Index == IndexNodes || of != nil && !of(q.Of) {
			continue
		}
		before, behind := q.between(all)
		if before == nil || behind == nil || before.said != behind.said {
			continue
		}
		r.Checked++
		want := before.expected(q.QueryOp)
		got := slices.Sorted(slices.Values(q.IDs))
		if !slices.Equal(got, want) {
			r.Add(IndexDiffers, []uint64{before.Call, q.Call}, "the index %s says of %s: %v; the concepts say %v\n%s", q.Index, q.Of, got, want, say(before.Txn))
		}
	}
	r.empty()
	return r
}

// between is the last sight of the query's concepts that was over before it, and the first that began behind it.
func (q Query) between(all []sight) (before, behind *sight) {
	for i := range all {
		s := &all[i]
		if !s.covers(q.QueryOp) {
			continue
		}
		if s.Return < q.Invoke && (before == nil || cmp.Compare(s.Return, before.Return) > 0) {
			before = s
		}
		if s.Invoke > q.Return && behind == nil {
			behind = s
		}
	}
	return before, behind
}

func (s *sight) covers(q QueryOp) bool {
	for id := range s.found {
		if strings.HasPrefix(id, q.Of) || q.Index == IndexIncoming && id == q.Of {
			return true
		}
	}
	return false
}

// expected is what the index must say, by what was seen.
func (s *sight) expected(q QueryOp) (want []string) {
	for id, there := range s.found {
		switch q.Index {
		case IndexScan, IndexMetadata:
			if there && strings.HasPrefix(id, q.Of) {
				want = append(want, id)
			}
		case IndexIncoming:
			if slices.Contains(s.neighbors[id], q.Of) {
				want = append(want, id)
			}
		}
	}
	slices.Sort(want)
	return want
}
