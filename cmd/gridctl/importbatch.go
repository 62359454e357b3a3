package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// anyDimension leaves the vectors' dimension to the shards, which know the grid's.
const anyDimension = 0

// record is one line of an import file.
type record struct {
	line int
	op   transport.Op
}

func (r record) isConcept() bool { return r.op.Kind == transport.OpLearnConcept }

// lineJSON is the form of a line; exactly one of the two is there.
type lineJSON struct {
	Concept     *conceptJSON     `json:"concept"`
	Association *associationJSON `json:"association"`
}

type associationJSON struct {
	Source     string          `json:"source"`
	Target     string          `json:"target"`
	Type       json.RawMessage `json:"type"` // a name or a number
	Confidence *float32        `json:"confidence"`
}

// parse understands one line and checks it against the protocol's limits, so that a broken one is named before it is sent.
func (im *importer) parse(line int, text []byte) (record, error) {
	if !utf8.Valid(text) { // the decoder would replace what is not, and nobody would know
		return record{}, errors.New("not UTF-8")
	}
	var j lineJSON
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return record{}, fmt.Errorf("not a record: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return record{}, errors.New("more than one JSON value on the line")
	}
	switch {
	case j.Concept != nil && j.Association == nil:
		return conceptRecord(line, j.Concept.request())
	case j.Association != nil && j.Concept == nil:
		return im.associationRecord(line, j.Association)
	}
	return record{}, errors.New(`want {"concept":{…}} or {"association":{…}}`)
}

func conceptRecord(line int, c *transport.LearnConcept) (record, error) {
	if err := transport.Validate(c, anyDimension); err != nil {
		return record{}, err
	}
	return record{line, transport.Op{Kind: transport.OpLearnConcept, ID: c.ConceptID, Content: c.Content, Embedding: c.Embedding,
		Strength: c.Strength, Confidence: c.Confidence, Metadata: c.Metadata}}, nil
}

func (im *importer) associationRecord(line int, a *associationJSON) (record, error) {
	number, err := im.typeNumber(a.Type)
	if err != nil {
		return record{}, err
	}
	req := &transport.LearnAssociation{SourceID: a.Source, TargetID: a.Target, AssocType: number, Confidence: orOne(a.Confidence)}
	if err := transport.Validate(req, anyDimension); err != nil {
		return record{}, err
	}
	return record{line, transport.Op{Kind: transport.OpLearnAssociation, ID: a.Source, Target: a.Target, AssocType: number, Confidence: req.Confidence}}, nil
}

// typeNumber resolves a type once per name.
func (im *importer) typeNumber(raw json.RawMessage) (uint32, error) {
	var name string
	if len(raw) == 0 {
		return 0, nil // semantic
	}
	if err := json.Unmarshal(raw, &name); err != nil {
		n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32)
		if err != nil {
			return 0, fmt.Errorf("type %s: want a name or a number", raw)
		}
		return uint32(n), nil
	}
	if n, ok := im.types[name]; ok {
		return n, nil
	}
	n, err := typeNumber(im.session, name)
	if err == nil {
		im.types[name] = n
	}
	return n, err
}

// flush stores what is pending in one transaction. When one record is at fault it is reported and, under --on-error
// continue, the rest is stored without it.
func (im *importer) flush(ctx context.Context) error {
	for len(im.pending) > 0 {
		err := im.send(ctx)
		if err == nil {
			im.stored()
			return nil
		}
		at, blamed := blame(err, len(im.pending))
		if !blamed {
			return err
		}
		if err := im.brokenLine(im.pending[at].line, err); err != nil {
			im.pending = im.pending[:at] // what stands before the broken line is stored
			return im.flushBefore(ctx, err)
		}
		im.pending = append(im.pending[:at], im.pending[at+1:]...)
	}
	return nil
}

// blame tells which record of a refused transaction is at fault, if one is.
func blame(err error, records int) (int, bool) {
	var grid *event.Error
	if !errors.As(err, &grid) || grid.OpNumber == 0 || int(grid.OpNumber) > records {
		return 0, false
	}
	return int(grid.OpNumber) - 1, true
}

func (im *importer) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, batchDeadline)
	defer cancel()
	ops := make([]transport.Op, len(im.pending))
	for i, r := range im.pending {
		ops[i] = r.op
	}
	_, err := im.store.Txn(ctx, ops)
	return err
}

func (im *importer) stored() {
	if im.pending[0].isConcept() {
		im.concepts += len(im.pending)
	} else {
		im.associations += len(im.pending)
	}
	im.lines = im.pending[len(im.pending)-1].line
	im.pending, im.bytes = im.pending[:0], 0
	im.progress.update()
}
