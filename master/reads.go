package master

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// roundLimit is how long a leader may take to confirm itself: far more than a healthy one needs, and short enough that
// readers behind one that hangs soon ask its successor.
const roundLimit = time.Second

// reads serves reads on any master, in one of three consistencies (transport.Reading). A linearizable one is an index confirmed
// by the leader after the read began (safety S7), one of consistency leader what the leader had applied, and then the state
// of this master at or behind it. A stale one is this master's state if it is young enough.
type reads struct {
	leading *leading
	group   *raftgroup.Group
	view    func() *fsm.State
	changed func() <-chan struct{} // closed when a newer state is published
	rounds  *rounds
}

// sight is a state and how it was read.
type sight struct {
	*fsm.State
	read transport.Read
}

// contract is what an answer from it holds for.
func (s sight) contract() transport.Contract {
	return transport.Contract{Seq: s.Seq(), Epoch: s.ShardMap().Epoch, Read: s.read}
}

// State returns a state that holds everything acknowledged before the call, or, with no such state before ctx ends, an error
// of kind unavailable.
func (r *reads) State(ctx context.Context) (*fsm.State, error) {
	s, err := r.At(ctx, transport.Reading{})
	return s.State, err
}

// At returns a state as fresh as want asks for. The error is of kind too_stale when this master's is too old, and
// unavailable when none could be had before ctx ended.
func (r *reads) At(ctx context.Context, want transport.Reading) (sight, error) {
	if err := want.Validate(); err != nil {
		return sight{}, err
	}
	ctx, cancel := r.leading.bound(ctx)
	defer cancel()
	read := transport.Read{ReadMode: want.Mode()}
	if want.Mode() != transport.Stale && !fault.Broken(fault.FollowerServesLinearizable) {
		index, term, err := r.Index(ctx, indexWanted{unconfirmed: want.Mode() == transport.Leader})
		if err != nil {
			return sight{}, err
		}
		if err := r.group.Wait(ctx, index); err != nil {
			return sight{}, unavailable("read", err)
		}
		read.Term = term
	}
	s, err := r.reached(ctx, want.MinSeq)
	if err != nil || want.Mode() != transport.Stale {
		return sight{s, read}, err
	}
	return r.stale(want.MaxStaleness())
}

// reached waits until this master has applied an event: read your writes, on whichever master answered the write.
func (r *reads) reached(ctx context.Context, seq uint64) (*fsm.State, error) {
	for {
		changed := r.changed()
		s := r.view()
		if s.Seq() >= seq {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &event.Error{Kind: event.KindUnavailable, Op: "read",
				Message: fmt.Sprintf("event %d is not applied here before the deadline, %d is; is the number right?", seq, r.view().Seq())}
		}
	}
}

// stale is the state that is here. Its age is asked before it is taken: the state can only be younger.
func (r *reads) stale(limit time.Duration) (sight, error) {
	age, known := r.group.Age()
	switch {
	case !known && limit > 0:
		return sight{}, &event.Error{Kind: event.KindTooStale, Op: "read", Message: "this master has not heard of a leader since it started, so its state is of unknown age; ask another"}
	case limit > 0 && age > limit:
		return sight{}, &event.Error{Kind: event.KindTooStale, Op: "read", AgeMillis: millisUp(age),
			Message: fmt.Sprintf("the state of this master is %s old, at most %s was asked for; ask another", age.Round(time.Millisecond), limit)}
	}
	return sight{r.view(), transport.Read{ReadMode: transport.Stale, AgeMillis: millisUp(age)}}, nil
}

// millisUp rounds up: an age is a bound.
func millisUp(d time.Duration) uint64 { return uint64((d + time.Millisecond - 1) / time.Millisecond) }

// indexWanted says which index a read needs.
type indexWanted struct {
	hops        uint32 // how often the question was passed on
	unconfirmed bool   // what the leader has applied will do
}

// Index is a read index, and the term in which it was found.
func (r *reads) Index(ctx context.Context, want indexWanted) (index, term uint64, err error) {
	err = r.leading.Do(ctx, errand{
		what: "read",
		safe: true,
		local: func(ctx context.Context) (err error) {
			ask := r.group.ReadIndex
			if want.unconfirmed {
				ask = r.group.LeaderIndex
			}
			index, term, err = ask(ctx)
			return err
		},
		remote: func(ctx context.Context, address string) error {
			if want.hops >= maxHops {
				return passedOn("read", address)
			}
			next := want
			next.hops++
			ok, err := r.rounds.join(ctx, readRound{address, next})
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
	indexWanted
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
		return transport.Call[transport.ReadIndexOk](ctx, pool, r.address, &transport.ReadIndex{Hops: r.hops, Unconfirmed: r.unconfirmed})
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
