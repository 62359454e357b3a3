package txn

import (
	"cmp"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// half is what one shard does of a transaction, or of one step of it.
type half struct {
	shard event.ShardID
	ops   []transport.Op
	index []int // of each op in the transaction
	far   int   // how many of the ops, the first ones, are halves that votes brought: of what deletes remove
}

// step is a run of operations that every shard can do without knowing what the others find. Only delete_concept makes more
// than one: what it removes is known when its shard has voted, and an operation behind it that meets those associations at
// another shard has to come after their halves there.
type step struct {
	halves  []half // by shard
	deletes bool   // something in it may have halves that are found out
}

// plan is a transaction as the shards of one map do it.
type plan struct {
	shards *shardmap.Map
	steps  []step
}

// validate checks a client's transaction against the limits before anything is sent.
func validate(req *transport.Txn) error { return transport.Validate(req, 0) }

// planOf gives every shard its operations, in their order. An operation on an association over two shards becomes its two halves.
func planOf(m *shardmap.Map, ops []transport.Op) (*plan, error) {
	p := &plan{shards: m}
	cur := newDraft()
	for i, op := range ops {
		parts, err := partsOf(m, op)
		if err != nil {
			return nil, err
		}
		if cur.meets(op, parts) {
			p.steps = append(p.steps, cur.step())
			cur = newDraft()
		}
		cur.add(i, parts)
	}
	last := cur.step()
	p.steps = append(p.steps, last)
	if last.deletes {
		p.steps = append(p.steps, step{}) // for the halves of what it deletes
	}
	return p, nil
}

// single tells whether one shard does all that is known beforehand.
func (p *plan) single() bool { return len(p.participants()) == 1 }

// participants are the shards of the operations.
func (p *plan) participants() []event.ShardID {
	var ids []event.ShardID
	for _, s := range p.steps {
		for _, h := range s.halves {
			ids = append(ids, h.shard)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// draft is a step in the making.
type draft struct {
	byShard map[event.ShardID]*half
	deleted map[string]event.ShardID // concepts, and where they were
}

func newDraft() *draft {
	return &draft{byShard: map[event.ShardID]*half{}, deleted: map[string]event.ShardID{}}
}

// meets tells whether an operation could see or make, at one shard, an association that a delete before it removes there from another
// one: halves of a delete come with the next step.
func (d *draft) meets(op transport.Op, parts []part) bool {
	switch op.Kind {
	case transport.OpReadNeighbors:
		for _, shard := range d.deleted {
			if shard != parts[0].shard {
				return true
			}
		}
	case transport.OpLearnAssociation:
		_, source := d.deleted[op.ID]
		_, target := d.deleted[op.Target]
		return len(parts) == 2 && (source || target)
	}
	return false
}

func (d *draft) add(i int, parts []part) {
	for _, p := range parts {
		h := d.byShard[p.shard]
		if h == nil {
			h = &half{shard: p.shard}
			d.byShard[p.shard] = h
		}
		h.ops = append(h.ops, p.op)
		h.index = append(h.index, i)
		if p.op.Kind == transport.OpDeleteConcept {
			d.deleted[p.op.ID] = p.shard
		}
	}
}

func (d *draft) step() step {
	return step{halves: inOrder(d.byShard), deletes: len(d.deleted) > 0}
}

func inOrder(byShard map[event.ShardID]*half) []half {
	halves := make([]half, 0, len(byShard))
	for _, h := range byShard {
		halves = append(halves, *h)
	}
	slices.SortFunc(halves, func(a, b half) int { return cmp.Compare(a.shard, b.shard) })
	return halves
}

// part is what one shard does of an operation.
type part struct {
	shard event.ShardID
	op    transport.Op
}

// halvesOf names the halves of operations that concern both ends of an association.
var halvesOf = map[transport.OpKind][2]transport.OpKind{
	transport.OpLearnAssociation:      {transport.OpLinkOut, transport.OpLinkIn},
	transport.OpDeleteAssociation:     {transport.OpUnlinkOut, transport.OpUnlinkIn},
	transport.OpDeleteAssociationType: {transport.OpUnlinkOutType, transport.OpUnlinkInType},
}

func partsOf(m *shardmap.Map, op transport.Op) ([]part, error) {
	source, err := m.Shard(op.ID)
	if err != nil {
		return nil, err
	}
	kinds, both := halvesOf[op.Kind]
	if !both {
		return []part{{source.ID, op}}, nil
	}
	target, err := m.Shard(op.Target)
	if err != nil {
		return nil, err
	}
	if source.ID == target.ID {
		return []part{{source.ID, op}}, nil
	}
	out, in := op, op
	out.Kind, in.Kind = kinds[0], kinds[1]
	return []part{{source.ID, out}, {target.ID, in}}, nil
}

// farHalves are the halves, at the shards that own them, of the associations that deletes at one shard remove: of each, the ends that
// are not there. index is the delete's in the transaction, as near as it is known.
func (p *plan) farHalves(at half, far []transport.AssociationID, into map[event.ShardID]*half) error {
	for _, a := range far {
		index := deleteOf(at, a)
		op := transport.Op{ID: a.Source, Target: a.Target, AssocType: a.AssocType}
		for _, end := range []struct {
			id   string
			kind transport.OpKind
		}{{a.Source, transport.OpUnlinkOutType}, {a.Target, transport.OpUnlinkInType}} {
			shard, err := p.shards.Shard(end.id)
			if err != nil {
				return err
			}
			if shard.ID == at.shard {
				continue
			}
			op.Kind = end.kind
			h := into[shard.ID]
			if h == nil {
				h = &half{shard: shard.ID}
				into[shard.ID] = h
			}
			h.ops, h.index, h.far = append(h.ops, op), append(h.index, index), h.far+1
		}
	}
	return nil
}

// deleteOf is the index of the operation that removes an association.
func deleteOf(at half, a transport.AssociationID) int {
	for i, op := range at.ops {
		if op.Kind == transport.OpDeleteConcept && (op.ID == a.Source || op.ID == a.Target) {
			return at.index[i]
		}
	}
	return at.index[0]
}
