package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The secondary indexes. Their rows are a function of the concept's row and nothing else: they are written in the batch
// that writes it, and a store that was made without them gets them when it is opened (upgrade.go).
//
// Attributes and tags are in the keys by a hash, because both may be longer than a key should be and because they are only
// ever asked for as a whole. Readers compare with the concept's row, so two that share a hash cost time and never an answer.

// EventsShard is the shard of event storage (safety S25). A concept there is an event, and was created when it happened: at
// the attribute timestamp, RFC 3339.
const EventsShard event.ShardID = "events"

const timestampAttribute = "timestamp"

// indexHashLen is the length of a hash in an index key.
const indexHashLen = 16

// indexed is what the indexes know of a concept.
type indexed struct {
	created    int64
	attributes map[string]string
	tags       []string
}

func (x *indexed) equal(y *indexed) bool {
	return x.created == y.created && maps.Equal(x.attributes, y.attributes) && slices.Equal(x.tags, y.tags)
}

// keys are the rows of a concept, sorted and distinct.
func (x *indexed) keys(id string) [][]byte {
	keys := make([][]byte, 0, 1+len(x.attributes)+len(x.tags))
	keys = append(keys, timeKey([]byte{tableByTime}, x.created, id))
	for k, v := range x.attributes {
		keys = append(keys, timeKey(attributePrefix(nil, k, v), x.created, id))
	}
	for _, tag := range x.tags {
		keys = append(keys, timeKey(tagPrefix(nil, tag), x.created, id))
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// timeKey appends what orders an index: time and id.
func timeKey(prefix []byte, created int64, id string) []byte {
	return append(appendTime(prefix, created), id...)
}

// appendTime keeps the order of times, also of those before 1970.
func appendTime(b []byte, t int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t)^(1<<63))
}

// splitTimeKey reads what timeKey appended.
func splitTimeKey(b []byte) (created int64, id []byte, ok bool) {
	if len(b) < 9 {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)), b[8:], true
}

// attributePrefix is common to all concepts with an attribute, in the order of their creation.
func attributePrefix(b []byte, key, value string) []byte {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(key)))
	h.Write(n[:])
	h.Write([]byte(key))
	h.Write([]byte(value))
	return append(append(b, tableByAttribute), h.Sum(nil)[:indexHashLen]...)
}

// tagPrefix is common to all concepts with a tag, in the order of their creation.
func tagPrefix(b []byte, tag string) []byte {
	sum := sha256.Sum256([]byte(tag))
	return append(append(b, tableByTag), sum[:indexHashLen]...)
}

// reindex replaces the index rows of a concept; before or after is nil when there is none.
func (a *applier) reindex(id string, before, after *indexed) error {
	var old, now [][]byte
	if before != nil && after != nil && before.equal(after) {
		return nil
	}
	if before != nil {
		old = before.keys(id)
	}
	if after != nil {
		now = after.keys(id)
	}
	for len(old) > 0 || len(now) > 0 {
		c := compareFirst(old, now)
		var err error
		if c < 0 {
			err = a.remove(old[0])
		} else if c > 0 {
			err = a.put(now[0], nil)
		}
		if err != nil {
			return err
		}
		if c <= 0 {
			old = old[1:]
		}
		if c >= 0 {
			now = now[1:]
		}
	}
	return nil
}

// compareFirst compares the first of two sorted lists; what is in no list is behind everything.
func compareFirst(a, b [][]byte) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return bytes.Compare(a[0], b[0])
}

// created is when a concept that is learned was created: an event when it happened, everything else when it was first
// learned.
func (a *applier) created(op *transport.Op, before *head) int64 {
	if a.meta.ShardID == EventsShard && a.level >= deletesLevel && op.Metadata != nil {
		if at, ok := happened(op.Metadata.Attributes); ok {
			return at
		}
	}
	if before != nil {
		return before.created
	}
	return a.now
}

// happened reads an event's time, unix µs.
func happened(attributes map[string]string) (at int64, ok bool) {
	t, err := time.Parse(time.RFC3339Nano, attributes[timestampAttribute])
	if err != nil {
		return 0, false // not an event of the feed
	}
	at = t.UnixMicro()
	return at, at > -maxHappened && at < maxHappened
}

// maxHappened, unix µs, is the year 2242: up to there seconds as a float64 on the wire tell µs apart.
const maxHappened = 1 << 33 * 1_000_000

// indexConcepts writes the index rows of all concepts of a store that has none.
func indexConcepts(db *pebble.DB, shard event.ShardID) error {
	// An upgrade that was cut short may have left some, of rows that have changed since.
	if err := db.DeleteRange([]byte{tableByTime}, []byte{tableByTag + 1}, pebble.NoSync); err != nil {
		return err
	}
	batch := db.NewBatch()
	defer func() { _ = batch.Close() }() // of memory only
	err := eachRow(db, tableConcept, func(key, value []byte) error {
		if batch.Len() > upgradeBatchBytes {
			if err := batch.Commit(pebble.NoSync); err != nil {
				return err
			}
			batch.Reset()
		}
		return indexConcept(batch, shard, key, value)
	})
	if err != nil {
		return err
	}
	return batch.Commit(pebble.NoSync)
}

func indexConcept(batch *pebble.Batch, shard event.ShardID, key, value []byte) error {
	var r conceptRecord
	if err := pack.UnmarshalLoose(value, &r); err != nil {
		return err
	}
	if at, ok := happened(r.Attributes); ok && shard == EventsShard && at != r.Created {
		r.Created = at
		value, err := pack.AppendArray(nil, &r)
		if err != nil {
			return err
		}
		if err := batch.Set(key, value, nil); err != nil {
			return err
		}
	}
	x := indexed{created: r.Created, attributes: r.Attributes, tags: r.Tags}
	for _, row := range x.keys(string(key[1:])) {
		if err := batch.Set(row, nil, nil); err != nil {
			return err
		}
	}
	return nil
}
