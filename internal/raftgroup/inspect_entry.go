package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The kinds of entries.
const (
	KindCommand       = "command"
	KindNoop          = "noop"          // a new leader's first
	KindBarrier       = "barrier"       // a new leader waits for it
	KindConfiguration = "configuration" // who is a member
)

// LogEntry is one entry of a stopped replica's log, or what is wrong in its place.
type LogEntry struct {
	Index, Term uint64
	Kind        string
	File        string   // where it is stored
	Offset      int64    // of its frame in File
	Size        int      // bytes stored
	Data        []byte   // what raft carries: for a command the encoded Entry
	Entry       Entry    // decoded, of a command
	Members     []Member // of a configuration

	// Damage says what cannot be trusted: this entry, or, without a Kind, what is stored from Offset on, Index being the
	// first entry that it concerns.
	Damage error
	// Torn: the damage is the end of the log, a write that did not complete; the log store drops it when it starts.
	Torn bool
}

// Member is a replica in a configuration.
type Member struct {
	ID       event.ReplicaID
	Suffrage Suffrage
}

var errNotALog = errors.New("not an entry of the log store")

// decodeLog reads an entry as the log store (raft-wal, codec 1) writes it: index, term, type, data and extensions, each
// length a varint, then a time. It shares b's memory.
func decodeLog(b []byte) (l raft.Log, err error) {
	d := logDecoder{b: b}
	l.Index, l.Term = d.varint(), d.varint()
	typ := d.varint()
	l.Data, l.Extensions = d.bytes(), d.bytes()
	if d.bad || typ > 255 {
		return raft.Log{}, errNotALog
	}
	l.Type = raft.LogType(typ)
	if err := l.AppendedAt.UnmarshalBinary(d.b); err != nil {
		return raft.Log{}, fmt.Errorf("%w: %w", errNotALog, err)
	}
	return l, nil
}

type logDecoder struct {
	b   []byte
	bad bool
}

func (d *logDecoder) varint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *logDecoder) bytes() []byte {
	n := d.varint()
	if n > uint64(len(d.b)) {
		d.bad = true
	}
	if d.bad || n == 0 {
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

// inspectLog decodes, as its log store does, and checks a stored entry.
func inspectLog(group string, b []byte, decode func([]byte) (raft.Log, error)) LogEntry {
	l, err := decode(b)
	if err != nil {
		return LogEntry{Damage: err}
	}
	e := LogEntry{Index: l.Index, Term: l.Term, Data: l.Data}
	if e.Damage = checkSeal(group, &l); e.Damage != nil {
		return e
	}
	switch l.Type {
	case raft.LogCommand:
		e.Kind = KindCommand
		e.Entry, e.Damage = decodeEntry(group, l.Data)
		e.Entry.Index, e.Entry.Term = l.Index, l.Term
	case raft.LogNoop:
		e.Kind = KindNoop
	case raft.LogBarrier:
		e.Kind = KindBarrier
	case raft.LogConfiguration:
		e.Kind = KindConfiguration
		e.Members, e.Damage = decodeMembers(l.Data)
	default:
		e.Kind = fmt.Sprintf("raft type %d", l.Type)
	}
	return e
}

// decodeMembers reads a configuration; raft panics when it cannot.
func decodeMembers(b []byte) (members []Member, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a configuration that cannot be read: %v", p)
		}
	}()
	return membersOf(raft.DecodeConfiguration(b)), nil
}

func membersOf(c raft.Configuration) []Member {
	var members []Member
	for _, s := range c.Servers {
		m := Member{ID: event.ReplicaID(s.ID), Suffrage: Learner}
		if s.Suffrage == raft.Voter {
			m.Suffrage = Voter
		}
		members = append(members, m)
	}
	return members
}
