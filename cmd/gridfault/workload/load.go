package workload

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// How long clients wait.
const (
	attemptLimit = 3 * time.Second  // of one attempt at a transaction
	patience     = 10 * time.Second // before a client gives up on an outcome
	ordinary     = 10               // clients, unless something else is wanted
)

// load is the clients of a workload.
type load struct {
	env     Env
	id      string // of the workload
	name    string // of this run
	tally   *Tally
	clients []*user

	numbers atomic.Int64  // the last one given to a client
	unique  atomic.Uint64 // the last one given to something that must be told from all others
	sent    atomic.Int64  // requests
}

// newLoad makes clients that have not dialled anybody.
func newLoad(env Env, id string) *load {
	env.Clients = cmp.Or(env.Clients, ordinary)
	env.ReadTimeout = cmp.Or(env.ReadTimeout, 25*time.Second)
	l := &load{env: env, id: id, tally: env.Tally}
	if l.tally == nil {
		l.tally = &Tally{}
	}
	sum := fnv.New64a()
	fmt.Fprint(sum, id, env.Seed, time.Now().UnixNano()) // never fails
	l.name = base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(binary.BigEndian.AppendUint64(nil, sum.Sum64()))[:8]
	for i := range env.Clients {
		l.clients = append(l.clients, l.user(i))
	}
	return l
}

// user makes the client of an index.
func (l *load) user(index int) *user {
	host := l.env.Grid.Network(fmt.Sprintf("client-%d", index))
	u := &user{load: l, index: index, number: int(l.numbers.Add(1)), rng: rand.New(rand.NewPCG(l.env.Seed, sumOf(l.name)+uint64(index)))}
	masters := l.env.Grid.Layout().Masters
	for k := range masters { // each begins elsewhere
		u.masters = append(u.masters, masters[(index+k)%len(masters)].Address)
	}
	u.pool = transport.NewPool(transport.PoolConfig{Network: host})
	if index%2 == 0 {
		if u.lib, u.broken = client.New(client.Config{Masters: u.masters, Network: host}); u.broken != nil {
			u.lib = nil
		}
	}
	return u
}

func sumOf(text string) uint64 {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(text)) // never fails
	return sum.Sum64()
}

// Tally implements Workload.
func (l *load) Tally() *Tally { return l.tally }

// Leaves implements Workload: the ids of concepts begin with the workload's and the run's name.
func (l *load) Leaves() []string {
	return []string{fmt.Sprintf("concepts %s.%s.*", strings.ToLower(l.id), l.name)}
}

// Close implements Workload.
func (l *load) Close() error {
	var errs []error
	for _, u := range l.clients {
		if u.lib != nil {
			errs = append(errs, u.lib.Close())
		}
		errs = append(errs, u.pool.Close())
	}
	return errors.Join(errs...)
}

// announce writes into the history which workload it is of, and what its checkers must know.
func (l *load) announce(params any) error {
	for _, u := range l.clients {
		if u.broken != nil {
			return fmt.Errorf("client %d: %w", u.index, u.broken)
		}
	}
	l.env.History.Note(noteWorkload, l.id)
	l.env.History.Note(l.id, params)
	return nil
}

// settled writes into the history how many requests it must have.
func (l *load) settled() {
	l.env.History.Note(noteRequests, l.sent.Load())
}

// next is a name that nothing else in the run has.
func (l *load) next() string { return fmt.Sprintf("%x", l.unique.Add(1)) }

// each lets every client take one step after the other, at their rate, until ctx ends.
func (l *load) each(ctx context.Context, step func(ctx context.Context, u *user) history.Outcome) {
	var wg sync.WaitGroup
	for _, u := range l.clients {
		wg.Go(func() {
			for due := time.Now(); ctx.Err() == nil; {
				rest := time.Duration(0)
				if step(ctx, u) != history.OK {
					rest = time.Duration(20+u.rng.IntN(60)) * time.Millisecond
				}
				if l.env.Rate > 0 {
					mean := float64(len(l.clients)) / l.env.Rate * float64(time.Second)
					due = due.Add(time.Duration(mean * (0.5 + u.rng.Float64())))
				}
				if late := time.Since(due); late > time.Second { // what was missed is not made up for
					due = due.Add(late)
				}
				wait(ctx, max(rest, time.Until(due)))
			}
		})
	}
	wg.Wait()
}

// wait returns after a time, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// user is one client: it has one request under way at a time.
type user struct {
	*load
	index   int
	number  int // in the history; another one behind each outcome that stays unknown
	rng     *rand.Rand
	masters []string // addresses; the first is its own
	pool    *transport.Pool
	lib     *client.Client // nil: it asks the masters itself
	broken  error          // why it could not be made
	turn    int            // of the masters

	seen map[string]uint64 // W1: versions of settings
	kind event.Kind        // of the error that ask met last
}

// requestID makes one; no other run has it.
func (u *user) requestID() (id event.RequestID) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], u.rng.Uint64())
	}
	return id
}

// told is how a transaction ended.
type told struct {
	history.Outcome
	ok     *transport.TxnOk // OK
	failed int              // Fail: 1 + index of the operation that did not hold, as far as it was one
}

// txn sends a transaction under one request id until its outcome is known, or the client's patience ends, and records it.
func (u *user) txn(ctx context.Context, ops []transport.Op) told {
	t := &transport.Txn{RequestID: u.requestID(), Issued: time.Now().UnixMicro(), TimeoutMillis: uint32(attemptLimit.Milliseconds()), Ops: ops}
	return u.insist(ctx, t, func() (*transport.TxnOk, error) { return transport.As[transport.TxnOk](u.attempt(ctx, t)) })
}

// neighbors reads a list without a transaction, and records it as one of that read alone: what a plain read promises is no less.
func (u *user) neighbors(ctx context.Context, id string) told {
	t := &transport.Txn{RequestID: u.requestID(), Ops: []transport.Op{{Kind: transport.OpReadNeighbors, ID: id}}}
	return u.insist(ctx, t, func() (*transport.TxnOk, error) {
		ok, err := transport.As[transport.GetNeighborsOk](u.attempt(ctx, &transport.GetNeighbors{ConceptID: id}))
		if err != nil {
			return nil, err
		}
		return &transport.TxnOk{Results: []transport.OpResult{{Neighbors: ok.NeighborIDs}}}, nil
	})
}

// insist makes attempts at a transaction until its outcome is known, or the client's patience ends, and records it.
func (u *user) insist(ctx context.Context, t *transport.Txn, attempt func() (*transport.TxnOk, error)) told {
	call := u.begin(func(r *history.Recorder) uint64 { return r.InvokeTxn(u.number, t) })
	var attempts history.Attempts
	for begun := time.Now(); ; {
		ok, err := attempt()
		switch outcome := attempts.Add(err); outcome {
		case history.OK:
			u.end(call, outcome, func(r *history.Recorder) { r.Committed(call, ok) })
			return told{Outcome: outcome, ok: ok}
		case history.Fail:
			failed := history.FailedOp(err)
			u.end(call, outcome, func(r *history.Recorder) { r.Fail(call, failed, err.Error()) })
			return told{Outcome: outcome, failed: failed}
		}
		if time.Since(begun) > patience {
			return told{Outcome: u.lost(call, err)}
		}
		wait(context.WithoutCancel(ctx), time.Duration(20+u.rng.IntN(80))*time.Millisecond)
	}
}

// attempt sends a request once: through the library, which may send it more often, or to the next master. Whoever stops the load
// does not cut it short.
func (u *user) attempt(ctx context.Context, req any) (any, error) {
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptLimit+time.Second)
	defer cancel()
	if u.lib != nil {
		return u.lib.Do(one, req)
	}
	u.turn++
	return u.pool.Call(one, u.masters[u.turn%len(u.masters)], req)
}

// begin records that a request is about to be sent; 0: it is not recorded.
func (u *user) begin(invoke func(*history.Recorder) uint64) (call uint64) {
	n := u.sent.Add(1)
	if u.env.Broken == EmptyHistory || u.env.Broken == DropsHistory && n%1000 == 500 {
		return 0
	}
	return invoke(u.env.History)
}

// end records how a request ended.
func (u *user) end(call uint64, o history.Outcome, tell func(*history.Recorder)) {
	if u.tally.Add(o); call > 0 {
		tell(u.env.History)
	}
}

// lost records that nobody knows. The client goes on as somebody else: what it sent may take effect while it does something else.
func (u *user) lost(call uint64, err error) history.Outcome {
	u.end(call, history.Unknown, func(r *history.Recorder) {
		if u.env.Broken == UnknownAsFail {
			r.Fail(call, 0, err.Error())
		} else {
			r.Unknown(call, err.Error())
		}
	})
	u.number = int(u.numbers.Add(1))
	return history.Unknown
}

// must executes reads again and again, each time as a new transaction, until they are committed; an error is that ctx ended before.
func (u *user) must(ctx context.Context, ops []transport.Op) (*transport.TxnOk, error) {
	for {
		said := u.txn(ctx, ops)
		if said.Outcome == history.OK {
			return said.ok, nil
		}
		if err := u.again(ctx, ops); err != nil {
			return nil, err
		}
	}
}

// once creates concepts, of which the first is not there yet, exactly once: an attempt of unknown end that takes effect late would find it
// there, and so does the next attempt if one has.
func (u *user) once(ctx context.Context, ops []transport.Op) error {
	ops = append([]transport.Op{{Kind: transport.OpAbsent, ID: ops[0].ID}}, ops...)
	for {
		if said := u.txn(ctx, ops); said.Outcome == history.OK || said.failed == 1 {
			return nil
		}
		if err := u.again(ctx, ops); err != nil {
			return err
		}
	}
}

// again waits before the next attempt; an error is that ctx has ended.
func (u *user) again(ctx context.Context, ops []transport.Op) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s, and %d operations more, could not be done: %w", ops[0].Kind, ops[0].ID, len(ops)-1, context.Cause(ctx))
	}
	wait(ctx, time.Duration(50+u.rng.IntN(100))*time.Millisecond)
	return nil
}

// noteText is a note that is a text.
func noteText(n history.Note) (text string, err error) {
	if err := json.Unmarshal(n.Value, &text); err != nil {
		return "", fmt.Errorf("note %s: %w", n.Name, err)
	}
	return text, nil
}
