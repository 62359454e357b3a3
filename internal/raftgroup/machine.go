package raftgroup

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// machine is the FSM as raft sees it. Raft's FSM goroutine changes it, under mu; applied, configuration and lastTime are read
// by others too.
type machine struct {
	fsm     FSM
	group   string
	latch   *latch
	log     *slog.Logger
	level   func() uint32
	applied *progress
	skip    uint64                                // entries up to here are in the FSM already (safety S11)
	entry   func(index uint64, l *raft.Log) error // reads the log; nil: there is none
	first   uint64                                // the log's first entry when the replica started; a snapshot that ends before it is of no use

	configuration atomic.Pointer[configuration] // the last one committed; nil: none

	mu       sync.Mutex   // held while the state changes: whoever holds it sees the state at one entry, and which that is
	restores int          // in a row, with nothing applied in between
	index    uint64       // the last entry seen, or that a snapshot ended with
	term     uint64       // of that entry
	fsmIndex uint64       // the last entry handed to the FSM
	lastTime atomic.Int64 // the largest stamp seen
	refusal  error        // why Restore last failed, for Open
}

// response is raft's response to an entry of commands.
type response struct {
	term    uint64
	answers []any
}

var (
	_ raft.BatchingFSM = (*machine)(nil)
	_ raft.FSMSnapshot = (*fixedState)(nil)
)

// Apply implements raft.FSM.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM: for an entry of commands the answer is a response. An entry that is damaged,
// or that the FSM does not take, is never skipped: the replica stops.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	responses := make([]any, len(logs))
	entries := make([]Entry, 0, len(logs))
	places := make([]int, 0, len(logs)) // of entries in logs
	for i, l := range logs {
		m.index, m.term = l.Index, l.Term
		if l.Type == raft.LogConfiguration {
			m.configuration.Store(&configuration{l.Index, raft.DecodeConfiguration(l.Data).Servers})
		}
		if l.Type != raft.LogCommand {
			continue
		}
		e, err := decodeEntry(m.group, l.Data)
		if err != nil {
			m.stop(fmt.Errorf("apply entry %d of %s: %w", l.Index, m.group, err))
			return make([]any, len(logs))
		}
		e.Index, e.Term = l.Index, l.Term
		m.lastTime.Store(max(m.lastTime.Load(), e.Time))
		responses[i] = response{term: e.Term}
		if len(e.Commands) > 0 && e.Index > m.skip {
			entries, places = append(entries, e), append(places, i)
		}
	}
	if !m.hand(entries, places, responses) {
		return make([]any, len(logs))
	}
	m.applied.set(max(m.index, m.skip))
	return responses
}

// hand gives entries to the FSM and puts its answers in their places.
func (m *machine) hand(entries []Entry, places []int, responses []any) bool {
	if len(entries) == 0 {
		return true
	}
	m.restores = 0
	start := time.Now()
	answers := m.fsm.Apply(entries)
	if took := time.Since(start); took > slowApply {
		m.log.Warn("applying was slow; raft waits behind it", "group", m.group, "took", took, "entries", len(entries), "first", entries[0].Index)
	}
	if len(answers) != len(entries) {
		m.stop(fmt.Errorf("apply entries %d to %d of %s: the state machine stopped", entries[0].Index, entries[len(entries)-1].Index, m.group))
		return false
	}
	for i, e := range entries {
		if len(answers[i]) != len(e.Commands) {
			m.stop(fmt.Errorf("apply entry %d of %s: %d answers to %d commands", e.Index, m.group, len(answers[i]), len(e.Commands)))
			return false
		}
		responses[places[i]] = response{term: e.Term, answers: answers[i]}
		m.fsmIndex = e.Index
	}
	return true
}

func (m *machine) stop(err error) {
	_ = m.latch.fail(err) // tells the owner
	m.latch.park()
}

// Snapshot implements raft.FSM. While entries are replayed that the FSM holds already its state is ahead of the entry that
// raft would say it is of, so there is no snapshot; when others make it a quorum there is.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.latch.err(); err != nil {
		return nil, err
	}
	if m.replaying() {
		return nil, raft.ErrNothingNewToSnapshot
	}
	snap, err := m.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	return &fixedState{snap: snap, group: m.group, header: m.header()}, nil
}

// replaying tells whether the FSM is ahead of the last entry seen.
func (m *machine) replaying() bool { return m.index < m.skip }

// header says what the state is now.
func (m *machine) header() snapshotHeader {
	return snapshotHeader{Level: m.level(), Index: m.index, FSMIndex: max(m.fsmIndex, m.skip), Time: m.lastTime.Load()}
}

// Restore implements raft.FSM. While the replica runs a failure ends it: the next start restores again.
func (m *machine) Restore(content io.ReadCloser) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.restore(content)
	m.refusal = err
	if err != nil && m.latch.isRunning() {
		return m.latch.fail(fmt.Errorf("restore a snapshot of %s: %w", m.group, err))
	}
	return err
}

func (m *machine) restore(content io.Reader) error {
	r, h, err := newChunkReader(content, m.group)
	if err != nil {
		return err
	}
	if h.Kept {
		return errRecord
	}
	if m.first > h.Index+1 {
		return fmt.Errorf("it ends at %d and the log begins at %d: entries between are lost", h.Index, m.first)
	}
	if err := m.fsm.Restore(r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what the FSM did not read
		return err
	}
	// Snapshots of older versions can be ahead of their index: taken while entries that the state held were replayed.
	m.index, m.fsmIndex, m.skip, m.first = h.Index, h.FSMIndex, h.FSMIndex, 0
	m.lastTime.Store(max(m.lastTime.Load(), h.Time))
	if meta := metaOf(content); meta != nil {
		m.configuration.Store(configurationIn(meta))
		m.term = meta.Term
		if meta.Index > m.index { // entries that are not for the state machine
			m.index = meta.Index
		}
	}
	m.applied.set(max(m.index, m.skip))
	if m.restores++; m.restores > manyRestores {
		m.log.Warn("one snapshot after the other and nothing applied in between", "group", m.group, "restores", m.restores, "index", h.Index)
	}
	return nil
}

// fixedState is a Snapshot as raft sees it.
type fixedState struct {
	snap   Snapshot
	group  string
	header snapshotHeader
}

// Persist implements raft.FSMSnapshot; raft cancels the sink after an error.
func (s *fixedState) Persist(sink raft.SnapshotSink) error {
	header, write := s.header, s.snap.Write
	if k, ok := s.snap.(KeptSnapshot); ok {
		header.Kept, write = true, k.Keep
	}
	if err := writeChunked(sink, s.group, header, write); err != nil {
		return err
	}
	return sink.Close()
}

// writeChunked writes what write does as a snapshot's content.
func writeChunked(to io.Writer, group string, h snapshotHeader, write func(io.Writer) error) error {
	w, err := newChunkWriter(to, group, h)
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		return err
	}
	return w.Close()
}

// Release implements raft.FSMSnapshot.
func (s *fixedState) Release() { s.snap.Release() }
