package txn

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// half is what one shard does of a transaction.
type half struct {
	shard event.ShardID
	ops   []transport.Op
	index []int // of each op in the transaction
}

// validate checks a client's transaction against the limits before anything is sent.
func validate(req *transport.Txn) error {
	if len(req.Ops) == 0 {
		return &event.Error{Kind: event.KindInvalid, Op: "txn", Message: "it has no operations"}
	}
	for i, op := range req.Ops {
		if op.Kind != transport.OpLearnConcept && op.Kind != transport.OpLearnAssociation {
			return &event.Error{Kind: event.KindInvalid, Op: "txn",
				Message: fmt.Sprintf("op %d is a %.32q: want %s or %s", i, op.Kind, transport.OpLearnConcept, transport.OpLearnAssociation)}
		}
	}
	return transport.Validate(req, 0)
}

// split gives every shard its part, in the order of the operations. An association over two shards becomes its two halves.
func split(m *shardmap.Map, ops []transport.Op) ([]half, error) {
	byShard := map[event.ShardID]*half{}
	for i, op := range ops {
		parts, err := partsOf(m, op)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			h := byShard[p.shard]
			if h == nil {
				h = &half{shard: p.shard}
				byShard[p.shard] = h
			}
			h.ops = append(h.ops, p.op)
			h.index = append(h.index, i)
		}
	}
	halves := make([]half, 0, len(byShard))
	for _, h := range byShard {
		halves = append(halves, *h)
	}
	slices.SortFunc(halves, func(a, b half) int { return cmp.Compare(a.shard, b.shard) })
	return halves, nil
}

// part is what one shard does of an operation.
type part struct {
	shard event.ShardID
	op    transport.Op
}

func partsOf(m *shardmap.Map, op transport.Op) ([]part, error) {
	source, err := m.Shard(op.ID)
	if err != nil {
		return nil, err
	}
	if op.Kind != transport.OpLearnAssociation {
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
	out.Kind, in.Kind = transport.OpLinkOut, transport.OpLinkIn
	return []part{{source.ID, out}, {target.ID, in}}, nil
}
