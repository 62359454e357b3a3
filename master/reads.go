package master

import (
	"context"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The read modes a reply can state.
const (
	modeLinearizable = "linearizable"
	modeStale        = "stale"
)

// roundLimit is how long a leader may take to confirm itself: far more than a healthy one needs, and short enough that
// readers behind one that hangs soon ask its successor.
const roundLimit = time.Second

// reads serves linearizable reads on any master (safety S7): an index confirmed by the leader after the read began, then the
// state of this master at or behind it.
type reads struct {
	leading *leading
	group   *raftgroup.Group
	view    func() *fsm.State
	rounds  *rounds
}

// State returns a state that holds everything acknowledged before the call, or, with no such state before ctx ends, an error
// of kind unavailable.
func (r *reads) State(ctx context.Context) (*fsm.State, error) {
	ctx, cancel := r.leading.bound(ctx)
	defer cancel()
	index, _, err := r.Index(ctx, 0)
	if err != nil {
		return nil, err
	}
	if err := r.group.Wait(ctx, index); err != nil {
		return nil, unavailable("read", err)
	}
	return r.view(), nil
}

// Index is a linearizable read index and the term in which it was confirmed.
func (r *reads) Index(ctx context.Context, hops uint32) (index, term uint64, err error) {
	err = r.leading.Do(ctx, errand{
		what: "read",
		safe: true,
		local: func(ctx context.Context) (err error) {
			index, term, err = r.group.ReadIndex(ctx)
			return err
		},
		remote: func(ctx context.Context, address string) error {
			if hops >= maxHops {
				return passedOn("read", address)
			}
			ok, err := r.rounds.join(ctx, readRound{address: address, hops: hops + 1})
			index, term = ok.Index, ok.Term
			return err
		},
	})
	if err != nil {
		return 0, 0, unavailable("read", err)
	}
	return index, term, nil
}

// readRound names what readers share: one question to one leader.
type readRound struct {
	address string
	hops    uint32
}

// rounds lets the readers of a follower share questions to the leader. A reader joins only a question that is sent after the
// reader arrived; the next one is sent when the present one is answered.
type rounds struct {
	ask func(ctx context.Context, r readRound) (*transport.ReadIndexOk, error)
	wg  sync.WaitGroup

	mu     sync.Mutex
	next   map[readRound]*round // guarded by mu; gathers readers, not yet sent
	asking map[readRound]bool   // guarded by mu
}

type round struct {
	done chan struct{} // closed when ok and err are set
	ok   transport.ReadIndexOk
	err  error
}

func newRounds(pool *transport.Pool) *rounds {
	ask := func(ctx context.Context, r readRound) (*transport.ReadIndexOk, error) {
		return transport.Call[transport.ReadIndexOk](ctx, pool, r.address, &transport.ReadIndex{Hops: r.hops})
	}
	return &rounds{ask: ask, next: map[readRound]*round{}, asking: map[readRound]bool{}}
}

func (r *rounds) join(ctx context.Context, key readRound) (transport.ReadIndexOk, error) {
	r.mu.Lock()
	mine := r.next[key]
	if mine == nil {
		mine = &round{done: make(chan struct{})}
		r.next[key] = mine
	}
	if !r.asking[key] {
		r.asking[key] = true
		r.wg.Go(func() { r.run(key) })
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.ok, mine.err
	case <-ctx.Done():
		return transport.ReadIndexOk{}, unavailable("read", context.Cause(ctx))
	}
}

// run asks as long as readers are gathered.
func (r *rounds) run(key readRound) {
	for {
		r.mu.Lock()
		cur := r.next[key]
		delete(r.next, key)
		if cur == nil {
			delete(r.asking, key)
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), roundLimit)
		ok, err := r.ask(ctx, key)
		cancel()
		if err == nil {
			cur.ok = *ok
		}
		cur.err = err
		close(cur.done)
	}
}

// wait returns when no question is under way; nobody may join any more.
func (r *rounds) wait() { r.wg.Wait() }
