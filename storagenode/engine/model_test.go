package engine

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
	"pgregory.net/rapid"
)

// model is the engine's deliberately dumb second version: plain maps, everything searched, nothing shared with the engine
// but the messages.
type model struct {
	concepts  map[string]*modelConcept
	edges     []modelEdge // outgoing and incoming halves in commit order
	requests  map[event.RequestID]*modelRequest
	prepared  map[event.TxnID]*transport.Prepare
	since     map[event.TxnID]int64
	attempts  map[modelAttempt]*modelEnd
	horizon   event.Position
	forgotten int64
	logTime   int64
	written   uint64
	bounds    bounds
}

type modelConcept struct {
	op                Op
	version           uint64
	created, modified int64
}

// Op is short for the message.
type Op = transport.Op

type modelEdge struct {
	side       side
	id, other  string
	assocType  uint32
	confidence float32
}

type modelRequest struct {
	issued  int64
	seq     uint64
	body    string // of a write
	refused *event.Error
	nothing bool // of a delete
}

type modelAttempt struct {
	txn     event.TxnID
	attempt uint64
}

type modelEnd struct {
	begin     event.Position
	committed bool
	seq       uint64
	kind      event.Kind
	retry     bool
}

// result is what the model says about a command's answer.
type result struct {
	seq    uint64
	kind   event.Kind // of the refusal or of the no's reason; "": none
	op     uint32
	done   bool
	vote   string // yes, no, done or "" for no vote
	retry  bool
	holder event.TxnID

	nothing bool // of a delete
}

func newModel(b bounds) *model {
	return &model{
		concepts: map[string]*modelConcept{}, requests: map[event.RequestID]*modelRequest{}, prepared: map[event.TxnID]*transport.Prepare{},
		since: map[event.TxnID]int64{}, attempts: map[modelAttempt]*modelEnd{}, bounds: b,
	}
}

func (m *model) entry(index uint64, at int64, commands []Command) []result {
	m.logTime = max(m.logTime, at)
	var results []result
	for _, c := range commands {
		switch c.Kind {
		case Write:
			results = append(results, m.write(index, c))
		case Prepare:
			results = append(results, m.prepare(index, c.Prepare))
		case Finish:
			results = append(results, m.finish(index, c.Finish))
		}
	}
	m.evict()
	return results
}

func (m *model) write(index uint64, c Command) result {
	ops := c.Write.Ops
	if op := m.invalid(ops); op != "" {
		return result{kind: op}
	}
	body := fmt.Sprintf("%+v", derefOps(ops))
	if r := m.requests[c.RequestID]; r != nil {
		switch {
		case r.body != "" && r.body != body:
			return result{kind: event.KindIDReused}
		case r.refused != nil:
			return result{seq: r.seq, kind: r.refused.Kind, op: r.refused.OpNumber}
		}
		return result{seq: r.seq, done: true, nothing: r.nothing}
	}
	if m.prepared[c.RequestID] != nil {
		return result{kind: event.KindBusy, holder: c.RequestID}
	}
	if kind := m.untimely(c.Issued); kind != "" {
		return result{kind: kind}
	}
	if holder, op := m.holder(ops); op > 0 {
		return result{kind: event.KindLocked, op: op, holder: holder}
	}
	r := &modelRequest{issued: c.Issued, seq: index, body: body}
	if ops[0].Kind.Deletes() {
		return m.remove(c.RequestID, r, ops[0])
	}
	m.requests[c.RequestID] = r
	if op := m.missing(ops); op > 0 {
		r.refused = &event.Error{Kind: event.KindPrecondition, OpNumber: op}
		return result{seq: index, kind: event.KindPrecondition, op: op}
	}
	m.apply(ops)
	return result{seq: index}
}

// remove is a delete that nothing speaks against but what it would remove.
func (m *model) remove(id event.RequestID, r *modelRequest, op Op) result {
	type identity struct {
		source, target string
		assocType      uint32
	}
	of := func(e modelEdge) identity {
		if e.side == incoming {
			return identity{e.other, e.id, e.assocType}
		}
		return identity{e.id, e.other, e.assocType}
	}
	removed := map[identity]bool{}
	var others []string
	for _, s := range []side{outgoing, incoming} {
		for _, e := range m.edges {
			i := of(e)
			hit := i.source == op.ID && i.target == op.Target && (op.Kind == transport.OpDeleteAssociation || i.assocType == op.AssocType)
			if op.Kind == transport.OpDeleteConcept {
				hit = e.id == op.ID
			}
			if hit && e.side == s {
				removed[i] = true
				others = append(others, i.source, i.target)
			}
		}
	}
	for _, other := range others {
		if m.concepts[other] == nil {
			return result{kind: event.KindNeedsTxn}
		}
	}
	for _, other := range others {
		for txn, p := range m.prepared {
			if slices.Contains(m.rows(p.Ops), other) {
				return result{kind: event.KindLocked, op: 1, holder: txn}
			}
		}
	}
	concept := op.Kind == transport.OpDeleteConcept && m.concepts[op.ID] != nil
	r.nothing = !concept && len(removed) == 0
	m.requests[id] = r
	if r.nothing {
		return result{seq: r.seq, nothing: true}
	}
	m.written++
	m.edges = slices.DeleteFunc(m.edges, func(e modelEdge) bool { return removed[of(e)] })
	if concept {
		delete(m.concepts, op.ID)
	}
	return result{seq: r.seq}
}

func derefOps(ops []Op) (list []string) {
	for _, op := range ops {
		attributes, tags := metadataOf(op)
		// Metadata that is empty is another body than none.
		list = append(list, fmt.Sprintf("%s %q %q %d %q %v %v %v %v %q %q", op.Kind, op.ID, op.Target, op.AssocType, op.Content, op.Embedding, op.Strength,
			op.Confidence, op.Metadata != nil, attributes, tags))
	}
	return list
}

func metadataOf(op Op) (attributes map[string]string, tags []string) {
	if op.Metadata == nil {
		return nil, nil
	}
	return op.Metadata.Attributes, op.Metadata.Tags
}

func (m *model) invalid(ops []Op) event.Kind {
	for _, op := range ops {
		if op.ID == "" || math.IsNaN(float64(op.Confidence)) || (op.Kind != transport.OpLearnConcept && op.Kind != transport.OpDeleteConcept && op.Target == "") {
			return event.KindInvalid
		}
	}
	return ""
}

func (m *model) untimely(issued int64) event.Kind {
	if issued <= m.forgotten {
		return event.KindExpired
	}
	if issued > m.logTime+m.bounds.ahead {
		return event.KindFromTheFuture
	}
	return ""
}

func (m *model) rows(ops []Op) (rows []string) {
	for _, op := range ops {
		if op.Kind != transport.OpLinkIn {
			rows = append(rows, op.ID)
		}
		if op.Target != "" && op.Kind != transport.OpLinkOut {
			rows = append(rows, op.Target)
		}
	}
	return rows
}

func (m *model) holder(ops []Op) (event.TxnID, uint32) {
	for i := range ops {
		for _, row := range m.rows(ops[i : i+1]) {
			for txn, p := range m.prepared {
				if slices.Contains(m.rows(p.Ops), row) {
					return txn, uint32(i) + 1
				}
			}
		}
	}
	return event.TxnID{}, 0
}

func (m *model) missing(ops []Op) uint32 {
	for i := range ops {
		if ops[i].Kind == transport.OpLearnConcept {
			continue
		}
		for _, row := range m.rows(ops[i : i+1]) {
			there := m.concepts[row] != nil
			for _, earlier := range ops[:i] {
				there = there || (earlier.Kind == transport.OpLearnConcept && earlier.ID == row)
			}
			if !there {
				return uint32(i) + 1
			}
		}
	}
	return 0
}

func (m *model) apply(ops []Op) {
	for _, op := range ops {
		switch op.Kind {
		case transport.OpLearnConcept:
			m.written++
			c := m.concepts[op.ID]
			if c == nil {
				c = &modelConcept{created: m.logTime}
				m.concepts[op.ID] = c
			}
			c.op, c.version, c.modified = op, c.version+1, m.logTime
		default:
			if op.Kind != transport.OpLinkIn {
				m.written++
				m.link(modelEdge{outgoing, op.ID, op.Target, op.AssocType, op.Confidence})
			}
			if op.Kind != transport.OpLinkOut {
				m.link(modelEdge{incoming, op.Target, op.ID, op.AssocType, op.Confidence})
			}
		}
	}
}

func (m *model) link(e modelEdge) {
	for i, old := range m.edges {
		if old.side == e.side && old.id == e.id && old.other == e.other && old.assocType == e.assocType {
			m.edges[i].confidence = e.confidence
			return
		}
	}
	m.edges = append(m.edges, e)
}

func (m *model) evict() {
	for {
		var oldest event.RequestID
		found := false
		for id, r := range m.requests {
			if o := m.requests[oldest]; !found || r.issued < o.issued || (r.issued == o.issued && bytes.Compare(id[:], oldest[:]) < 0) {
				oldest, found = id, true
			}
		}
		if !found || (len(m.requests) <= m.bounds.requests && m.requests[oldest].issued >= m.logTime-m.bounds.window) {
			return
		}
		m.forgotten = max(m.forgotten, m.requests[oldest].issued)
		delete(m.requests, oldest)
	}
}

func (m *model) raise(h event.Position) {
	if h.N < m.horizon.N || (h.N == m.horizon.N && h.Seq <= m.horizon.Seq) {
		return
	}
	m.horizon = h
	for key, end := range m.attempts {
		if m.passed(end.begin) {
			delete(m.attempts, key)
		}
	}
	for txn, p := range m.prepared {
		if p.Begin.N == h.N && m.passed(p.Begin) {
			delete(m.prepared, txn)
		}
	}
}

func (m *model) passed(begin event.Position) bool {
	return begin.N < m.horizon.N || (begin.N == m.horizon.N && begin.Seq <= m.horizon.Seq)
}

func (m *model) prepare(index uint64, p *transport.Prepare) result {
	m.raise(p.Horizon)
	request := m.requests[p.TxnID]
	if request != nil && request.refused == nil {
		return result{seq: request.seq, done: true, vote: "done"}
	}
	key := modelAttempt{p.TxnID, p.Attempt}
	if end := m.attempts[key]; end != nil {
		if end.committed {
			return result{seq: end.seq, done: true, vote: "done"}
		}
		return result{seq: index, vote: "no", kind: end.kind, retry: end.retry}
	}
	held := m.prepared[p.TxnID]
	if held != nil && held.Attempt == p.Attempt {
		return result{seq: index, vote: "yes"}
	}
	refuse := func(kind event.Kind, retry bool) result {
		m.attempts[key] = &modelEnd{begin: p.Begin, seq: index, kind: kind, retry: retry}
		return result{seq: index, vote: "no", kind: kind, retry: retry}
	}
	if m.passed(p.Begin) {
		return result{seq: index, vote: "no", kind: event.KindTooOld, retry: true}
	}
	if len(m.prepared) >= m.bounds.prepared || len(m.attempts) >= m.bounds.attempts {
		return result{kind: event.KindBusy}
	}
	if request != nil {
		return refuse(request.refused.Kind, false)
	}
	if held != nil {
		return refuse(event.KindBusy, true)
	}
	if kind := m.untimely(p.Issued); kind != "" {
		return refuse(kind, false)
	}
	if kind := m.invalid(p.Ops); kind != "" {
		return refuse(kind, false)
	}
	if _, op := m.holder(p.Ops); op > 0 {
		return refuse(event.KindLocked, true)
	}
	if m.missing(p.Ops) > 0 {
		return refuse(event.KindPrecondition, false)
	}
	m.prepared[p.TxnID], m.since[p.TxnID] = p, m.logTime
	return result{seq: index, vote: "yes"}
}

func (m *model) finish(index uint64, f *transport.Finish) result {
	defer m.raise(f.Horizon)
	key := modelAttempt{f.TxnID, f.Attempt}
	if p := m.prepared[f.TxnID]; p != nil && p.Attempt == f.Attempt {
		delete(m.prepared, f.TxnID)
		m.attempts[key] = &modelEnd{begin: p.Begin, committed: f.Commit, seq: index, kind: event.KindAborted, retry: true}
		if f.Commit {
			m.apply(p.Ops)
			m.requests[f.TxnID] = &modelRequest{issued: p.Issued, seq: index}
		}
		return result{seq: index}
	}
	end := m.attempts[key]
	switch {
	case end != nil && end.committed == f.Commit:
		return result{seq: end.seq, done: true}
	case end != nil:
		return result{kind: event.KindConflict}
	case m.passed(f.Begin):
		return result{seq: index, done: true}
	case f.Commit:
		return result{kind: event.KindConflict}
	}
	m.attempts[key] = &modelEnd{begin: f.Begin, seq: index, kind: event.KindAborted, retry: true}
	return result{seq: index}
}

// The generators draw from few ids, transactions and times, so that everything meets everything.

var modelIDs = []string{"a", "b", "ba", "c", "\U0010ffff"}

// A key and a value that are one string when they are written one after the other, and a NUL, which only ids must not have.
var (
	modelAttributes = []string{"k", "kk", "\x00"}
	modelTags       = []string{"k", "t", ""}
)

func drawOp(t *rapid.T) Op {
	op := Op{
		Kind: rapid.SampledFrom([]transport.OpKind{transport.OpLearnConcept, transport.OpLearnConcept, transport.OpLearnAssociation,
			transport.OpLinkOut, transport.OpLinkIn}).Draw(t, "kind"),
		ID:         rapid.SampledFrom(modelIDs).Draw(t, "id"),
		Confidence: rapid.SampledFrom([]float32{0, 0.5, 1, 1, 1}).Draw(t, "confidence"),
	}
	if rapid.IntRange(0, 30).Draw(t, "bad") == 0 {
		op.Confidence = float32(math.NaN())
	}
	if op.Kind != transport.OpLearnConcept {
		op.Target = rapid.SampledFrom(modelIDs).Draw(t, "target")
		op.AssocType = uint32(rapid.IntRange(0, 2).Draw(t, "type"))
		return op
	}
	op.Content = rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "content")
	if rapid.Bool().Draw(t, "metadata") {
		op.Metadata = &transport.Metadata{
			Attributes: rapid.MapOfN(rapid.SampledFrom(modelAttributes), rapid.SampledFrom(modelAttributes), 0, 2).Draw(t, "attributes"),
			Tags:       rapid.SliceOfN(rapid.SampledFrom(modelTags), 0, 3).Draw(t, "tags"),
		}
	}
	if rapid.Bool().Draw(t, "vector") {
		op.Embedding = []float32{1, op.Confidence}
		if op.Confidence != op.Confidence {
			op.Embedding = nil
		}
	}
	return op
}

func drawOps(t *rapid.T) []Op { return rapid.SliceOfN(rapid.Custom(drawOp), 1, 4).Draw(t, "ops") }

func (m *model) drawCommand(t *rapid.T) Command {
	txn := id(byte(rapid.IntRange(1, 6).Draw(t, "request")))
	issued := m.logTime + int64(rapid.IntRange(-40, 15).Draw(t, "issued"))*1_000_000
	attempt := uint64(rapid.IntRange(1, 2).Draw(t, "attempt"))
	position := func(label string, from int) event.Position {
		return event.Position{N: uint64(rapid.SampledFrom([]int{1, 1, 1, 1, 1, 2}).Draw(t, label+" n")),
			Seq: m.horizon.Seq + uint64(rapid.IntRange(from, 12).Draw(t, label))}
	}
	horizon := event.Position{}
	if rapid.IntRange(0, 9).Draw(t, "raise") == 0 {
		horizon = event.Position{N: max(1, m.horizon.N), Seq: m.horizon.Seq + uint64(rapid.IntRange(0, 4).Draw(t, "horizon"))}
	}
	switch rapid.IntRange(0, 5).Draw(t, "command") {
	case 0, 1:
		return Command{Kind: Prepare, Prepare: &transport.Prepare{TxnID: txn, Attempt: attempt, Begin: position("begin", 0),
			Start: issued, Issued: issued, Coordinator: "master-1", Horizon: horizon, Ops: drawOps(t)}}
	case 2, 3:
		f := &transport.Finish{TxnID: txn, Attempt: attempt, Begin: position("begin", 0), Commit: rapid.Bool().Draw(t, "commit"), Horizon: horizon}
		if p := m.prepared[txn]; p != nil { // as it is in the log: the begin belongs to the attempt
			f.Attempt, f.Begin = p.Attempt, p.Begin
		}
		return Command{Kind: Finish, Finish: f}
	}
	ops := drawOps(t)
	if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
		ops = []Op{drawDelete(t)}
	}
	return Command{Kind: Write, RequestID: txn, Issued: issued, Write: &transport.Write{Ops: ops}}
}

func drawDelete(t *rapid.T) Op {
	op := Op{Kind: rapid.SampledFrom([]transport.OpKind{transport.OpDeleteConcept, transport.OpDeleteConcept, transport.OpDeleteAssociation,
		transport.OpDeleteAssociationType}).Draw(t, "kind"), ID: rapid.SampledFrom(modelIDs).Draw(t, "id")}
	if op.Kind != transport.OpDeleteConcept {
		op.Target = rapid.SampledFrom(modelIDs).Draw(t, "target")
	}
	if op.Kind == transport.OpDeleteAssociationType {
		op.AssocType = uint32(rapid.IntRange(0, 2).Draw(t, "type"))
	}
	return op
}

// world is an engine, its model and the log that made both.
type world struct {
	t      *rapid.T
	fs     *vfs.MemFS
	e      *Engine
	m      *model
	log    []raftgroup.Entry
	bounds bounds
	seed   int

	vectors   map[uint64]map[string]string // the vectors behind every entry that a step ended with
	forgotten uint64                       // changes up to here may be gone
}

func (w *world) options(fs vfs.FS) Options {
	o := testOptions(w.t, fs)
	o.bounds = w.bounds
	return o
}

// applyEntries lets both versions apply the same entries, in one Apply.
func (w *world) applyEntries(t *rapid.T) {
	var entries []raftgroup.Entry
	var want [][]result
	for range rapid.IntRange(1, 4).Draw(t, "entries") {
		index := uint64(1)
		if n := len(w.log); n > 0 {
			index = w.log[n-1].Index + uint64(rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "gap"))
		}
		en := raftgroup.Entry{Index: index, Term: 1, Version: 1, Level: Level}
		en.Time = max(w.m.logTime, testTime) + int64(rapid.SampledFrom([]int{-5, 0, 1, 1, 3, 40}).Draw(t, "time"))*1_000_000
		var commands []Command
		w.m.logTime = max(w.m.logTime, en.Time)
		for range rapid.IntRange(0, 4).Draw(t, "commands") {
			c := w.m.drawCommand(t)
			commands = append(commands, c)
			en.Commands = append(en.Commands, encode(t, c))
		}
		entries, w.log = append(entries, en), append(w.log, en)
		want = append(want, w.m.entry(index, en.Time, commands))
	}
	got := w.e.Apply(entries)
	for i := range entries {
		for j := range want[i] {
			compareAnswer(t, fmt.Sprintf("entry %d command %d", entries[i].Index, j), got[i][j].(Answer), want[i][j])
		}
	}
}

func compareAnswer(t *rapid.T, what string, got Answer, want result) {
	have := result{seq: got.Seq, done: got.AlreadyDone, nothing: got.Nothing}
	err := got.Err
	if p := got.Prepare; p != nil {
		switch {
		case p.AlreadyDone:
			have.vote = "done"
		case p.Vote:
			have.vote = "yes"
		default:
			have.vote, have.retry = "no", p.Retry
			err = p.Reason
		}
	}
	if err != nil {
		have.kind = err.Kind
		if want.vote == "" {
			have.holder = err.Txn
			if err.Kind == event.KindPrecondition || err.Kind == event.KindLocked {
				have.op = err.OpNumber
			}
		}
	}
	if have != want {
		t.Fatalf("%s: answer %+v (%v), the model says %+v", what, have, err, want)
	}
}

// replay brings an engine that lost its tail to the end of the log.
func (w *world) replay(e *Engine) {
	var tail []raftgroup.Entry
	for _, en := range w.log {
		if en.Index > e.Applied() || w.seed%3 == 0 { // sometimes from the start: what is applied is skipped
			tail = append(tail, en)
		}
	}
	for len(tail) > 0 {
		n := min(len(tail), 1+w.seed%5)
		e.Apply(tail[:n])
		tail = tail[n:]
	}
}

// crash loses what was not synced, and some of that by chance.
func (w *world) crash(t *rapid.T) {
	w.seed++
	if rapid.Bool().Draw(t, "flush first") {
		if err := w.e.Flush(); err != nil {
			t.Fatalf("flush: %v", err)
		}
		flushed := w.e.Applied()
		defer func() {
			if w.e.Applied() < flushed {
				t.Fatalf("applied %d after a crash, %d was flushed", w.e.Applied(), flushed)
			}
		}()
	}
	after := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "kept"), RNG: testRand(w.seed)})
	mustClose(t, w.e)
	w.fs, w.e = after, mustOpen(t, w.options(after))
	w.replay(w.e)
}

func (w *world) reopen(t *rapid.T) {
	applied := w.e.Applied()
	mustClose(t, w.e)
	for _, f := range findingsOf(t, w.fs) {
		// The model also writes single halves, whose other end a real one has on another shard.
		if !strings.Contains(f, "its other half") {
			t.Errorf("a stopped engine: %s", f)
		}
	}
	w.e = mustOpen(t, w.options(w.fs))
	if w.e.Applied() != applied {
		t.Fatalf("applied %d after an orderly stop at %d", w.e.Applied(), applied)
	}
}

// restoreElsewhere goes on with a replica that was made from a snapshot, over whatever it had before.
func (w *world) restoreElsewhere(t *rapid.T) {
	fs := vfs.NewCrashableMem()
	other := mustOpen(t, w.options(fs))
	if n := len(w.log); n > 0 {
		other.Apply(w.log[:rapid.IntRange(0, n).Draw(t, "had")])
	}
	if err := other.Restore(bytes.NewReader(snapshotOf(t, w.e))); err != nil {
		t.Fatalf("restore: %v", err)
	}
	if digestOf(t, w.e) != digestOf(t, other) {
		t.Fatalf("the restored replica differs")
	}
	mustClose(t, w.e)
	w.fs, w.e, w.forgotten = fs, other, other.Applied()
}

// replayElsewhere applies the whole log again, grouped otherwise, and compares key space by key space.
func (w *world) replayElsewhere(t *rapid.T) {
	w.seed++
	other := mustOpen(t, w.options(vfs.NewMem()))
	defer func() { mustClose(t, other) }()
	other.o.bounds.batchBytes = 1
	w.replay(other)
	if digestOf(t, w.e) != digestOf(t, other) {
		t.Fatalf("a replica that applied the same log in other groups differs")
	}
}

func (w *world) check(t *rapid.T) {
	if n := len(w.log); n > 0 && w.e.Applied() != w.log[n-1].Index {
		t.Fatalf("applied %d, the log ends at %d", w.e.Applied(), w.log[n-1].Index)
	}
	if w.e.Horizon() != w.m.horizon || w.e.LogTime() != w.m.logTime {
		t.Fatalf("horizon %v and log time %d, the model has %v and %d", w.e.Horizon(), w.e.LogTime(), w.m.horizon, w.m.logTime)
	}
	w.checkRows(t)
	w.checkIndexes(t)
	w.checkQueries(t)
	w.checkTransactions(t)
	w.checkVectors(t)
}

func (w *world) checkRows(t *rapid.T) {
	want := Stats{Written: w.m.written}
	var ids []string
	for _, name := range modelIDs {
		c, found, err := w.e.Concept(name)
		mc := w.m.concepts[name]
		if err != nil || found != (mc != nil) {
			t.Fatalf("concept %q: found %v, %v", name, found, err)
		}
		if mc != nil {
			want.Concepts++
			ids = append(ids, name)
			if len(mc.op.Embedding) > 0 {
				want.Vectors++
			}
			if c.Version != mc.version || c.Created != mc.created || c.Modified != mc.modified || c.Content != mc.op.Content || c.Confidence != mc.op.Confidence {
				t.Fatalf("concept %+v, the model has %+v", c, mc)
			}
			attributes, tags := metadataOf(mc.op)
			if !maps.Equal(c.Attributes, attributes) || !slices.Equal(c.Tags, tags) {
				t.Fatalf("metadata of %q is %q and %q, the model has %q and %q", name, c.Attributes, c.Tags, attributes, tags)
			}
			if v, err := w.e.Vector(name); err != nil || !slices.Equal(v, mc.op.Embedding) {
				t.Fatalf("vector of %q is %v, %v; the model has %v", name, v, err, mc.op.Embedding)
			}
		}
		w.checkEdges(t, name)
	}
	for _, edge := range w.m.edges {
		if edge.side == outgoing {
			want.Edges++
		}
	}
	if got := w.e.Stats(); got != want {
		t.Fatalf("stats %+v, the model counts %+v", got, want)
	}
	sort.Strings(ids)
	got, err := w.e.IDs("", 100)
	if err != nil || !slices.Equal(got, ids) {
		t.Fatalf("ids %q, %v; the model has %q", got, err, ids)
	}
}

// checkIndexes compares the index rows with those that the concepts call for.
func (w *world) checkIndexes(t *rapid.T) {
	var want [][]byte
	for name, c := range w.m.concepts {
		attributes, tags := metadataOf(c.op)
		x := indexed{created: c.created, attributes: attributes, tags: tags}
		want = append(want, x.keys(name)...)
	}
	slices.SortFunc(want, bytes.Compare)
	var got [][]byte
	s, err := w.e.use()
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer s.release()
	for _, table := range []byte{tableByTime, tableByAttribute, tableByTag} {
		if err := eachRow(s.db, table, func(key, _ []byte) error { got = append(got, bytes.Clone(key)); return nil }); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("index rows %x, the model has %x", got, want)
	}
}

func (w *world) checkEdges(t *rapid.T, name string) {
	var all []transport.Neighbor
	distinct := map[side][]string{}
	lowestType := map[string]modelEdge{}
	for _, e := range w.m.edges {
		if e.id != name {
			continue
		}
		all = append(all, transport.Neighbor{ID: e.other, Type: e.assocType, Confidence: e.confidence, Direction: e.side.String()})
		if !slices.Contains(distinct[e.side], e.other) {
			distinct[e.side] = append(distinct[e.side], e.other)
		}
		if low, ok := lowestType[e.other]; e.side == outgoing && (!ok || e.assocType < low.assocType) {
			lowestType[e.other] = e
		}
	}
	for _, s := range []side{outgoing, incoming} {
		got, err := w.e.Expand(&transport.Expand{ConceptIDs: []string{name}, Direction: s.String()})
		if err != nil || !slices.Equal(got.Neighbors[0], distinct[s]) || got.Known[0] != (w.m.concepts[name] != nil) {
			t.Fatalf("%s of %q is %+v, %v; the model has %q", s, name, got, err, distinct[s])
		}
	}
	if got := w.pages(t, name); !slices.Equal(got, all) {
		t.Fatalf("neighbors of %q are %+v, the model has %+v", name, got, all)
	}
	for _, other := range modelIDs {
		a, found, err := w.e.Association(name, other)
		low, want := lowestType[other]
		if err != nil || found != want || (found && (a.Type != low.assocType || a.Confidence != low.confidence)) {
			t.Fatalf("association %q -> %q is %+v, %v, %v; the model has %+v", name, other, a, found, err, low)
		}
	}
}

// pages reads all neighbours, two at a time.
func (w *world) pages(t *rapid.T, name string) (all []transport.Neighbor) {
	q := &transport.Neighbors{ConceptID: name, Direction: "both", Limit: 2}
	for range 1000 {
		page, err := w.e.Neighbors(q)
		if err != nil {
			t.Fatalf("page of %q: %v", name, err)
		}
		all = append(all, page.Items...)
		if page.Cursor == "" {
			return all
		}
		q.Cursor = page.Cursor
	}
	t.Fatalf("the pages of %q do not end", name)
	return nil
}

func (w *world) checkTransactions(t *rapid.T) {
	got := w.e.Prepared()
	if len(got) != len(w.m.prepared) {
		t.Fatalf("prepared %+v, the model has %d", got, len(w.m.prepared))
	}
	holders := map[string]event.TxnID{}
	for _, p := range got {
		want := w.m.prepared[p.TxnID]
		if want == nil || want.Attempt != p.Attempt || want.Begin != p.Begin || want.Start != p.Start || p.Since != w.m.since[p.TxnID] {
			t.Fatalf("prepared %+v, the model has %+v", p, want)
		}
		for _, row := range w.m.rows(want.Ops) {
			holders[row] = p.TxnID
		}
	}
	for _, name := range modelIDs {
		h, held := w.e.Holder(name)
		if want, ok := holders[name]; ok != held || h.Txn != want {
			t.Fatalf("%q is held by %v (%v), the model says %v (%v)", name, h, held, want, ok)
		}
	}
	if n := w.e.state.outcomes.Len(); n != len(w.m.requests) || n != len(w.e.state.requests) {
		t.Fatalf("%d requests are remembered (%d by id), the model has %d", n, len(w.e.state.requests), len(w.m.requests))
	}
	if n := w.e.state.attempts.Len(); n != len(w.m.attempts) {
		t.Fatalf("%d attempts are remembered, the model has %d", n, len(w.m.attempts))
	}
}

func TestEngineIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := levelBounds()
		b.requests, b.window, b.ahead, b.prepared, b.attempts = 4, 60_000_000, 10_000_000, 3, 5
		fs := vfs.NewCrashableMem()
		w := &world{t: t, fs: fs, m: newModel(b), bounds: b, vectors: map[uint64]map[string]string{0: {}}}
		w.e = mustOpen(t, w.options(fs))
		defer func() { mustClose(t, w.e) }()
		t.Repeat(map[string]func(*rapid.T){
			"":                 w.check,
			"apply":            w.applyEntries,
			"apply more":       w.applyEntries,
			"apply even more":  w.applyEntries,
			"crash":            w.crash,
			"reopen":           w.reopen,
			"forget":           w.forget,
			"restore":          w.restoreElsewhere,
			"replay elsewhere": w.replayElsewhere,
		})
	})
}
