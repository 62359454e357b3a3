package txn

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// participant is one shard, as safety S3, S4, S8 and S19 describe it, in the dumbest form.
type participant struct {
	g  *grid
	id event.ShardID

	mu       sync.Mutex
	data     *shelf
	rows     map[string]int // how often each row was written
	locks    []rowLock
	prepared map[event.TxnID]*prepared // at most one attempt each
	done     map[event.TxnID]bool
	writes   map[event.TxnID]*written // single-shard writes, done or refused
	results  map[attemptKey][]transport.OpResult
	refused  map[attemptKey]bool
	horizon  event.Position
	omits    bool // it no longer keeps results
	seen     func(*transport.Prepare)
	real     *store // answers in its place
}

type attemptKey struct {
	txn   event.TxnID
	nonce uint64
}

type rowLock struct {
	row    string
	shared bool
	txn    event.TxnID
	start  int64
}

// prepared is an attempt in doubt; Ops are those of all its parts.
type prepared struct {
	*transport.Prepare
	since   time.Time
	parts   map[uint32]*transport.PrepareOk
	results []transport.OpResult
	open    bool
}

type written struct {
	ops   []transport.Op
	reply *transport.WriteOk
	err   *event.Error
}

func newParticipant(g *grid, id event.ShardID) *participant {
	home := func(row string) bool {
		s, err := g.machine.View().ShardMap().Shard(row)
		return err == nil && s.ID == id
	}
	return &participant{g: g, id: id, data: newShelf(home), rows: map[string]int{}, prepared: map[event.TxnID]*prepared{}, done: map[event.TxnID]bool{},
		writes: map[event.TxnID]*written{}, results: map[attemptKey][]transport.OpResult{}, refused: map[attemptKey]bool{}}
}

func (p *participant) breach(format string, args ...any) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.g.breaches = append(p.g.breaches, string(p.id)+": "+fmt.Sprintf(format, args...))
}

func (p *participant) handle(req client.ShardRequest) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.real != nil {
		return p.real.handle(req)
	}
	switch r := req.Request.(type) {
	case *transport.Prepare:
		return p.prepare(r), nil
	case *transport.Finish:
		return p.finish(r)
	case *transport.Write:
		return p.write(req.RequestID, r)
	case *transport.PreparedTxns:
		return p.preparedTxns(), nil
	case *transport.TxnResults:
		kept, some := p.results[attemptKey{r.TxnID, r.Attempt}]
		if p.omits || !some {
			return &transport.TxnResultsOk{Omitted: true}, nil
		}
		return &transport.TxnResultsOk{Results: kept}, nil
	}
	return nil, fmt.Errorf("unexpected %T", req.Request)
}

// locksOf are the rows that operations touch here.
func (p *participant) locksOf(ops []transport.Op) []rowLock {
	var locks []rowLock
	for _, op := range ops {
		rows := []string{op.ID}
		if op.Target != "" {
			rows = append(rows, op.Target)
		}
		if op.Kind == transport.OpDeleteConcept {
			for _, a := range p.data.edges(op.ID) {
				rows = append(rows, a.Source, a.Target)
			}
		}
		for _, row := range rows {
			if p.data.home(row) {
				locks = append(locks, rowLock{row: row, shared: op.Kind.ReadsOnly()})
			}
		}
	}
	return locks
}

func (p *participant) blocked(locks []rowLock, by event.TxnID) *rowLock {
	for i, want := range locks {
		for _, held := range p.locks {
			if held.row == want.row && held.txn != by && !(held.shared && want.shared) {
				return &locks[i]
			}
		}
	}
	return nil
}

func (p *participant) no(r *transport.Prepare, kind event.Kind, op int, retry bool) *transport.PrepareOk {
	p.refused[attemptKey{r.TxnID, r.Attempt}] = true
	if held := p.prepared[r.TxnID]; held != nil && held.Attempt == r.Attempt {
		p.release(r.TxnID)
	}
	return &transport.PrepareOk{Retry: retry, OpIndex: int32(op), Reason: &event.Error{Kind: kind, Message: "refused"}}
}

func (p *participant) prepare(r *transport.Prepare) *transport.PrepareOk {
	if p.horizon.Less(r.Horizon) {
		p.horizon = r.Horizon
	}
	if p.seen != nil {
		p.seen(r)
	}
	if len(r.Ops) > transport.MaxOps || len(r.Ops) == 0 && r.Part == 0 {
		p.breach("a part %d of %d operations", r.Part, len(r.Ops))
	}
	held := p.prepared[r.TxnID]
	switch {
	case p.done[r.TxnID]:
		return &transport.PrepareOk{AlreadyDone: true, OpIndex: -1}
	case p.refused[attemptKey{r.TxnID, r.Attempt}]:
		return p.no(r, event.KindAborted, -1, true)
	case held != nil && held.Attempt == r.Attempt && held.parts[r.Part] != nil:
		return held.parts[r.Part]
	case held != nil && held.Attempt != r.Attempt:
		return p.no(r, event.KindBusy, -1, true)
	case held == nil && !p.horizon.Less(r.Begin):
		return p.no(r, event.KindTooOld, -1, true)
	case p.writes[r.TxnID] != nil: // refused
		return p.no(r, event.KindPrecondition, -1, false)
	}
	if held != nil && !held.open {
		p.breach("%s: part %d comes behind the last", r.TxnID, r.Part)
	}
	before := &prepared{Prepare: &transport.Prepare{}}
	if held != nil {
		before = held
	}
	now := p.data.clone()
	for i := range before.Ops {
		now.do(&before.Ops[i])
	}
	vote := &transport.PrepareOk{Vote: true, OpIndex: -1}
	locks := p.locksOf(r.Ops)
	if p.blocked(locks, r.TxnID) != nil {
		return p.no(r, event.KindLocked, 0, true)
	}
	results := make([]transport.OpResult, len(r.Ops))
	for i := range r.Ops {
		result, far, err := now.do(&r.Ops[i])
		if err != nil {
			return p.no(r, err.Kind, i, false)
		}
		results[i], vote.Far = result, append(vote.Far, far...)
	}
	if answers(r.Ops) {
		vote.Results = results
	}
	p.lock(locks, r)
	p.keepPart(before, r, vote, results)
	return vote
}

func (p *participant) lock(locks []rowLock, r *transport.Prepare) {
	for _, l := range locks {
		l.txn, l.start = r.TxnID, r.Start
		p.locks = append(p.locks, l)
	}
}

func (p *participant) keepPart(before *prepared, r *transport.Prepare, vote *transport.PrepareOk, results []transport.OpResult) {
	all := *r
	all.Ops = slices.Concat(before.Ops, r.Ops)
	parts := before.parts
	if parts == nil {
		parts = map[uint32]*transport.PrepareOk{}
	}
	parts[r.Part] = vote
	p.prepared[r.TxnID] = &prepared{&all, time.Now(), parts, slices.Concat(before.results, results), r.Open}
}

// write is a single-shard write. What it refuses for a lock or for the ends elsewhere it does not keep.
func (p *participant) write(id event.TxnID, w *transport.Write) (any, error) {
	if first := p.writes[id]; first != nil {
		if !reflect.DeepEqual(first.ops, w.Ops) {
			return nil, &event.Error{Kind: event.KindIDReused, Message: "another write"}
		}
		if first.err != nil {
			return nil, first.err
		}
		return first.reply, nil
	}
	if p.done[id] {
		return &transport.WriteOk{ResultsOmitted: answers(w.Ops)}, nil
	}
	if p.prepared[id] != nil {
		return nil, &event.Error{Kind: event.KindBusy, Message: "an attempt is in doubt"}
	}
	if l := p.blocked(p.locksOf(w.Ops), id); l != nil {
		return nil, &event.Error{Kind: event.KindLocked, Message: l.row}
	}
	now, reply := p.data.clone(), &transport.WriteOk{Results: make([]transport.OpResult, len(w.Ops))}
	for i := range w.Ops {
		result, far, err := now.do(&w.Ops[i])
		if err != nil {
			e := *err
			e.OpNumber = uint32(i) + 1
			p.writes[id] = &written{ops: w.Ops, err: &e}
			return nil, &e
		}
		if len(far) > 0 {
			return nil, &event.Error{Kind: event.KindNeedsTxn, Message: "an end lives elsewhere"}
		}
		reply.Results[i] = result
	}
	if !answers(w.Ops) {
		reply.Results = nil
	}
	p.data = now
	p.done[id], p.writes[id] = true, &written{ops: w.Ops, reply: reply}
	return reply, nil
}

func (p *participant) finish(f *transport.Finish) (any, error) {
	if p.horizon.Less(f.Horizon) {
		defer func() { p.horizon = f.Horizon }()
	}
	held := p.prepared[f.TxnID]
	mine := held != nil && held.Attempt == f.Attempt
	switch {
	case mine && f.Commit && held.open:
		p.breach("commit of attempt %d of %s, of which a part is missing", f.Attempt, f.TxnID)
		return nil, &event.Error{Kind: event.KindConflict, Message: "a part is missing"}
	case mine && f.Commit:
		if p.done[f.TxnID] {
			p.breach("%s takes effect twice", f.TxnID)
		}
		for i := range held.Ops {
			op := &held.Ops[i]
			if _, _, err := p.data.do(op); err != nil {
				p.breach("%s: %s cannot be committed: %v", f.TxnID, op.Kind, err)
			}
			p.rows[rowOf(*op)]++
		}
		p.done[f.TxnID] = true
		if answers(held.Ops) {
			p.results[attemptKey{f.TxnID, f.Attempt}] = held.results
		}
		p.release(f.TxnID)
	case mine:
		p.refused[attemptKey{f.TxnID, f.Attempt}] = true
		p.release(f.TxnID)
	case f.Commit && !p.done[f.TxnID]:
		p.breach("commit of attempt %d of %s, which is not prepared", f.Attempt, f.TxnID)
		return nil, &event.Error{Kind: event.KindConflict, Message: "not prepared"}
	case !f.Commit:
		p.refused[attemptKey{f.TxnID, f.Attempt}] = true
	}
	return &transport.FinishOk{}, nil
}

func rowOf(op transport.Op) string {
	switch op.Kind {
	case transport.OpLinkIn, transport.OpUnlinkIn, transport.OpUnlinkInType:
		return op.Target
	}
	return op.ID
}

// hold locks a row for a transaction that the test plays.
func (p *participant) hold(row string, by event.TxnID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.locks = append(p.locks, rowLock{row: row, txn: by})
}

// letGo frees a row whoever holds it.
func (p *participant) letGo(row string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.locks = slices.DeleteFunc(p.locks, func(l rowLock) bool { return l.row == row })
}

func (p *participant) release(id event.TxnID) {
	delete(p.prepared, id)
	p.locks = slices.DeleteFunc(p.locks, func(l rowLock) bool { return l.txn == id })
}

// inDoubt lists what is prepared for longer than d.
func (p *participant) inDoubt(d time.Duration) []*prepared {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*prepared
	for _, held := range p.prepared {
		if time.Since(held.since) >= d {
			list = append(list, held)
		}
	}
	slices.SortFunc(list, func(a, b *prepared) int { return bytes.Compare(a.TxnID[:], b.TxnID[:]) })
	return list
}
