package vector

import (
	"context"
	"fmt"
	"iter"
)

// buildVectors is how many rows Build holds at a time: as floats of the largest dimension, 16 MiB.
const buildVectors = 8 * batchVectors

// Build makes an index of all rows there are at an applied index. Rows come with their vectors; what Validate refuses among them,
// which for a shard's rows can only be a vector of zeros, is left out and counted. It ends with the first error of rows
// or of the context.
func Build(ctx context.Context, o Options, applied uint64, rows iter.Seq2[Change, error]) (x *Index, left int, err error) {
	if x, err = New(o); err != nil {
		return nil, 0, err
	}
	var some []Change
	for c, err := range rows {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, 0, fmt.Errorf("build vector index, %d vectors done: %w", x.Len(), err)
		}
		if Validate(c.Vector, o.Dimension) != nil {
			left++
			continue
		}
		if some = append(some, c); len(some) == buildVectors {
			if err := x.Apply(0, some); err != nil {
				return nil, 0, fmt.Errorf("build vector index: %w", err)
			}
			some = some[:0]
		}
	}
	if err := x.Apply(applied, some); err != nil {
		return nil, 0, fmt.Errorf("build vector index: %w", err)
	}
	return x, left, nil
}

// IDs are the ids of all vectors, in no order. With them a caller that knows which rows changed, but not which were deleted,
// finds the deleted ones.
func (x *Index) IDs() []string {
	x.names.RLock()
	defer x.names.RUnlock()
	ids := make([]string, 0, len(x.slots))
	for id := range x.slots {
		ids = append(ids, id)
	}
	return ids
}
