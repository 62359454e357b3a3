package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The versions of the key space, in the meta record and in snapshots; upgrade.go says what changed.
const (
	oldestFormat  = 1
	indexedFormat = 2 // of a new store
	formatVersion = 3 // of one that has applied an entry of level 3
)

// meta is the shard's own record: written with every batch. Everything in it is the same on every replica.
type meta struct {
	Format    uint32         `wire:"format"`
	ShardID   event.ShardID  `wire:"shard_id"`
	Applied   uint64         `wire:"applied"`  // index of the last applied entry
	LogTime   int64          `wire:"log_time"` // unix µs, never moves back
	Forgotten int64          `wire:"forgotten"`
	Horizon   event.Position `wire:"horizon"`
	Dimension uint32         `wire:"dimension"` // of the first vector, and so of every one; 0: none yet
	Concepts  uint64         `wire:"concepts"`
	Edges     uint64         `wire:"edges"`
	Vectors   uint64         `wire:"vectors"`
	Written   uint64         `wire:"written"`
}

// conceptRecord has what Apply needs of an existing concept before the content, so that it does not read that (decodeHead).
type conceptRecord struct {
	Version    uint64            `wire:"version"`
	Created    int64             `wire:"created"`   // log time, unix µs
	Dimension  uint32            `wire:"dimension"` // of its vector; 0: none
	Modified   int64             `wire:"modified"`
	Strength   float32           `wire:"strength"`
	Confidence float32           `wire:"confidence"`
	Attributes map[string]string `wire:"attributes"`
	Tags       []string          `wire:"tags"`
	Content    string            `wire:"content"`
}

func (r *conceptRecord) concept(id string) *Concept {
	return &Concept{
		ID: id, Content: r.Content, Strength: r.Strength, Confidence: r.Confidence, Attributes: r.Attributes, Tags: r.Tags,
		Version: r.Version, Created: r.Created, Modified: r.Modified, Dimension: r.Dimension,
	}
}

// head is a conceptRecord without its content.
type head struct {
	indexed
	version   uint64
	dimension uint32
}

func decodeHead(b []byte) (h *head, err error) {
	h = &head{}
	r := pack.NewReader(b)
	if _, err := r.ArrayLen(); err != nil {
		return nil, err
	}
	if h.version, err = r.Uint(); err != nil {
		return nil, err
	}
	if h.created, err = r.Int(); err != nil {
		return nil, err
	}
	dimension, err := r.Uint()
	if err != nil {
		return nil, err
	}
	h.dimension = uint32(dimension)
	for range 3 { // modified, strength, confidence
		if err := r.Skip(); err != nil {
			return nil, err
		}
	}
	if err := r.Decode(&h.attributes); err != nil {
		return nil, err
	}
	return h, r.Decode(&h.tags)
}

// link is one association seen from one end.
type link struct {
	Type       uint32  `wire:"type"`
	Confidence float32 `wire:"confidence"`
	Other      string  `wire:"other"`
}

// append writes what pack.AppendArray would, without reflection: links are most of what an import writes.
func (l *link) append(b []byte) []byte {
	b = pack.AppendArrayHeader(b, 3)
	b = pack.AppendUint(b, uint64(l.Type))
	b = pack.AppendFloat32(b, l.Confidence)
	return pack.AppendString(b, l.Other)
}

// read reads what append wrote.
func (l *link) read(b []byte) error {
	r := pack.NewReader(b)
	if _, err := r.ArrayLen(); err != nil {
		return err
	}
	assocType, err := r.Uint()
	if err != nil {
		return err
	}
	confidence, err := r.Float()
	if err != nil {
		return err
	}
	l.Type, l.Confidence = uint32(assocType), float32(confidence)
	l.Other, err = r.String()
	return err
}

// outcomeState says how a request ended.
type outcomeState uint8

const (
	writeDone    outcomeState = 1 // a single-shard write took effect
	writeRefused outcomeState = 2 // a single-shard write was refused for what it met
	txnDone      outcomeState = 3 // a cross-shard transaction was committed here

	deleteNothing outcomeState = 4 // a delete met nothing
	deleteRefused outcomeState = 5 // a delete was refused for the number of associations

	// A write of level 3 was refused; unmet.go says what each means.
	refusedPresent    outcomeState = 6
	refusedVersion    outcomeState = 7
	refusedAttribute  outcomeState = 8
	refusedNumber     outcomeState = 9
	refusedOverflow   outcomeState = 10
	refusedAttributes outcomeState = 11
	refusedEdges      outcomeState = 12
	refusedResults    outcomeState = 13
	refusedSize       outcomeState = 14
	refusedAbsent     outcomeState = 15
	lastState                      = refusedAbsent
)

// outcome is a row of the request table. Like every record it holds no text that is made for people: texts may change with
// a version, the state may not.
type outcome struct {
	State    outcomeState `wire:"state"`
	Issued   int64        `wire:"issued"`
	Seq      uint64       `wire:"seq"`       // index at which it took effect or was refused
	Body     []byte       `wire:"body"`      // of a write: the beginning of its body's SHA-256 (safety S30)
	OpNumber uint32       `wire:"op_number"` // of a refused write: 1 + index of the op that was
	Concept  string       `wire:"absent"`    // of a refused write: the concept that was absent, or was not as the op wants it
}

func (o *outcome) refused() bool { return refusals[o.State].kind != "" }

// preparedRecord is an attempt in doubt. One of a single part that deletes nothing is written as preparedRecord1, if opForm1
// says all of its ops.
type preparedRecord struct {
	Attempt      uint64          `wire:"attempt"`
	Begin        event.Position  `wire:"begin"`
	Start        int64           `wire:"start"`
	Issued       int64           `wire:"issued"`
	Since        int64           `wire:"since"` // log time, unix µs
	Coordinator  event.MasterID  `wire:"coordinator"`
	Participants []event.ShardID `wire:"participants"`
	Ops          []opForm        `wire:"ops"` // of the part that came first
	Part         uint32          `wire:"part,optional"`
	Open         bool            `wire:"open,optional"`
	More         []partRecord    `wire:"more,optional"`      // the parts that came later, in the order in which they did
	Neighbors    []string        `wire:"neighbors,optional"` // what deletes lock besides the ids that the ops name, sorted
}

// partRecord is a part of an attempt.
type partRecord struct {
	Part uint32   `wire:"part"`
	Open bool     `wire:"open"`
	Ops  []opForm `wire:"ops"`
}

type preparedRecord1 struct {
	Attempt      uint64          `wire:"attempt"`
	Begin        event.Position  `wire:"begin"`
	Start        int64           `wire:"start"`
	Issued       int64           `wire:"issued"`
	Since        int64           `wire:"since"`
	Coordinator  event.MasterID  `wire:"coordinator"`
	Participants []event.ShardID `wire:"participants"`
	Ops          []opForm1       `wire:"ops"`
}

// stored is the record of a first part in the form in which it is written; ops are its Ops.
func (r *preparedRecord) stored(ops []transport.Op) any {
	if ops, ok := forms1(ops); ok && r.Part == 0 && !r.Open && len(r.Neighbors) == 0 {
		return &preparedRecord1{r.Attempt, r.Begin, r.Start, r.Issued, r.Since, r.Coordinator, r.Participants, ops}
	}
	return r
}

// parts are all parts in the order in which they came.
func (r *preparedRecord) parts() []partRecord {
	return append([]partRecord{{r.Part, r.Open, r.Ops}}, r.More...)
}

// resultsRecord is what a write or a committed attempt answered.
type resultsRecord struct {
	Kept    int64        `wire:"kept"`    // since this log time, unix µs
	Ops     uint32       `wire:"ops"`     // how many there were
	Results []resultForm `wire:"results"` // of those that answered something, in their order
}

// attemptRecord is an attempt that ended here, kept until the horizon passes its begin.
type attemptRecord struct {
	Committed bool           `wire:"committed"`
	Begin     event.Position `wire:"begin"`
	Seq       uint64         `wire:"seq"`   // index at which it ended
	Retry     bool           `wire:"retry"` // the following: of a refusal
	Kind      event.Kind     `wire:"kind"`
	OpNumber  uint32         `wire:"op_number"`
	Holder    event.TxnID    `wire:"holder"`
}

func appendVector(b []byte, v []float32) []byte {
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func decodeVector(b []byte) ([]float32, error) { return decodeVectorTo(nil, b) }

// decodeVectorTo decodes into v's memory if it is enough.
func decodeVectorTo(v []float32, b []byte) ([]float32, error) {
	if len(b)%4 != 0 {
		return nil, fmt.Errorf("vector of %d bytes", len(b))
	}
	v = slices.Grow(v[:0], len(b)/4)[:len(b)/4]
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

// positionLess orders positions: incarnation first.
func positionLess(a, b event.Position) bool {
	if a.N != b.N {
		return a.N < b.N
	}
	return a.Seq < b.Seq
}
