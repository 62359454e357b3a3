package engine

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
	"pgregory.net/rapid"
)

// model is the engine's deliberately dumb second version: plain maps, everything searched, nothing shared with the engine
// but the messages.
type model struct {
	graph
	requests  map[event.RequestID]*modelRequest
	prepared  map[event.TxnID]*modelPrepared
	attempts  map[modelAttempt]*modelEnd
	results   []modelResults // in the order in which they are kept
	horizon   event.Position
	forgotten int64
	logTime   int64
	level     uint32
	bounds    bounds
}

// graph is what ops read and write. It is copied whole before ops that may have to be undone.
type graph struct {
	concepts map[string]*modelConcept
	edges    []modelEdge // outgoing and incoming halves in commit order
	written  uint64
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

type modelPrepared struct {
	first     *transport.Prepare
	parts     []*modelPart // in the order in which they came
	since     int64
	neighbors []string
}

type modelPart struct {
	*transport.Prepare
	yes result
}

func (p *modelPrepared) open() bool {
	return !slices.ContainsFunc(p.parts, func(part *modelPart) bool { return !part.Open })
}

func (p *modelPrepared) ops() (ops []Op) {
	for _, part := range p.parts {
		ops = append(ops, part.Ops...)
	}
	return ops
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

type modelResults struct {
	of    modelAttempt // attempt 0: of a write
	since int64
	text  string
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
	results string
	omitted bool
	far     string
}

func newModel(b bounds) *model {
	return &model{
		graph:    graph{concepts: map[string]*modelConcept{}},
		requests: map[event.RequestID]*modelRequest{}, prepared: map[event.TxnID]*modelPrepared{},
		attempts: map[modelAttempt]*modelEnd{}, bounds: b, level: 2,
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
	m.evictResults()
	return results
}

func (m *model) write(index uint64, c Command) result {
	ops := c.Write.Ops
	if kind := m.invalid(ops); kind != "" {
		return result{kind: kind}
	}
	if kind := m.tooNew(ops, false); kind != "" {
		return result{kind: kind}
	}
	body := fmt.Sprintf("%+v", derefOps(ops))
	if r := m.requests[c.RequestID]; r != nil {
		switch {
		case r.body != "" && r.body != body:
			return result{kind: event.KindIDReused}
		case r.refused != nil:
			return result{seq: r.seq, kind: r.refused.Kind, op: r.refused.OpNumber}
		}
		again := result{seq: r.seq, done: true, nothing: r.nothing}
		if len(ops) == 1 && ops[0].Kind.Deletes() {
			again.omitted = r.body == "" // of a transaction
		} else if answering(ops) {
			again.results, again.omitted = m.resultsOf(modelAttempt{c.RequestID, 0})
		}
		return again
	}
	if m.prepared[c.RequestID] != nil {
		return result{kind: event.KindBusy, holder: c.RequestID}
	}
	if kind := m.untimely(c.Issued); kind != "" {
		return result{kind: kind}
	}
	if holder, op := m.holder(ops, event.TxnID{}); op > 0 {
		return result{kind: event.KindLocked, op: op, holder: holder}
	}
	r := &modelRequest{issued: c.Issued, seq: index, body: body}
	if len(ops) == 1 && ops[0].Kind.Deletes() {
		return m.remove(c.RequestID, r, ops[0])
	}
	try := m.copied()
	x := m.execute(&try, ops, m.logTime, event.TxnID{})
	switch {
	case x.kind == event.KindLocked:
		return result{kind: x.kind, op: x.op, holder: x.holder}
	case x.kind != "":
		r.refused = &event.Error{Kind: x.kind, OpNumber: x.op}
		m.requests[c.RequestID] = r
		return result{seq: index, kind: x.kind, op: x.op}
	case len(x.far) > 0:
		return result{kind: event.KindNeedsTxn}
	}
	m.graph, m.requests[c.RequestID] = try, r
	got := result{seq: index}
	if answering(ops) {
		got.results = fmt.Sprintf("%+v", x.results)
		m.keep(modelAttempt{c.RequestID, 0}, got.results)
	}
	return got
}

// tooNew is the refusal of what the log's level does not have.
func (m *model) tooNew(ops []Op, prepare bool) event.Kind {
	for _, op := range ops {
		switch {
		case m.level >= 3 || op.Kind == transport.OpLearnConcept || op.Kind == transport.OpLearnAssociation ||
			op.Kind == transport.OpLinkIn || op.Kind == transport.OpLinkOut:
		case !op.Kind.Deletes() || prepare:
			return event.KindUnsupported
		case len(ops) > 1:
			return event.KindInvalid
		}
	}
	return ""
}

// remove is a delete that is alone in its write and that nothing speaks against but what it would remove.
func (m *model) remove(id event.RequestID, r *modelRequest, op Op) result {
	removed, others := m.hit(op)
	for _, other := range others {
		if m.concepts[other] == nil {
			return result{kind: event.KindNeedsTxn}
		}
	}
	for _, other := range others {
		if txn, held := m.held(other, true, event.TxnID{}); held {
			return result{kind: event.KindLocked, op: 1, holder: txn}
		}
	}
	concept := op.Kind == transport.OpDeleteConcept && m.concepts[op.ID] != nil
	r.nothing = !concept && len(removed) == 0
	m.requests[id] = r
	if r.nothing {
		return result{seq: r.seq, nothing: true}
	}
	m.written++
	m.edges = slices.DeleteFunc(m.edges, func(e modelEdge) bool { return slices.Contains(removed, e.identity()) })
	if concept {
		delete(m.concepts, op.ID)
	}
	return result{seq: r.seq}
}

func (e modelEdge) identity() transport.AssociationID {
	if e.side == incoming {
		return transport.AssociationID{Source: e.other, Target: e.id, AssocType: e.assocType}
	}
	return transport.AssociationID{Source: e.id, Target: e.other, AssocType: e.assocType}
}

// hit lists what a delete removes of associations, outgoing ones of the concept first, each once, and the ends of all of it.
func (g *graph) hit(op Op) (removed []transport.AssociationID, others []string) {
	for _, s := range []side{outgoing, incoming} {
		of := []modelEdge{}
		for _, e := range g.edges {
			i := e.identity()
			hit := i.Source == op.ID && i.Target == op.Target
			switch op.Kind {
			case transport.OpDeleteConcept:
				hit = e.id == op.ID
			case transport.OpDeleteAssociationType, transport.OpUnlinkInType, transport.OpUnlinkOutType:
				hit = hit && i.AssocType == op.AssocType
			}
			if hit && e.side == s {
				of = append(of, e)
			}
		}
		if op.Kind != transport.OpDeleteConcept { // found by type, not by order
			slices.SortFunc(of, func(a, b modelEdge) int { return int(a.assocType) - int(b.assocType) })
		}
		for _, e := range of {
			if i := e.identity(); !slices.Contains(removed, i) {
				removed = append(removed, i)
				others = append(others, i.Source, i.Target)
			}
		}
	}
	return removed, others
}

func (m *model) copied() graph {
	g := graph{concepts: map[string]*modelConcept{}, edges: slices.Clone(m.edges), written: m.written}
	for id, c := range m.concepts {
		copied := *c
		g.concepts[id] = &copied
	}
	return g
}

func answering(ops []Op) bool {
	return slices.ContainsFunc(ops, func(op Op) bool {
		return op.Kind == transport.OpAdd || op.Kind == transport.OpRead || op.Kind == transport.OpReadNeighbors || op.Kind.Deletes() ||
			slices.Contains([]transport.OpKind{transport.OpUnlinkIn, transport.OpUnlinkInType, transport.OpUnlinkOut, transport.OpUnlinkOutType}, op.Kind)
	})
}

// executed is what ops come to.
type executed struct {
	kind      event.Kind // why they cannot be; "": they can
	op        uint32
	holder    event.TxnID
	results   []transport.OpResult
	far       []transport.AssociationID
	neighbors []string
}

// execute runs ops on g, which is spoilt when they cannot be.
func (m *model) execute(g *graph, ops []Op, now int64, self event.TxnID) (x executed) {
	for i, op := range ops {
		r := transport.OpResult{}
		ok := true
		c := g.concepts[op.ID]
		switch op.Kind {
		case transport.OpDeleteConcept:
			if c == nil {
				break
			}
			r.Found = true
			removed, others := g.hit(op)
			for _, other := range others {
				if g.concepts[other] == nil {
					continue
				}
				if holder, held := m.held(other, true, self); held {
					return executed{kind: event.KindLocked, op: uint32(i) + 1, holder: holder}
				}
				x.neighbors = append(x.neighbors, other)
			}
			x.away(g, removed)
			g.unlink(removed, outgoing, incoming)
			delete(g.concepts, op.ID)
			g.written++
		case transport.OpDeleteAssociation, transport.OpDeleteAssociationType:
			removed, _ := g.hit(op)
			x.away(g, removed)
			if g.unlink(removed, outgoing, incoming); len(removed) > 0 {
				r.Found = true
				g.written++
			}
		case transport.OpUnlinkOut, transport.OpUnlinkOutType:
			removed, _ := g.hit(op)
			if g.unlink(removed, outgoing) > 0 {
				r.Found = true
				g.written++
			}
		case transport.OpUnlinkIn, transport.OpUnlinkInType:
			removed, _ := g.hit(op)
			r.Found = g.unlink(removed, incoming) > 0
		case transport.OpLearnConcept, transport.OpLearnAssociation, transport.OpLinkIn, transport.OpLinkOut:
			for _, row := range (&model{}).rows([]Op{op}) {
				ok = ok && (op.Kind == transport.OpLearnConcept || g.concepts[row] != nil)
			}
			if ok {
				g.learn(op, now)
			}
		default:
			r, ok = g.attribute(op, c, now)
		}
		if !ok {
			return executed{kind: event.KindPrecondition, op: uint32(i) + 1}
		}
		x.results = append(x.results, r)
	}
	return x
}

// away notes what has an end elsewhere.
func (x *executed) away(g *graph, removed []transport.AssociationID) {
	for _, i := range removed {
		if (g.concepts[i.Source] == nil || g.concepts[i.Target] == nil) && !slices.Contains(x.far, i) {
			x.far = append(x.far, i)
		}
	}
}

func (g *graph) unlink(removed []transport.AssociationID, sides ...side) (n int) {
	before := len(g.edges)
	g.edges = slices.DeleteFunc(g.edges, func(e modelEdge) bool {
		return slices.Contains(removed, e.identity()) && slices.Contains(sides, e.side)
	})
	return before - len(g.edges)
}

// attribute executes the ops that read or change one concept.
func (g *graph) attribute(op Op, c *modelConcept, now int64) (r transport.OpResult, ok bool) {
	switch op.Kind {
	case transport.OpAbsent:
		return r, c == nil
	case transport.OpReadNeighbors:
		for _, e := range g.edges {
			if c != nil && e.side == outgoing && e.id == op.ID && !slices.Contains(r.Neighbors, e.other) {
				r.Neighbors = append(r.Neighbors, e.other)
			}
		}
		return r, true
	}
	if c == nil {
		return r, op.Kind == transport.OpRead
	}
	attributes, tags := metadataOf(c.op)
	value, there := attributes[op.Key]
	n, isNumber := new(big.Int).SetString(value, 10)
	switch {
	case !there:
		n, isNumber = new(big.Int), true
	case isNumber:
		isNumber = n.IsInt64() && !strings.ContainsAny(value, "_ ")
	}
	switch op.Kind {
	case transport.OpRead:
		return transport.OpResult{Found: true, Content: c.op.Content, Strength: c.op.Strength, Confidence: c.op.Confidence, Attributes: maps.Clone(attributes),
			Tags: tags, Version: c.version, Created: c.created, Modified: c.modified}, true
	case transport.OpExists:
		return r, true
	case transport.OpVersion:
		return r, c.version == op.Version
	case transport.OpAttributeEquals:
		return r, there && value == op.Value
	case transport.OpAttributeAtLeast:
		return r, isNumber && n.Int64() >= op.Number
	}
	set := op.Value
	if op.Kind == transport.OpAdd {
		if !isNumber || !n.Add(n, big.NewInt(op.Number)).IsInt64() {
			return r, false
		}
		r.Value, set = n.Int64(), n.String()
	}
	changed := &transport.Metadata{Attributes: map[string]string{op.Key: set}, Tags: tags}
	for k, v := range attributes {
		if k != op.Key {
			changed.Attributes[k] = v
		}
	}
	c.op.Metadata, c.version, c.modified = changed, c.version+1, now
	g.written++
	return r, true
}

func derefOps(ops []Op) (list []string) {
	for _, op := range ops {
		attributes, tags := metadataOf(op)
		// Metadata that is empty is another body than none.
		list = append(list, fmt.Sprintf("%s %q %q %d %q %v %v %v %v %q %q %q %q %d %d", op.Kind, op.ID, op.Target, op.AssocType, op.Content, op.Embedding, op.Strength,
			op.Confidence, op.Metadata != nil, attributes, tags, op.Key, op.Value, op.Number, op.Version))
	}
	return list
}

func metadataOf(op Op) (attributes map[string]string, tags []string) {
	if op.Metadata == nil {
		return nil, nil
	}
	return op.Metadata.Attributes, op.Metadata.Tags
}

// ends tells whether an op is about an association.
func ends(k transport.OpKind) bool {
	return k.Half() || k == transport.OpLearnAssociation || k == transport.OpDeleteAssociation || k == transport.OpDeleteAssociationType
}

func (m *model) invalid(ops []Op) event.Kind {
	for _, op := range ops {
		if op.ID == "" || (ends(op.Kind) && op.Target == "") ||
			(math.IsNaN(float64(op.Confidence)) && (ends(op.Kind) || op.Kind == transport.OpLearnConcept)) {
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
		in := op.Kind == transport.OpLinkIn || op.Kind == transport.OpUnlinkIn || op.Kind == transport.OpUnlinkInType
		out := op.Kind == transport.OpLinkOut || op.Kind == transport.OpUnlinkOut || op.Kind == transport.OpUnlinkOutType
		if !in {
			rows = append(rows, op.ID)
		}
		if op.Target != "" && !out {
			rows = append(rows, op.Target)
		}
	}
	return rows
}

func reading(op Op) bool {
	switch op.Kind {
	case transport.OpRead, transport.OpReadNeighbors, transport.OpExists, transport.OpAbsent, transport.OpVersion,
		transport.OpAttributeEquals, transport.OpAttributeAtLeast:
		return true
	}
	return false
}

// held finds the oldest transaction that keeps others from a row.
func (m *model) held(row string, exclusive bool, self event.TxnID) (oldest event.TxnID, held bool) {
	for txn, p := range m.prepared {
		holds := slices.Contains(p.neighbors, row)
		for _, op := range p.ops() {
			holds = holds || ((exclusive || !reading(op)) && slices.Contains(m.rows([]Op{op}), row))
		}
		if !holds || txn == self {
			continue
		}
		if o := m.prepared[oldest]; !held || p.first.Start < o.first.Start || (p.first.Start == o.first.Start && bytes.Compare(txn[:], oldest[:]) < 0) {
			oldest, held = txn, true
		}
	}
	return oldest, held
}

func (m *model) holder(ops []Op, self event.TxnID) (event.TxnID, uint32) {
	for i := range ops {
		for _, row := range m.rows(ops[i : i+1]) {
			if txn, held := m.held(row, !reading(ops[i]), self); held {
				return txn, uint32(i) + 1
			}
		}
	}
	return event.TxnID{}, 0
}

func (m *graph) learn(op Op, now int64) {
	if op.Kind == transport.OpLearnConcept {
		m.written++
		c := m.concepts[op.ID]
		if c == nil {
			c = &modelConcept{created: now}
			m.concepts[op.ID] = c
		}
		c.op, c.version, c.modified = op, c.version+1, now
		return
	}
	if op.Kind != transport.OpLinkIn {
		m.written++
		m.link(modelEdge{outgoing, op.ID, op.Target, op.AssocType, op.Confidence})
	}
	if op.Kind != transport.OpLinkOut {
		m.link(modelEdge{incoming, op.Target, op.ID, op.AssocType, op.Confidence})
	}
}

func (m *graph) link(e modelEdge) {
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

func (m *model) keep(of modelAttempt, text string) {
	m.results = slices.DeleteFunc(m.results, func(r modelResults) bool { return r.of == of })
	m.results = append(m.results, modelResults{of, m.logTime, text})
}

func (m *model) resultsOf(of modelAttempt) (text string, omitted bool) {
	for _, r := range m.results {
		if r.of == of {
			return r.text, false
		}
	}
	return "", true
}

func (m *model) evictResults() {
	slices.SortStableFunc(m.results, func(a, b modelResults) int {
		if a.since != b.since {
			return int(a.since - b.since)
		}
		if c := bytes.Compare(a.of.txn[:], b.of.txn[:]); c != 0 {
			return c
		}
		return int(a.of.attempt) - int(b.of.attempt)
	})
	m.results = slices.DeleteFunc(m.results, func(r modelResults) bool { return r.of.attempt == 0 && r.since < m.logTime-m.bounds.resultsWindow })
	m.results = m.results[max(0, len(m.results)-m.bounds.results):]
}

func (m *model) raise(h event.Position) {
	if h.N < m.horizon.N || (h.N == m.horizon.N && h.Seq <= m.horizon.Seq) {
		return
	}
	m.horizon = h
	for key, end := range m.attempts {
		if m.passed(end.begin) {
			delete(m.attempts, key)
			m.results = slices.DeleteFunc(m.results, func(r modelResults) bool { return r.of == key })
		}
	}
	for txn, p := range m.prepared {
		if p.first.Begin.N == h.N && m.passed(p.first.Begin) {
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
	same := held != nil && held.first.Attempt == p.Attempt
	if same {
		for _, part := range held.parts {
			if part.Part == p.Part {
				again := part.yes
				again.seq = index
				return again
			}
		}
	}
	if m.passed(p.Begin) {
		return result{seq: index, vote: "no", kind: event.KindTooOld, retry: true}
	}
	if !same && (len(m.prepared) >= m.bounds.prepared || len(m.attempts) >= m.bounds.attempts) {
		return result{kind: event.KindBusy}
	}
	x, kind, retry := m.votes(p, held, same, request)
	if kind != "" {
		m.attempts[key] = &modelEnd{begin: p.Begin, seq: index, kind: kind, retry: retry}
		if same {
			m.attempts[key].begin = held.first.Begin
			delete(m.prepared, p.TxnID)
		}
		return result{seq: index, vote: "no", kind: kind, retry: retry}
	}
	if !same {
		held = &modelPrepared{first: p, since: m.logTime}
		m.prepared[p.TxnID] = held
	}
	yes := result{seq: index, vote: "yes", far: fmt.Sprintf("%+v", x.far)}
	if answering(p.Ops) {
		yes.results = fmt.Sprintf("%+v", x.results)
	}
	held.parts, held.neighbors = append(held.parts, &modelPart{p, yes}), append(held.neighbors, x.neighbors...)
	return yes
}

func (m *model) votes(p *transport.Prepare, held *modelPrepared, same bool, request *modelRequest) (x executed, kind event.Kind, retry bool) {
	if request != nil {
		return x, request.refused.Kind, false
	}
	if held != nil && !same {
		return x, event.KindBusy, true
	}
	if kind := m.untimely(p.Issued); kind != "" {
		return x, kind, false
	}
	if kind := m.invalid(p.Ops); kind != "" {
		return x, kind, false
	}
	if kind := m.tooNew(p.Ops, true); kind != "" {
		return x, kind, false
	}
	if m.level < 3 && (p.Part > 0 || p.Open) {
		return x, event.KindUnsupported, false
	}
	if _, op := m.holder(p.Ops, p.TxnID); op > 0 {
		return x, event.KindLocked, true
	}
	try, now := m.copied(), m.logTime
	if same {
		now = held.since
		m.execute(&try, held.ops(), now, p.TxnID)
	}
	x = m.execute(&try, p.Ops, now, p.TxnID)
	return x, x.kind, x.kind == event.KindLocked
}

func (m *model) finish(index uint64, f *transport.Finish) result {
	defer m.raise(f.Horizon)
	key := modelAttempt{f.TxnID, f.Attempt}
	if p := m.prepared[f.TxnID]; p != nil && p.first.Attempt == f.Attempt {
		if f.Commit && p.open() {
			return result{kind: event.KindConflict}
		}
		delete(m.prepared, f.TxnID)
		m.attempts[key] = &modelEnd{begin: p.first.Begin, committed: f.Commit, seq: index, kind: event.KindAborted, retry: true}
		if f.Commit {
			now := m.logTime
			if m.level >= 3 {
				now = p.since
			}
			x := m.execute(&m.graph, p.ops(), now, f.TxnID)
			if answering(p.ops()) {
				m.keep(key, fmt.Sprintf("%+v", x.results))
			}
			m.requests[f.TxnID] = &modelRequest{issued: p.first.Issued, seq: index}
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

// modelNumbers are what attributes hold where numbers are asked for.
var modelNumbers = []string{"5", "-7", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "x", "", "1_0", "+3", " 4"}

func drawOp(t *rapid.T) Op {
	if rapid.IntRange(0, 2).Draw(t, "of level 3") == 0 {
		return drawTxnOp(t)
	}
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

// drawTxnOp draws what only level 3 has, or has beside other ops.
func drawTxnOp(t *rapid.T) Op {
	op := Op{
		Kind: rapid.SampledFrom([]transport.OpKind{transport.OpDeleteConcept, transport.OpDeleteConcept, transport.OpDeleteAssociation, transport.OpDeleteAssociationType,
			transport.OpUnlinkOut, transport.OpUnlinkIn, transport.OpUnlinkOutType, transport.OpUnlinkInType, transport.OpSetAttribute, transport.OpAdd, transport.OpAdd,
			transport.OpRead, transport.OpRead, transport.OpReadNeighbors, transport.OpReadNeighbors, transport.OpExists, transport.OpAbsent, transport.OpVersion,
			transport.OpAttributeEquals, transport.OpAttributeAtLeast}).Draw(t, "kind"),
		ID: rapid.SampledFrom(modelIDs).Draw(t, "id"),
	}
	if ends(op.Kind) {
		op.Target = rapid.SampledFrom(modelIDs).Draw(t, "target")
		op.AssocType = uint32(rapid.IntRange(0, 2).Draw(t, "type"))
		return op
	}
	switch op.Kind {
	case transport.OpVersion:
		op.Version = uint64(rapid.IntRange(1, 3).Draw(t, "version"))
	case transport.OpSetAttribute, transport.OpAttributeEquals:
		op.Value = rapid.SampledFrom(modelNumbers).Draw(t, "value")
		op.Key = rapid.SampledFrom(modelAttributes).Draw(t, "key")
	case transport.OpAdd, transport.OpAttributeAtLeast:
		op.Number = rapid.SampledFrom([]int64{0, 1, -1, 12, math.MaxInt64, math.MinInt64}).Draw(t, "number")
		op.Key = rapid.SampledFrom(modelAttributes).Draw(t, "key")
	}
	return op
}

func drawOps(t *rapid.T) []Op { return rapid.SliceOfN(rapid.Custom(drawOp), 1, 4).Draw(t, "ops") }

func (m *model) drawCommand(t *rapid.T) Command {
	txn := id(byte(rapid.IntRange(1, 6).Draw(t, "request")))
	issued := m.logTime + int64(rapid.IntRange(-40, 15).Draw(t, "issued"))*1_000_000
	if rapid.Bool().Draw(t, "in time") {
		issued = max(m.logTime, m.forgotten+1)
	}
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
		p := &transport.Prepare{TxnID: txn, Attempt: attempt, Begin: position("begin", 0),
			Start: issued, Issued: issued, Coordinator: "master-1", Horizon: horizon, Ops: drawOps(t)}
		if rapid.IntRange(0, 2).Draw(t, "in parts") == 0 {
			p.Part, p.Open = uint32(rapid.IntRange(0, 2).Draw(t, "part")), rapid.Bool().Draw(t, "open")
		}
		if p.Part > 0 && rapid.Bool().Draw(t, "closing") {
			p.Ops = nil
		}
		return Command{Kind: Prepare, Prepare: p}
	case 2, 3:
		f := &transport.Finish{TxnID: txn, Attempt: attempt, Begin: position("begin", 0), Commit: rapid.Bool().Draw(t, "commit"), Horizon: horizon}
		if p := m.prepared[txn]; p != nil { // as it is in the log: the begin belongs to the attempt
			f.Attempt, f.Begin = p.first.Attempt, p.first.Begin
		}
		return Command{Kind: Finish, Finish: f}
	}
	ops := drawOps(t)
	switch rapid.IntRange(0, 5).Draw(t, "delete") {
	case 0:
		ops = []Op{drawDelete(t)}
	case 1: // something to delete and to read
		ops = []Op{concept("a"), concept("b"), concept("c"), association("a", "b", 0), association("b", "c", 1), association("c", "a", 0), half(transport.OpLinkOut, "a", "far")}
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
		en := raftgroup.Entry{Index: index, Term: 1, Version: 1, Level: w.m.level}
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

func resultsText(results []transport.OpResult) string {
	if results == nil {
		return ""
	}
	return fmt.Sprintf("%+v", results)
}

func compareAnswer(t *rapid.T, what string, got Answer, want result) {
	have := result{seq: got.Seq, done: got.AlreadyDone, nothing: got.Nothing, omitted: got.ResultsOmitted, results: resultsText(got.Results)}
	err := got.Err
	if p := got.Prepare; p != nil {
		switch {
		case p.AlreadyDone:
			have.vote = "done"
		case p.Vote:
			have.vote, have.results, have.far = "yes", resultsText(p.Results), fmt.Sprintf("%+v", p.Far)
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
	for _, p := range got {
		want := w.m.prepared[p.TxnID]
		if want == nil || want.first.Attempt != p.Attempt || want.first.Begin != p.Begin || want.first.Start != p.Start || p.Since != want.since || p.Open != want.open() {
			t.Fatalf("prepared %+v, the model has %+v", p, want)
		}
	}
	for _, name := range modelIDs {
		h, held := w.e.Holder(name)
		if want, ok := w.m.held(name, false, event.TxnID{}); ok != held || h.Txn != want {
			t.Fatalf("%q is held by %v (%v), the model says %v (%v)", name, h, held, want, ok)
		}
		h, held = w.e.Conflict(lock.Row{ID: name, Mode: lock.Exclusive}, id(1))
		if want, ok := w.m.held(name, true, id(1)); ok != held || h.Txn != want {
			t.Fatalf("a writer of %q conflicts with %v (%v), the model says %v (%v)", name, h, held, want, ok)
		}
	}
	for n := range byte(7) {
		for attempt := range uint64(3) {
			got, err := w.e.Results(&transport.TxnResults{TxnID: id(n), Attempt: attempt})
			text, omitted := w.m.resultsOf(modelAttempt{id(n), attempt})
			if attempt == 0 {
				text, omitted = "", true // of a write: only its repetition gets them
			}
			if err != nil || got.Omitted != omitted || resultsText(got.Results) != text {
				t.Fatalf("results of attempt %d are %+v, %v; the model has %s", attempt, got, err, text)
			}
		}
	}
	if n := w.e.state.kept.len(); n != len(w.m.results) {
		t.Fatalf("%d results are kept, the model keeps %d", n, len(w.m.results))
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
		b.results, b.resultsWindow = 3, 30_000_000
		fs := vfs.NewCrashableMem()
		w := &world{t: t, fs: fs, m: newModel(b), bounds: b, vectors: map[uint64]map[string]string{0: {}}}
		w.e = mustOpen(t, w.options(fs))
		defer func() { mustClose(t, w.e) }()
		t.Repeat(map[string]func(*rapid.T){
			"":                 w.check,
			"apply":            w.applyEntries,
			"apply more":       w.applyEntries,
			"apply even more":  w.applyEntries,
			"raise the level":  func(*rapid.T) { w.m.level = 3 },
			"crash":            w.crash,
			"reopen":           w.reopen,
			"forget":           w.forget,
			"restore":          w.restoreElsewhere,
			"replay elsewhere": w.replayElsewhere,
		})
	})
}
