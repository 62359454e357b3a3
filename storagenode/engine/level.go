package engine

import (
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// formatOf is the format of a store that may have applied entries of a level.
func formatOf(level uint32) uint32 {
	if level >= txnLevel {
		return formatVersion
	}
	return indexedFormat
}

// LogLevel is the level of the group's log: what every member supports, as far as the entries applied here say. It is never lowered.
func (e *Engine) LogLevel() uint32 {
	if e.shared.Load().Format >= formatVersion {
		return txnLevel
	}
	return deletesLevel // no version writes less
}

// raise applies that every member of the group supports a level.
func (a *applier) raise(r *LogLevel) (Answer, error) {
	if r.Level > a.e.o.Level {
		return Answer{}, fmt.Errorf("the log is raised to level %d, this version supports %d", r.Level, a.e.o.Level)
	}
	a.meta.Format = max(a.meta.Format, formatOf(r.Level))
	return Answer{Seq: a.index}, nil
}

// levelRefuses refuses what the log's level does not have: as the versions did that wrote these levels.
func levelRefuses(c *Command, level uint32) *event.Error {
	if level >= txnLevel {
		return nil
	}
	ops, needs := c.ops(), uint32(deletesLevel)
	for i := range ops {
		op := &ops[i]
		switch {
		case learns(op.Kind):
			continue
		case !op.Kind.Deletes() || c.Kind == Prepare:
			needs = txnLevel
		case len(ops) > 1:
			return &event.Error{Kind: event.KindInvalid, Op: opPhrase(op), OpNumber: uint32(i) + 1,
				Message: fmt.Sprintf("ops[%d]: %s must be the only op of its write: the shard's log is at level %d, others beside it need %d", i, op.Kind, level, txnLevel)}
		}
		if level < needs {
			return &event.Error{Kind: event.KindUnsupported, Op: opPhrase(op), OpNumber: uint32(i) + 1,
				Message: fmt.Sprintf("the shard's log is at level %d, %s needs %d", level, op.Kind, needs)}
		}
	}
	if p := c.Prepare; p != nil && (p.Part > 0 || p.Open) {
		return &event.Error{Kind: event.KindUnsupported, Op: "prepare", Message: fmt.Sprintf("the shard's log is at level %d, an attempt in parts needs %d", level, txnLevel)}
	}
	return nil
}
