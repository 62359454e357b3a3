package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// maxReplyBytes bounds the ids in one reply, a little below the limit of a frame. Larger answers are asked for in pages.
const maxReplyBytes = 90 << 20

// Concept is a concept as stored.
type Concept struct {
	ID                   string
	Content              string
	Strength, Confidence float32
	Attributes           map[string]string
	Tags                 []string
	Version              uint64 // 1 at its creation, one more with each change of its own fields
	Created, Modified    int64  // log time, unix µs
	Dimension            uint32 // of its vector; 0: none
}

// Association is one association as stored.
type Association struct {
	Source, Target string
	Type           uint32
	Confidence     float32
}

// view runs fn on one point in time.
func (e *Engine) view(fn func(pebble.Reader) error) error {
	s, err := e.use()
	if err != nil {
		return err
	}
	defer s.release()
	snapshot := s.db.NewSnapshot()
	err = errors.Join(fn(snapshot), snapshot.Close())
	return e.readError(err)
}

// readError gives a failed read its kind. A damaged file is in Pebble's message and has gone to Options.Fatal as well.
func (e *Engine) readError(err error) error {
	var refusal *event.Error
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	return &event.Error{Kind: event.KindInternal, Op: "read shard " + string(e.o.ShardID), Message: damaged(err).Error()}
}

// damaged adds the file to Pebble's error when it is about one.
func damaged(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fmt.Errorf("damaged file %s: %w", info.Path, err)
	}
	return err
}

// row calls fn with a row's value, which is valid until fn returns.
func row(r pebble.Reader, key []byte, fn func(value []byte) error) (found bool, err error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(fn(value), closer.Close())
}

func ignoreValue([]byte) error { return nil }

// point reads one row, which is a point in time by itself.
func (e *Engine) point(key []byte, fn func(value []byte) error) (found bool, err error) {
	s, err := e.use()
	if err != nil {
		return false, err
	}
	defer s.release()
	found, err = row(s.db, key, fn)
	return found, e.readError(err)
}

// Concept reads a concept without its vector.
func (e *Engine) Concept(id string) (c *Concept, found bool, err error) {
	found, err = e.point(conceptKey(nil, id), func(value []byte) error {
		var r conceptRecord
		if err := pack.UnmarshalLoose(value, &r); err != nil {
			return fmt.Errorf("decode concept %q: %w", id, err)
		}
		c = r.concept(id)
		return nil
	})
	return c, found && err == nil, err
}

// Vector reads a concept's embedding; nil when it has none.
func (e *Engine) Vector(id string) (v []float32, err error) {
	_, err = e.point(vectorKey(nil, id), func(value []byte) (err error) {
		v, err = decodeVector(value)
		return err
	})
	return v, err
}

// Exists tells whether a concept is there.
func (e *Engine) Exists(id string) (bool, error) {
	return e.point(conceptKey(nil, id), ignoreValue)
}

// Association reads the one of the lowest type from source to target.
func (e *Engine) Association(source, target string) (a *Association, found bool, err error) {
	prefix := indexPrefix(nil, outgoing, source, target)
	err = e.view(func(r pebble.Reader) error {
		at, there, err := lowest(r, prefix)
		if err != nil || !there {
			return err
		}
		found, err = row(r, linkKey(nil, outgoing, source, at), func(value []byte) error {
			var l link
			if err := l.read(value); err != nil {
				return fmt.Errorf("decode association %q -> %q: %w", source, target, err)
			}
			a = &Association{Source: source, Target: target, Type: l.Type, Confidence: l.Confidence}
			return nil
		})
		if err == nil && !found {
			return fmt.Errorf("association %q -> %q is in the index and not in the table", source, target)
		}
		return err
	})
	return a, found && err == nil, err
}

// lowest reads the first index row with a prefix.
func lowest(r pebble.Reader, prefix []byte) (at order, found bool, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(nil, prefix)})
	if err != nil {
		return at, false, err
	}
	if found = it.First(); found {
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			at, err = decodeOrder(value)
		}
	}
	return at, found, errors.Join(err, it.Error(), it.Close())
}

// IDs lists at most limit ids behind after, in byte order. An answer that would be larger than a frame is refused.
func (e *Engine) IDs(after string, limit int) ([]string, error) {
	lower := conceptKey(nil, after)
	if after != "" {
		lower = append(lower, 0) // no id contains NUL, so the next key is behind this
	}
	ids := []string{}
	size := 0
	err := e.view(func(r pebble.Reader) error {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{tableConcept + 1}})
		if err != nil {
			return err
		}
		for ok := it.First(); ok && len(ids) < limit && size <= maxReplyBytes; ok = it.Next() {
			id := string(it.Key()[1:])
			ids = append(ids, id)
			size += idBytes(id)
		}
		return errors.Join(it.Error(), it.Close())
	})
	if err == nil && size > maxReplyBytes {
		return nil, tooLarge("list ids", "page through them")
	}
	return ids, err
}

// idBytes is about what an id takes in a reply.
func idBytes(id string) int { return len(id) + 3 }

func tooLarge(op, advice string) *event.Error {
	return &event.Error{Kind: event.KindTooLarge, Op: op, Message: fmt.Sprintf("the answer is larger than %d MiB; %s", maxReplyBytes>>20, advice)}
}

// digestRows is how many rows are read between two looks at the deadline; they take milliseconds.
const digestRows = 10_000

// Digest is a SHA-256 over all keys and values but the replica's own, and the index it stands for. Replicas that applied the
// same entries have the same one. It reads the whole store, or as far as ctx lets it.
func (e *Engine) Digest(ctx context.Context) (sum [32]byte, applied uint64, err error) {
	err = e.view(func(r pebble.Reader) error {
		h := newDigest()
		found, err := row(r, []byte{tableMeta}, func(value []byte) error {
			var m meta
			err := pack.UnmarshalLoose(value, &m)
			applied = m.Applied
			return err
		})
		if err == nil && !found {
			err = errors.New("the store's own record is missing")
		}
		if err != nil {
			return err
		}
		it, err := r.NewIter(nil)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			if isLocal(it.Key()) {
				continue
			}
			value, err := it.ValueAndErr()
			if err != nil {
				return errors.Join(err, it.Close())
			}
			h.add(it.Key(), value)
			if h.rows%digestRows == 0 && ctx.Err() != nil {
				return errors.Join(context.Cause(ctx), it.Close())
			}
		}
		sum = h.sum()
		return errors.Join(it.Error(), it.Close())
	})
	return sum, applied, err
}
