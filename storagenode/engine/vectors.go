package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Vectors is the shard's vectors at one point in time, for whoever indexes or searches them. One goroutine uses it.
type Vectors struct {
	e       *Engine
	store   *store
	db      *pebble.Snapshot
	applied uint64
	key     []byte
}

// Vectors fixes the vectors as they are; Close it soon, as the store keeps what changes meanwhile twice.
func (e *Engine) Vectors() (*Vectors, error) {
	s, err := e.use()
	if err != nil {
		return nil, err
	}
	v := &Vectors{e: e, store: s, db: s.db.NewSnapshot()}
	found, err := row(v.db, []byte{tableMeta}, func(value []byte) error {
		var m meta
		err := pack.UnmarshalLoose(value, &m)
		v.applied = m.Applied
		return err
	})
	if err == nil && !found {
		err = errors.New("the store's own record is missing")
	}
	if err != nil {
		return nil, errors.Join(e.readError(err), v.Close())
	}
	return v, nil
}

// Close gives the point in time up.
func (v *Vectors) Close() error {
	defer v.store.release()
	return v.db.Close()
}

// Applied is the applied index that the vectors are those of.
func (v *Vectors) Applied() uint64 { return v.applied }

// Vector reads a concept's vector into buf's memory if that is enough; nil when it has none.
func (v *Vectors) Vector(id string, buf []float32) (vector []float32, err error) {
	v.key = vectorKey(v.key[:0], id)
	_, err = row(v.db, v.key, func(value []byte) (err error) {
		vector, err = decodeVectorTo(buf, value)
		return err
	})
	return vector, v.e.readError(err)
}

// Each gives take every concept's vector, in the order of ids, until it wants no more. The vector is valid until take returns.
func (v *Vectors) Each(take func(id string, vector []float32) (more bool)) error {
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableVector}, UpperBound: []byte{tableVector + 1}})
	if err != nil {
		return v.e.readError(err)
	}
	var vector []float32
	for more := it.First(); more; more = more && it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			vector, err = decodeVectorTo(vector, value)
		}
		if err != nil {
			return v.e.readError(errors.Join(err, it.Close()))
		}
		more = take(string(it.Key()[1:]), vector)
	}
	return v.e.readError(errors.Join(it.Error(), it.Close()))
}

// Changed lists whose vectors changed behind an index, in the order of the log, an id once for each entry that changed it: about
// limit of them, with all of the last entry. through is the index that they are all changes up to. known is false when the record
// does not reach back that far; then only Each tells what changed.
func (v *Vectors) Changed(after uint64, limit int) (ids []string, through uint64, known bool, err error) {
	behind, found, err := indexRow(v.db, tableChangesBehind)
	if err != nil || !found || after < behind {
		return nil, 0, false, v.e.readError(err)
	}
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: changeKey(nil, after+1, ""), UpperBound: []byte{tableVectorChange + 1}})
	if err != nil {
		return nil, 0, false, v.e.readError(err)
	}
	through = v.applied
	var last uint64
	for ok := it.First(); ok; ok = it.Next() {
		key := it.Key()
		if len(key) < 9 {
			return nil, 0, false, v.e.readError(errors.Join(fmt.Errorf("record of a changed vector of %d bytes", len(key)), it.Close()))
		}
		index := binary.BigEndian.Uint64(key[1:])
		if len(ids) >= limit && index != last {
			through = last
			break
		}
		last = index
		ids = append(ids, string(key[9:]))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, 0, false, v.e.readError(err)
	}
	return ids, through, true, nil
}

// Selection is which concepts are asked for.
type Selection struct {
	Attributes map[string]string // all of them
	Tags       []string          // all of them
}

// Everything tells whether it selects all concepts.
func (s *Selection) Everything() bool { return len(s.Attributes) == 0 && len(s.Tags) == 0 }

// Selected lists the selected concepts from the indexes, those without a vector too; all is false when there are more than limit, or
// when finding them would take too long. Two values that share a hash are not told apart: ask Selects about what matters.
func (v *Vectors) Selected(s *Selection, limit int) (ids []string, all bool, err error) {
	f := &search{r: v.db, q: &transport.QueryByMetadata{Attributes: s.Attributes, Tags: s.Tags}}
	f.take = func(id string) error { ids = append(ids, id); return nil }
	f.full = func() bool { return len(ids) >= limit }
	if err = f.open(); err == nil {
		err = f.read(nil)
	}
	err = errors.Join(err, f.close())
	return ids, !f.more, v.e.readError(err)
}

// Selects tells whether a concept is selected, by its row.
func (v *Vectors) Selects(s *Selection, id string) (yes bool, err error) {
	f := &search{q: &transport.QueryByMetadata{Attributes: s.Attributes, Tags: s.Tags}}
	v.key = conceptKey(v.key[:0], id)
	_, err = row(v.db, v.key, func(value []byte) error {
		h, err := decodeHead(value)
		if err == nil {
			yes = f.matches(h.attributes, h.tags)
		}
		return err
	})
	return yes, v.e.readError(err)
}

// OnFS puts the store on another filesystem, for tests of what is built upon an engine: one that can crash.
func (o Options) OnFS(fs vfs.FS) Options {
	o.fs = fs
	return o
}
