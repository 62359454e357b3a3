package history

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/sutra-grid/sutra-grid/transport"
)

// graph is the grid as one machine: what a transaction must find and leave, in the simplest form. Rows are never changed once they are
// in a graph, so graphs share them.
type graph struct {
	rows map[string]*row
	hash uint64 // the sum of its rows'
}

// row is a concept with its associations.
type row struct {
	version    uint64
	content    string
	attributes map[string]string
	out, in    []link // in the order in which they committed
	hash       uint64
}

type link struct {
	other     string
	assocType uint32
}

// run executes operations in order and returns what comes of them. failed has the indexes of those that did not hold; they are skipped,
// and a transaction with any leaves everything as it was.
func (g graph) run(ops []transport.Op) (next graph, results []transport.OpResult, failed []int) {
	d := &draft{base: g, rows: map[string]*row{}}
	results = make([]transport.OpResult, len(ops))
	for i, op := range ops {
		if !d.do(op, &results[i]) {
			failed = append(failed, i)
		}
	}
	if len(failed) > 0 {
		return g, results, failed
	}
	return d.graph(), results, nil
}

// draft is a graph that is being changed; its rows are its own. A row that is nil is absent.
type draft struct {
	base graph
	rows map[string]*row
}

func (d *draft) get(id string) *row {
	if r, own := d.rows[id]; own {
		return r
	}
	return d.base.rows[id]
}

// own is a row to change; nil: it is absent.
func (d *draft) own(id string) *row {
	if r, own := d.rows[id]; own || d.base.rows[id] == nil {
		return r
	}
	r := *d.base.rows[id]
	r.attributes, r.out, r.in = maps.Clone(r.attributes), slices.Clone(r.out), slices.Clone(r.in)
	d.rows[id] = &r
	return &r
}

func (d *draft) graph() graph {
	next := graph{maps.Clone(d.base.rows), d.base.hash}
	if next.rows == nil {
		next.rows = map[string]*row{}
	}
	for id, r := range d.rows {
		if was := next.rows[id]; was != nil {
			next.hash -= was.hash
		}
		delete(next.rows, id)
		if r != nil {
			r.hash = r.sum(id)
			next.rows[id], next.hash = r, next.hash+r.hash
		}
	}
	return next
}

// do executes one operation; false: it does not hold.
func (d *draft) do(op transport.Op, res *transport.OpResult) bool {
	r := d.get(op.ID)
	switch op.Kind {
	case transport.OpRead:
		if r != nil {
			*res = transport.OpResult{Found: true, Content: r.content, Attributes: maps.Clone(r.attributes), Version: r.version} // what follows may change them
		}
		return true
	case transport.OpReadNeighbors:
		res.Neighbors = r.neighbors()
		return true
	case transport.OpExists:
		return r != nil
	case transport.OpAbsent:
		return r == nil
	case transport.OpVersion:
		return r != nil && r.version == op.Version
	case transport.OpAttributeEquals:
		if r == nil {
			return false
		}
		value, has := r.attributes[op.Key]
		return has && value == op.Value
	case transport.OpAttributeAtLeast:
		n, ok := r.number(op.Key)
		return ok && n >= op.Number
	}
	return d.write(op, res)
}

func (d *draft) write(op transport.Op, res *transport.OpResult) bool {
	switch op.Kind {
	case transport.OpLearnConcept:
		r := d.own(op.ID)
		if r == nil {
			r = &row{}
			d.rows[op.ID] = r
		}
		r.version, r.content, r.attributes = r.version+1, op.Content, nil
		if op.Metadata != nil {
			r.attributes = maps.Clone(op.Metadata.Attributes)
		}
	case transport.OpDeleteConcept:
		d.remove(op.ID)
	case transport.OpLearnAssociation:
		from, to := d.own(op.ID), d.own(op.Target)
		if from == nil || to == nil {
			return false
		}
		from.out, to.in = bind(from.out, link{op.Target, op.AssocType}), bind(to.in, link{op.ID, op.AssocType})
	case transport.OpDeleteAssociation:
		d.unbind(op.ID, op.Target, func(uint32) bool { return true })
	case transport.OpDeleteAssociationType:
		d.unbind(op.ID, op.Target, func(t uint32) bool { return t == op.AssocType })
	case transport.OpSetAttribute:
		return d.own(op.ID).set(op.Key, op.Value)
	case transport.OpAdd:
		n, ok := d.get(op.ID).number(op.Key)
		if !ok || op.Number > 0 && n > math.MaxInt64-op.Number || op.Number < 0 && n < math.MinInt64-op.Number {
			return false
		}
		res.Value = n + op.Number
		return d.own(op.ID).set(op.Key, strconv.FormatInt(res.Value, 10))
	default:
		return false
	}
	return true
}

// bind appends an association that is new; an old one keeps its place.
func bind(all []link, l link) []link {
	if slices.Contains(all, l) {
		return all
	}
	return append(all, l)
}

func (d *draft) unbind(source, target string, which func(assocType uint32) bool) {
	if from := d.own(source); from != nil {
		from.out = slices.DeleteFunc(from.out, func(l link) bool { return l.other == target && which(l.assocType) })
	}
	if to := d.own(target); to != nil {
		to.in = slices.DeleteFunc(to.in, func(l link) bool { return l.other == source && which(l.assocType) })
	}
}

// remove deletes a concept with its associations.
func (d *draft) remove(id string) {
	r := d.own(id)
	if r == nil {
		return
	}
	all := func(uint32) bool { return true }
	for _, l := range slices.Clone(r.out) {
		d.unbind(id, l.other, all)
	}
	for _, l := range slices.Clone(r.in) {
		d.unbind(l.other, id, all)
	}
	d.rows[id] = nil
}

// neighbors is the distinct targets, in the order in which their first association committed.
func (r *row) neighbors() (ids []string) {
	if r == nil {
		return nil
	}
	seen := make(map[string]bool, len(r.out))
	for _, l := range r.out {
		if !seen[l.other] {
			seen[l.other] = true
			ids = append(ids, l.other)
		}
	}
	return ids
}

// number is an attribute as a decimal int64, absent: 0; false: it is none, or there is no concept.
func (r *row) number(key string) (int64, bool) {
	if r == nil {
		return 0, false
	}
	text, has := r.attributes[key]
	if !has {
		return 0, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// set changes an attribute; false: there is no concept.
func (r *row) set(key, value string) bool {
	if r == nil {
		return false
	}
	if r.attributes == nil {
		r.attributes = map[string]string{}
	}
	r.version++
	r.attributes[key] = value
	return true
}

// equal compares two graphs.
func (g graph) equal(o graph) bool {
	return g.hash == o.hash && maps.EqualFunc(g.rows, o.rows, func(a, b *row) bool {
		return a == b || a.version == b.version && a.content == b.content && maps.Equal(a.attributes, b.attributes) &&
			slices.Equal(a.out, b.out) && slices.Equal(a.in, b.in)
	})
}

// sum is a hash of a row. Maps have no order, so each attribute is hashed by itself.
func (r *row) sum(id string) uint64 {
	attributes := uint64(0)
	for k, v := range r.attributes {
		attributes += digest(k, v)
	}
	parts := []string{id, r.content, strconv.FormatUint(r.version, 16), strconv.FormatUint(attributes, 16)}
	for _, links := range [][]link{r.out, r.in} {
		parts = append(parts, strconv.Itoa(len(links)))
		for _, l := range links {
			parts = append(parts, l.other, strconv.FormatUint(uint64(l.assocType), 16))
		}
	}
	return digest(parts...)
}

func digest(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p)) // never fails
		h.Write([]byte{0})
	}
	return h.Sum64()
}
