package nearest

import (
	"context"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/vector"
)

// build makes the index of all vectors.
func (k *Keeper) build(ctx context.Context, view *engine.Vectors) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	defer k.end()
	start := time.Now()
	rows := func(yield func(vector.Change, error) bool) {
		err := view.Each(func(id string, v []float32) bool { return yield(vector.Change{ID: id, Vector: slices.Clone(v)}, nil) })
		if err != nil {
			yield(vector.Change{}, err)
		}
	}
	x, left, err := vector.Build(ctx, k.options(), view.Applied(), rows)
	if err != nil {
		return err
	}
	k.index.Store(x)
	if x.Len() == 0 {
		return nil // of a new shard: nothing to report or to save
	}
	k.dirty, k.unsaved = true, x.Len()
	if left > 0 {
		k.c.Log.Info("vectors of zeros have no direction and are not found by searches", "vectors", left)
	}
	if k.c.Reports.Built != nil {
		k.c.Reports.Built(Built{Vectors: x.Len(), Took: time.Since(start), Dimension: k.c.Dimension})
	}
	return nil
}

// compare brings the index up to date where nobody knows what changed: a vector whose code is the same costs little.
func (k *Keeper) compare(ctx context.Context, view *engine.Vectors, x *vector.Index) (err error) {
	if err := k.begin(ctx); err != nil {
		return err
	}
	defer k.end()
	start := time.Now()
	u := update{x: x, view: view}
	eachErr := view.Each(func(id string, v []float32) bool {
		err = u.take(id, v)
		if err == nil {
			err = ctx.Err()
		}
		return err == nil
	})
	if err == nil {
		err = eachErr
	}
	if err != nil {
		return err
	}
	for _, id := range x.IDs() {
		if err := u.add(id); err != nil { // as it is: those that went are nil
			return err
		}
	}
	if err := k.changed(&u, view.Applied()); err != nil {
		return err
	}
	k.c.Log.Info("vector index compared with all vectors", "vectors", x.Len(), "applied", x.Applied(), "took", time.Since(start))
	return nil
}

// begin waits until this Keeper may build.
func (k *Keeper) begin(ctx context.Context) error {
	select {
	case k.c.Building <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *Keeper) end() { <-k.c.Building }

// update is vectors on their way into the index, in groups.
type update struct {
	x       *vector.Index
	view    *engine.Vectors
	group   []vector.Change
	changes int // all of them
}

// add takes a concept's vector as it is.
func (u *update) add(id string) error {
	v, err := u.view.Vector(id, nil)
	if err != nil {
		return err
	}
	return u.put(id, v)
}

// take is add of a vector that was read already and will be overwritten.
func (u *update) take(id string, v []float32) error { return u.put(id, slices.Clone(v)) }

func (u *update) put(id string, v []float32) error {
	if v != nil && vector.Validate(v, u.x.Options().Dimension) != nil {
		v = nil // of zeros: nothing is near it
	}
	u.group = append(u.group, vector.Change{ID: id, Vector: v})
	u.changes++
	if len(u.group) < stepChanges {
		return nil
	}
	return u.flush(u.x.Applied())
}

// flush applies the group, and says what the index is complete to.
func (u *update) flush(applied uint64) error {
	err := u.x.Apply(applied, u.group)
	u.group = u.group[:0]
	return err
}
