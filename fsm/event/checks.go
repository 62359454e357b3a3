package event

import (
	"fmt"
	"strings"
)

// StateChecked compares the masters' states behind entry AtIndex (safety S9). Every replica compares its own with what the
// majority has.
type StateChecked struct {
	AtIndex     uint64      `wire:"at_index"` // of the raft log, a multiple of 1,024
	AtSeq       uint64      `wire:"at_seq"`   // the last event that was part of the state
	Digest      [32]byte    `wire:"digest"`   // of the history, as a majority of the voters has it
	LocalDigest [32]byte    `wire:"local_digest"`
	Agree       []ReplicaID `wire:"agree"`
	Differ      []ReplicaID `wire:"differ"`                     // they leave service and take the state from one that agrees
	Chain       [32]byte    `wire:"chain" json:"checked_chain"` // of event AtSeq (safety S27); "chain" is the envelope's
}

// LevelRaised puts the rules of a level in force (safety S13); the level is never lowered.
type LevelRaised struct {
	To uint32 `wire:"to"`
}

// ClockSkew: a leader's wall clock is not where log time, or a majority of the masters, is (safety S17).
type ClockSkew struct {
	MasterID MasterID `wire:"master_id"`
	SkewMS   int64    `wire:"skew_ms"` // by how much its clock is ahead; negative: behind
}

// Type is TypeStateChecked.
func (StateChecked) Type() Type { return TypeStateChecked }

// Type is TypeLevelRaised.
func (LevelRaised) Type() Type { return TypeLevelRaised }

// Type is TypeClockSkew.
func (ClockSkew) Type() Type { return TypeClockSkew }

// stateCheckedRow: it is about every master that was compared.
func stateCheckedRow() TypeInfo {
	info := row("state_checked", Decision, func(StateChecked) string { return "" }, describeStateChecked)
	info.entity = func(b Body) []string {
		e := b.(StateChecked)
		return append(owners(e.Agree), owners(e.Differ)...)
	}
	return info
}

func owners(ids []ReplicaID) []string {
	all := make([]string, len(ids))
	for i, id := range ids {
		all[i] = id.Owner()
	}
	return all
}

func describeStateChecked(e StateChecked) string {
	if len(e.Differ) == 0 {
		return fmt.Sprintf("at entry %d the states of %s agree", e.AtIndex, count(uint64(len(e.Agree)), "master"))
	}
	return fmt.Sprintf("at entry %d the state of %s is not that of the other masters", e.AtIndex, strings.Join(owners(e.Differ), ", "))
}

func describeLevelRaised(e LevelRaised) string {
	return fmt.Sprintf("the rules of level %d are in force", e.To)
}

func describeClockSkew(e ClockSkew) string {
	if e.SkewMS < 0 {
		return fmt.Sprintf("the clock of %s is %d ms behind", e.MasterID, -e.SkewMS)
	}
	return fmt.Sprintf("the clock of %s is %d ms ahead", e.MasterID, e.SkewMS)
}
