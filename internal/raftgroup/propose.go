package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// enqueueTimeout is how long raft's main loop may take to accept an entry before its commands are given back undone. The loop
// waits for the state machine, which under a bulk load may wait for its store for seconds: that is back-pressure, and no
// reason to fail. A disk that hangs ends the process before.
const enqueueTimeout = 5 * time.Second

// errNotAnswered: raft answered an entry with something that is not the FSM's answers.
var errNotAnswered = errors.New("the state machine stopped before it answered")

// Proposal is what became of one command of ProposeAll: a Result, or Propose's error.
type Proposal struct {
	Result Result
	Err    error
}

// Propose puts a command into the log and returns the FSM's answer to it. Commands that wait at the same time share an
// entry, without added delay; when the queue is full, Propose waits. An error of kind not_leader, unavailable or too_large
// means that the command surely is not in the log; unknown_outcome, that it may be. Only a leader whose barrier has been
// applied takes commands; one that has just been elected lets them wait.
func (g *Group) Propose(ctx context.Context, command []byte) (Result, error) {
	p := g.propose(ctx, false, [][]byte{command})[0]
	return p.Result, p.Err
}

// ProposeTelemetry is Propose for a command that may wait up to 100 ms for others to share its entry with.
func (g *Group) ProposeTelemetry(ctx context.Context, command []byte) (Result, error) {
	p := g.propose(ctx, true, [][]byte{command})[0]
	return p.Result, p.Err
}

// ProposeAll is Propose for several commands at once. Those that reach the log are there in their order, in as few entries
// as the bounds allow. Each has its own outcome.
func (g *Group) ProposeAll(ctx context.Context, commands [][]byte) []Proposal {
	if len(commands) == 0 {
		return nil
	}
	return g.propose(ctx, false, commands)
}

// ProposeAllTelemetry is ProposeAll for commands that may wait up to 100 ms for others to share their entry with.
func (g *Group) ProposeAllTelemetry(ctx context.Context, commands [][]byte) []Proposal {
	if len(commands) == 0 {
		return nil
	}
	return g.propose(ctx, true, commands)
}

func (g *Group) propose(ctx context.Context, lazy bool, commands [][]byte) []Proposal {
	out := make([]Proposal, len(commands))
	ps, err := g.admit(ctx, commands)
	if err != nil {
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	fits := make([]*proposal, 0, len(ps))
	for _, p := range ps {
		if len(p.command) <= MaxCommandBytes {
			fits = append(fits, p)
			continue
		}
		p.taken = true
		p.resolve(Result{}, &event.Error{Kind: event.KindTooLarge, Op: "propose", Message: fmt.Sprintf("a command of %d bytes; the limit is %d", len(p.command), MaxCommandBytes)})
	}
	g.intake.queue.add(lazy, fits...)
	g.sweepIfClosed()
	for i, p := range ps {
		out[i].Result, out[i].Err = g.outcome(ctx, p)
	}
	return out
}

// admit waits until this replica leads and the queue has room.
func (g *Group) admit(ctx context.Context, commands [][]byte) ([]*proposal, error) {
	const op = "propose"
	if _, err := g.tenureFor(ctx, op); err != nil {
		return nil, err
	}
	t := &ticket{room: g.intake.room, weight: weigh(commands)}
	if !g.intake.room.TryAcquire(t.weight) {
		both, cancel := joined(ctx, g.open)
		defer cancel()
		if err := g.intake.room.Acquire(both, t.weight); err != nil {
			return nil, g.unavailable(op, context.Cause(both))
		}
	}
	t.left.Store(int64(len(commands)))
	now := time.Now()
	ps := make([]*proposal, len(commands))
	for i, c := range commands {
		ps[i] = &proposal{command: c, since: now, ticket: t, done: make(chan struct{})}
	}
	return ps, nil
}

// outcome waits for a proposal to be settled. Every proposal is, at the latest when the group stops; a caller that leaves
// first takes it back if it can.
func (g *Group) outcome(ctx context.Context, p *proposal) (Result, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
	}
	if g.intake.queue.withdraw(p) {
		p.resolve(Result{}, g.unavailable("propose", context.Cause(ctx)))
		return p.result, p.err
	}
	select {
	case <-p.done: // both at once
		return p.result, p.err
	default:
		return Result{}, &event.Error{Kind: event.KindUnknownOutcome, Op: "propose",
			Message: fmt.Sprintf("the command is on its way into the log of %s: %v", g.cfg.GroupID, context.Cause(ctx))}
	}
}

// runProposer puts what waits into entries, as long as the group is open.
func (g *Group) runProposer() {
	defer g.sweepIfClosed()
	for {
		select {
		case g.intake.slots <- struct{}{}:
		case <-g.open.Done():
			return
		}
		batch := g.intake.queue.next(g.open.Done())
		if batch == nil {
			<-g.intake.slots
			return
		}
		if err := g.intake.flights.Acquire(g.open, 1); err != nil {
			<-g.intake.slots
			for _, p := range batch {
				p.resolve(Result{}, g.unavailable("propose", context.Cause(g.open)))
			}
			return
		}
		g.submit(batch)
	}
}

// sweepIfClosed settles what nobody will put into an entry any more.
func (g *Group) sweepIfClosed() {
	if g.open.Err() == nil {
		return
	}
	for _, p := range g.intake.queue.drain() {
		p.resolve(Result{}, g.unavailable("propose", context.Cause(g.open)))
	}
}

// submit hands one entry to raft, in the caller's order, and lets another goroutine wait for it. The slot is given back
// when the entry is settled, and so is the flight.
func (g *Group) submit(batch []*proposal) {
	commands := make([][]byte, len(batch))
	for i, p := range batch {
		commands[i] = p.command
	}
	f := g.raft.ApplyLog(raft.Log{Data: g.stamped(commands)}, enqueueTimeout)
	g.wg.Go(func() {
		defer func() { <-g.intake.slots }()
		defer g.intake.flights.Release(1)
		g.settle(batch, f, await(f, g.alive))
	})
}

// stamped encodes an entry with the time of now, or of the latest entry if that is ahead.
func (g *Group) stamped(commands [][]byte) []byte {
	now := g.cfg.Now().UnixMicro()
	for {
		last := g.intake.lastStamp.Load()
		stamp := max(now, last, g.machine.lastTime.Load())
		if g.intake.lastStamp.CompareAndSwap(last, stamp) {
			return appendEntry(nil, g.cfg.GroupID, Entry{Version: entryVersion, Level: g.cfg.Level(), Time: stamp, Commands: commands})
		}
	}
}

// settle tells each proposal of an entry what became of it.
func (g *Group) settle(batch []*proposal, f raft.ApplyFuture, err error) {
	if err == nil {
		r, ok := f.Response().(response)
		if ok && len(r.answers) == len(batch) {
			for i, p := range batch {
				p.resolve(Result{Index: f.Index(), Term: r.term, Answer: r.answers[i]}, nil)
			}
			return
		}
		err = errNotAnswered
	}
	for _, p := range batch {
		p.resolve(Result{}, g.notCommitted(err))
	}
}
