package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// Stopped reads the store of a replica whose process does not run. It changes nothing in it: a store of an older format is
// read as it is, and what a crash left beside the store stays there. Its methods are not safe for concurrent use.
type Stopped struct {
	store *store
	shard event.ShardID
	meta  meta
}

// Summary is what a stopped store says about itself.
type Summary struct {
	Store     string // its directory's name
	Format    uint32
	Applied   uint64 // log index of the last entry in it
	LogTime   int64  // of that entry, unix µs
	Horizon   event.Position
	Dimension uint32 // of its vectors; 0: there is none
	Concepts  uint64
	Edges     uint64 // each association once, at its source
	Vectors   uint64
	Written   uint64
	Tables    int    // sorted files
	Bytes     uint64 // of them
}

// OpenStopped opens the store in an engine's directory for reading. The caller holds the directory.
func OpenStopped(dir string, o Options) (*Stopped, error) {
	if o.fs == nil {
		o.fs = vfs.Default
	}
	name, err := current(o.fs, dir)
	if err != nil {
		return nil, fmt.Errorf("find the store of %s: %w", dir, err)
	}
	c := storeConfig{fs: o.fs, cacheBytes: 32 << 20, log: o.Log, fatal: func(error) {}} // a damaged file is an error of the read too
	s, err := c.open(o.fs.PathJoin(dir, name), &pebble.Options{ErrorIfNotExists: true, ReadOnly: true})
	if err != nil {
		return nil, damaged(err)
	}
	x := &Stopped{store: s, shard: o.ShardID}
	if err := x.loadMeta(); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", s.dir, damaged(err)), x.Close())
	}
	return x, nil
}

func (x *Stopped) loadMeta() error {
	found, err := row(x.store.db, []byte{tableMeta}, func(value []byte) error { return pack.UnmarshalLoose(value, &x.meta) })
	if err == nil && !found {
		err = errors.New("its own record is missing")
	}
	if err != nil {
		return err
	}
	return x.meta.check(&Options{ShardID: x.shard, Dimension: x.meta.Dimension})
}

// Close ends the reading.
func (x *Stopped) Close() error {
	x.store.release()
	<-x.store.closed
	return x.store.err
}

// Summary costs nothing.
func (x *Stopped) Summary() (Summary, error) {
	m := &x.meta
	s := Summary{
		Store: x.store.fs.PathBase(x.store.dir), Format: m.Format, Applied: m.Applied, LogTime: m.LogTime, Horizon: m.Horizon, Dimension: m.Dimension,
		Concepts: m.Concepts, Edges: m.Edges, Vectors: m.Vectors, Written: m.Written,
	}
	err := x.eachTable(func(t pebble.SSTableInfo) error { s.Tables++; s.Bytes += t.Size; return nil })
	return s, err
}

func (x *Stopped) eachTable(fn func(pebble.SSTableInfo) error) error {
	levels, err := x.store.db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, t := range level {
			if err := fn(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// DamagedFiles reads every sorted file block by block and lists those of which a checksum does not match.
func (x *Stopped) DamagedFiles(ctx context.Context) (found []error, err error) {
	err = x.eachTable(func(t pebble.SSTableInfo) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		path := x.store.fs.PathJoin(x.store.dir, fmt.Sprintf("%s.sst", t.FileNum))
		if err := validateTable(ctx, x.store.fs, path); err != nil {
			found = append(found, fmt.Errorf("%s: %w", path, err))
		}
		return nil
	})
	return found, err
}

func validateTable(ctx context.Context, fs vfs.FS, path string) error {
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the file is missing")
	}
	if err != nil {
		return err
	}
	var readable objstorage.Readable
	if readable, err = sstable.NewSimpleReadable(f); err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// Concepts calls fn for all concepts in byte order of their ids, each with its vector, nil when it has none.
func (x *Stopped) Concepts(ctx context.Context, fn func(*Concept, []float32) error) error {
	return x.rows(ctx, tableConcept, func(key, value []byte) error {
		var r conceptRecord
		if err := pack.UnmarshalLoose(value, &r); err != nil {
			return err
		}
		c := r.concept(string(key[1:]))
		var vector []float32
		_, err := row(x.store.db, vectorKey(nil, c.ID), func(value []byte) (err error) { vector, err = decodeVector(value); return err })
		if err != nil {
			return err
		}
		return fn(c, vector)
	})
}

// Associations calls fn for all associations whose source is here, by source, and those of one in commit order.
func (x *Stopped) Associations(ctx context.Context, fn func(Association) error) error {
	return x.rows(ctx, tableOut, func(key, value []byte) error {
		id, _, l, err := decodeLink(key, value)
		if err != nil {
			return err
		}
		return fn(Association{Source: id, Target: l.Other, Type: l.Type, Confidence: l.Confidence})
	})
}

// Prepared lists the transactions in doubt.
func (x *Stopped) Prepared() (list []Prepared, err error) {
	err = x.rows(context.Background(), tablePrepared, func(key, value []byte) error {
		p, err := decodePrepared(key, value)
		if err == nil {
			list = append(list, *p)
		}
		return err
	})
	return list, err
}

// walkLook is how many rows are read between two looks at the context.
const walkLook = 1000

// rows is eachRow, as long as ctx lets it.
func (x *Stopped) rows(ctx context.Context, table byte, fn func(key, value []byte) error) error {
	n := 0
	err := eachRow(x.store.db, table, func(key, value []byte) error {
		if n++; n%walkLook == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fn(key, value)
	})
	return damaged(err)
}

// decodeLink reads a row of a table of links.
func decodeLink(key, value []byte) (id string, at order, l link, err error) {
	if len(key) < 2+orderLen || key[len(key)-orderLen-1] != idEnd {
		return "", order{}, link{}, fmt.Errorf("a link's key of %d bytes", len(key))
	}
	if at, err = decodeOrder(key[len(key)-orderLen:]); err != nil {
		return "", at, l, err
	}
	return string(key[1 : len(key)-orderLen-1]), at, l, l.read(value)
}
