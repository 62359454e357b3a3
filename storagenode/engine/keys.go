package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The key space of one shard. A key is a table's byte and what the table says; ids are UTF-8 without NUL, so 0x00 ends one
// and keeps byte order; numbers are big-endian. Numbers of tables are never reused. Values are MessagePack arrays of the
// structs in records.go unless the line says otherwise.
//
//	01                               -> meta: applied index, log time, horizon, counters
//	10 id                            -> concept
//	11 id                            -> its vector: float32s, little-endian, nothing else
//	12 index(8) id                   -> nothing: the vector was changed or removed at this log index (vectorrecord.go)
//	13                               -> behind which index table 12 has every change, 8 bytes
//	14                               -> up to which index it does, 8 bytes
//	20 source 00 order               -> link{target, type, confidence}, in commit order
//	21 target 00 order               -> link{source, type, confidence}, in commit order
//	22 source 00 target 00 type(4)   -> order (12 bytes) of the link in 20
//	23 target 00 source 00 type(4)   -> order (12 bytes) of the link in 21
//	30 request id(16)                -> outcome: what the request's first answer was (safety S3, S5)
//	31 txn id(16)                    -> prepared: the attempt in doubt here, with its intents; its locks follow from them
//	32 txn id(16) attempt(8)         -> attempt: refused or committed, until the horizon passes it (safety S4)
//	33 request id(16)                -> results: what a single-shard write answered
//	33 txn id(16) attempt(8)         -> results: what a committed attempt answered
//	40 created(8) id                 -> nothing: concepts in the order of their creation
//	41 hash(16) created(8) id        -> nothing: the same, of those with an attribute; the hash is of its key and value
//	42 hash(16) created(8) id        -> nothing: the same, of those with a tag
//
// Tables 12 to 14 are this replica's own: in no digest and in no snapshot. 15 to 1f are kept for what belongs to vectors.
//
// An order is the log index (8) and the position in the entry (4) at which the association first committed here. Learning it
// again finds the order in 22 and 23 and leaves it, so it keeps its place.
const (
	tableMeta    byte = 0x01
	tableConcept byte = 0x10
	tableVector  byte = 0x11

	tableVectorChange   byte = 0x12
	tableChangesBehind  byte = 0x13
	tableChangesThrough byte = 0x14

	tableOut      byte = 0x20
	tableIn       byte = 0x21
	tableOutIndex byte = 0x22
	tableInIndex  byte = 0x23
	tableOutcome  byte = 0x30
	tablePrepared byte = 0x31
	tableAttempt  byte = 0x32
	tableResults  byte = 0x33

	tableByTime      byte = 0x40
	tableByAttribute byte = 0x41
	tableByTag       byte = 0x42
)

// idEnd ends an id that something follows in the key.
const idEnd = 0x00

// order is a place in the shard's history of associations.
type order struct {
	index    uint64
	position uint32
}

// orderLen is an order's length in keys and values.
const orderLen = 12

func (o order) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, o.index)
	return binary.BigEndian.AppendUint32(b, o.position)
}

func (o order) before(p order) bool {
	if o.index != p.index {
		return o.index < p.index
	}
	return o.position < p.position
}

func decodeOrder(b []byte) (order, error) {
	if len(b) != orderLen {
		return order{}, fmt.Errorf("order of %d bytes, want %d", len(b), orderLen)
	}
	return order{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}, nil
}

// side says from which end an association is seen.
type side byte

const (
	outgoing side = iota
	incoming
)

// String is the direction's name on the wire.
func (s side) String() string {
	if s == incoming {
		return "in"
	}
	return "out"
}

// links and index are the side's tables.
func (s side) links() byte { return tableOut + byte(s) }
func (s side) index() byte { return tableOutIndex + byte(s) }

func idKey(b []byte, table byte, id string) []byte {
	return append(append(b, table), id...)
}

// isLocal tells the rows that are this replica's own.
func isLocal(key []byte) bool { return key[0] >= tableVectorChange && key[0] <= tableChangesThrough }

func conceptKey(b []byte, id string) []byte { return idKey(b, tableConcept, id) }
func vectorKey(b []byte, id string) []byte  { return idKey(b, tableVector, id) }

// linkPrefix is common to all links of id on one side; what follows is the order.
func linkPrefix(b []byte, s side, id string) []byte {
	return append(idKey(b, s.links(), id), idEnd)
}

func linkKey(b []byte, s side, id string, o order) []byte {
	return o.append(linkPrefix(b, s, id))
}

// indexPrefix is common to all index rows of the associations between two ids, lowest type first.
func indexPrefix(b []byte, s side, id, other string) []byte {
	b = append(idKey(b, s.index(), id), idEnd)
	return append(append(b, other...), idEnd)
}

func indexKey(b []byte, s side, id, other string, assocType uint32) []byte {
	return binary.BigEndian.AppendUint32(indexPrefix(b, s, id, other), assocType)
}

func outcomeKey(b []byte, id event.RequestID) []byte {
	return append(append(b, tableOutcome), id[:]...)
}

func preparedKey(b []byte, id event.TxnID) []byte {
	return append(append(b, tablePrepared), id[:]...)
}

func attemptKey(b []byte, id event.TxnID, attempt uint64) []byte {
	return binary.BigEndian.AppendUint64(append(append(b, tableAttempt), id[:]...), attempt)
}

// splitAttemptKey reads what attemptKey wrote.
func splitAttemptKey(key []byte) (id event.TxnID, attempt uint64, err error) {
	if len(key) != 1+len(id)+8 {
		return id, 0, fmt.Errorf("attempt key of %d bytes", len(key))
	}
	copy(id[:], key[1:])
	return id, binary.BigEndian.Uint64(key[1+len(id):]), nil
}

// splitRequestKey reads what outcomeKey and preparedKey wrote.
func splitRequestKey(key []byte) (id event.RequestID, err error) {
	if len(key) != 1+len(id) {
		return id, fmt.Errorf("request key of %d bytes", len(key))
	}
	copy(id[:], key[1:])
	return id, nil
}

// resultsID says whose results are kept: a committed attempt's, or a single-shard write's.
type resultsID struct {
	id      event.RequestID
	attempt uint64
	write   bool // attempt is 0 and in no key
}

func (r resultsID) key(b []byte) []byte {
	b = append(append(b, tableResults), r.id[:]...)
	if r.write {
		return b
	}
	return binary.BigEndian.AppendUint64(b, r.attempt)
}

// splitResultsKey reads what resultsID.key wrote.
func splitResultsKey(key []byte) (r resultsID, err error) {
	switch len(key) {
	case 1 + len(r.id):
		r.write = true
	case 1 + len(r.id) + 8:
		r.attempt = binary.BigEndian.Uint64(key[1+len(r.id):])
	default:
		return r, fmt.Errorf("results key of %d bytes", len(key))
	}
	copy(r.id[:], key[1:])
	return r, nil
}

// prefixEnd appends the first key behind all keys that start with prefix, which must not be all 0xff.
func prefixEnd(b, prefix []byte) []byte {
	n := len(prefix)
	for n > 0 && prefix[n-1] == 0xff {
		n--
	}
	b = append(b, prefix[:n]...)
	b[len(b)-1]++
	return b
}
