package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

// The lines of a dump, in the form that `gridctl import` reads. Types of associations are numbers: their names are the
// masters'.
type (
	conceptLine struct {
		Concept dumpedConcept `json:"concept"`
	}
	dumpedConcept struct {
		ID         string            `json:"id"`
		Content    string            `json:"content"`
		Strength   float32           `json:"strength"`
		Confidence float32           `json:"confidence"`
		Embedding  []float32         `json:"embedding,omitempty"`
		Attributes map[string]string `json:"attributes,omitempty"`
		Tags       []string          `json:"tags,omitempty"`
	}
	associationLine struct {
		Association dumpedAssociation `json:"association"`
	}
	dumpedAssociation struct {
		Source     string  `json:"source"`
		Target     string  `json:"target"`
		Type       uint32  `json:"type"`
		Confidence float32 `json:"confidence"`
	}
	entryLine struct {
		Shard    string   `json:"shard_id"`
		Index    uint64   `json:"index"`
		Term     uint64   `json:"term,omitempty"`
		Kind     string   `json:"kind,omitempty"`
		Level    uint32   `json:"level,omitempty"`
		Commands []string `json:"commands,omitempty"`
		File     string   `json:"file"`
		Offset   int64    `json:"offset"`
		Damage   string   `json:"damage,omitempty"`
		Torn     bool     `json:"torn,omitempty"`
	}
)

// dump writes what was asked for. All concepts come before all associations, so that what is read back finds both ends.
func dump(ctx context.Context, s *stopped) error {
	parts := map[string][]func(context.Context, *storagenode.StoppedReplica) error{
		"data": {s.dumpConcepts, s.dumpAssociations}, "concepts": {s.dumpConcepts}, "associations": {s.dumpAssociations},
		"transactions": {s.dumpTransactions}, "log": {s.dumpLog},
	}
	todo, known := parts[s.what]
	if !known {
		return usageError{fmt.Errorf("--what %q: want data, concepts, associations, transactions or log", s.what)}
	}
	for _, part := range todo {
		for _, r := range s.replicas {
			if err := part(ctx, r); err != nil {
				return fmt.Errorf("dump %s: %w", r.ShardID, err)
			}
		}
	}
	return nil
}

// withState opens a replica's store for one part of a dump.
func withState(r *storagenode.StoppedReplica, fn func(*engine.Stopped) error) error {
	x, err := r.State()
	if err != nil {
		return err
	}
	return errors.Join(fn(x), x.Close())
}

func (s *stopped) dumpConcepts(ctx context.Context, r *storagenode.StoppedReplica) error {
	return withState(r, func(x *engine.Stopped) error {
		return x.Concepts(ctx, func(c *engine.Concept, vector []float32) error {
			return s.each(conceptLine{dumpedConcept{c.ID, c.Content, c.Strength, c.Confidence, vector, c.Attributes, c.Tags}})
		})
	})
}

func (s *stopped) dumpAssociations(ctx context.Context, r *storagenode.StoppedReplica) error {
	return withState(r, func(x *engine.Stopped) error {
		return x.Associations(ctx, func(a engine.Association) error {
			return s.each(associationLine{dumpedAssociation{a.Source, a.Target, a.Type, a.Confidence}})
		})
	})
}

func (s *stopped) dumpTransactions(_ context.Context, r *storagenode.StoppedReplica) error {
	return withState(r, func(x *engine.Stopped) error {
		prepared, err := x.Prepared()
		for _, p := range prepared {
			err = errors.Join(err, s.each(map[string]any{
				"shard_id": r.ShardID, "txn_id": p.TxnID.String(), "attempt": p.Attempt, "coordinator": p.Coordinator, "participants": p.Participants, "since": p.Since, "open": p.Open,
			}))
		}
		return err
	})
}

func (s *stopped) dumpLog(ctx context.Context, r *storagenode.StoppedReplica) error {
	log, err := r.Log()
	if err != nil {
		return err
	}
	for e := range log.Log(0, 0) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line := entryLine{Shard: string(r.ShardID), Index: e.Index, Term: e.Term, Kind: e.Kind, Level: e.Entry.Level, File: e.File, Offset: e.Offset, Torn: e.Torn}
		if e.Damage != nil {
			line.Damage = e.Damage.Error()
		}
		for _, raw := range e.Entry.Commands {
			line.Commands = append(line.Commands, describeCommand(raw))
		}
		if err := s.each(line); err != nil {
			return err
		}
	}
	return nil
}

// describeCommand names a command and what it touches, without contents.
func describeCommand(raw []byte) string {
	c, err := engine.DecodeCommand(raw)
	switch {
	case err != nil:
		return err.Error()
	case c.Raise != nil:
		return fmt.Sprintf("raise the log to level %d", c.Raise.Level)
	case c.Finish != nil:
		return fmt.Sprintf("finish %s attempt %d: commit %v", c.Finish.TxnID, c.Finish.Attempt, c.Finish.Commit)
	case c.Prepare != nil:
		return fmt.Sprintf("prepare %s attempt %d part %d: %d ops on %q", c.Prepare.TxnID, c.Prepare.Attempt, c.Prepare.Part, len(c.Prepare.Ops), engine.LockIDs(c.Prepare.Ops))
	}
	return fmt.Sprintf("write %s: %d ops on %q", c.RequestID, len(c.Write.Ops), engine.LockIDs(c.Write.Ops))
}
