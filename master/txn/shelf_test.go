package txn

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// shelf is what a shard stores, and how operations change it. Rows named "row-" and a number are there from the beginning.
type shelf struct {
	home func(id string) bool // lives here
	rows map[string]*item
	out  []transport.AssociationID // ends that live here, in commit order
	in   []transport.AssociationID
}

type item struct {
	content string
	attrs   map[string]string
	version uint64 // 0: deleted
}

func (i *item) number(key string) (int64, error) {
	text, there := i.attrs[key]
	if !there {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

func newShelf(home func(string) bool) *shelf { return &shelf{home: home, rows: map[string]*item{}} }

func (s *shelf) clone() *shelf {
	c := &shelf{home: s.home, rows: map[string]*item{}, out: slices.Clone(s.out), in: slices.Clone(s.in)}
	for id, r := range s.rows {
		c.rows[id] = &item{r.content, maps.Clone(r.attrs), r.version}
	}
	return c
}

// get is a concept, nil when there is none.
func (s *shelf) get(id string) *item {
	r := s.rows[id]
	if number, found := strings.CutPrefix(id, "row-"); r == nil && found && len(number) < 4 {
		r = &item{version: 1, attrs: map[string]string{}}
		s.rows[id] = r
	}
	if r == nil || r.version == 0 {
		return nil
	}
	return r
}

// edges are a concept's associations.
func (s *shelf) edges(id string) []transport.AssociationID {
	var list []transport.AssociationID
	for _, a := range slices.Concat(s.out, s.in) {
		if (a.Source == id || a.Target == id) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func (s *shelf) targets(id string) []string {
	var ids []string
	for _, a := range s.out {
		if a.Source == id && !slices.Contains(ids, a.Target) {
			ids = append(ids, a.Target)
		}
	}
	return ids
}

func put(list []transport.AssociationID, a transport.AssociationID) []transport.AssociationID {
	if slices.Contains(list, a) {
		return list
	}
	return append(list, a)
}

// cut removes those that match and tells whether there were any.
func cut(list *[]transport.AssociationID, match func(transport.AssociationID) bool) bool {
	before := len(*list)
	*list = slices.DeleteFunc(slices.Clone(*list), match)
	return len(*list) < before
}

func unmet(format string, args ...any) *event.Error {
	return &event.Error{Kind: event.KindPrecondition, Message: fmt.Sprintf(format, args...)}
}

// do executes one operation.
func (s *shelf) do(op *transport.Op) (r transport.OpResult, far []transport.AssociationID, err *event.Error) {
	a := transport.AssociationID{Source: op.ID, Target: op.Target, AssocType: op.AssocType}
	between := func(b transport.AssociationID) bool { return b.Source == a.Source && b.Target == a.Target }
	same := func(b transport.AssociationID) bool { return b == a }
	source, target := s.get(op.ID), s.get(op.Target)
	switch op.Kind {
	case transport.OpLearnConcept, transport.OpDeleteConcept, transport.OpSetAttribute, transport.OpAdd:
		return s.change(op, source)
	case transport.OpLearnAssociation, transport.OpLinkOut, transport.OpLinkIn:
		if op.Kind != transport.OpLinkIn && source == nil || op.Kind != transport.OpLinkOut && target == nil {
			return r, nil, unmet("an end is absent")
		}
		if op.Kind != transport.OpLinkIn {
			s.out = put(s.out, a)
		}
		if op.Kind != transport.OpLinkOut {
			s.in = put(s.in, a)
		}
	case transport.OpDeleteAssociation:
		r.Found = cut(&s.out, between)
		cut(&s.in, between)
	case transport.OpDeleteAssociationType:
		r.Found = cut(&s.out, same)
		cut(&s.in, same)
	case transport.OpUnlinkOut:
		r.Found = cut(&s.out, between)
	case transport.OpUnlinkIn:
		r.Found = cut(&s.in, between)
	case transport.OpUnlinkOutType:
		r.Found = cut(&s.out, same)
	case transport.OpUnlinkInType:
		r.Found = cut(&s.in, same)
	default:
		return s.look(op, source)
	}
	return r, nil, nil
}

func (s *shelf) change(op *transport.Op, row *item) (r transport.OpResult, far []transport.AssociationID, err *event.Error) {
	switch {
	case op.Kind == transport.OpLearnConcept:
		next := &item{content: op.Content, attrs: map[string]string{}, version: 1}
		if row != nil {
			next.version = row.version + 1
		}
		if op.Metadata != nil {
			maps.Copy(next.attrs, op.Metadata.Attributes)
		}
		s.rows[op.ID] = next
		return r, nil, nil
	case op.Kind == transport.OpDeleteConcept && row != nil:
		for _, a := range s.edges(op.ID) {
			if !s.home(a.Source) || !s.home(a.Target) {
				far = append(far, a)
			}
		}
		mine := func(a transport.AssociationID) bool { return a.Source == op.ID || a.Target == op.ID }
		cut(&s.out, mine)
		cut(&s.in, mine)
		s.rows[op.ID] = &item{}
		return transport.OpResult{Found: true}, far, nil
	case op.Kind == transport.OpDeleteConcept:
		return r, nil, nil
	case row == nil:
		return r, nil, unmet("%s is absent", op.ID)
	case op.Kind == transport.OpSetAttribute:
		row.attrs[op.Key] = op.Value
	default:
		n, bad := row.number(op.Key)
		if bad != nil {
			return r, nil, unmet("not a number")
		}
		r.Value = n + op.Number
		row.attrs[op.Key] = strconv.FormatInt(r.Value, 10)
	}
	row.version++
	return r, nil, nil
}

func (s *shelf) look(op *transport.Op, row *item) (r transport.OpResult, far []transport.AssociationID, err *event.Error) {
	switch op.Kind {
	case transport.OpRead:
		if row != nil {
			r = transport.OpResult{Found: true, Content: row.content, Attributes: maps.Clone(row.attrs), Version: row.version}
		}
		return r, nil, nil
	case transport.OpReadNeighbors:
		return transport.OpResult{Neighbors: s.targets(op.ID)}, nil, nil
	case transport.OpAbsent:
		if row != nil {
			return r, nil, unmet("%s exists", op.ID)
		}
		return r, nil, nil
	}
	if row == nil {
		return r, nil, unmet("%s is absent", op.ID)
	}
	value, there := row.attrs[op.Key]
	n, bad := row.number(op.Key)
	held := map[transport.OpKind]bool{
		transport.OpExists: true, transport.OpVersion: row.version == op.Version,
		transport.OpAttributeEquals: there && value == op.Value, transport.OpAttributeAtLeast: bad == nil && n >= op.Number,
	}
	if holds, known := held[op.Kind]; !known || !holds {
		return r, nil, unmet("%s does not hold", op.Kind)
	}
	return r, nil, nil
}
