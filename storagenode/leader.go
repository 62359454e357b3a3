package storagenode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// askTimeout bounds one inquiry; the masters answer it with a decision, which takes a commit.
	askTimeout = 5 * time.Second
	// askEach is how long one master may take over it. Locks are 2 s old then, and may not become older than 5 s: there is time for two
	// masters that are silent, and for the third.
	askEach = time.Second
	// askAgain is the pause after an inquiry that got no answer, and after a report that was put off.
	askAgain = 500 * time.Millisecond
	// lookSpacing is the least time between two looks at the prepared attempts: new ones fall due seconds later.
	lookSpacing = 50 * time.Millisecond
	// maxAsking bounds the inquiries of one shard at once; a dead coordinator may leave thousands of attempts.
	maxAsking = 64
)

// lead is a leader's work for one term; its context ends with the term. Alone there is nobody to report to and nothing
// can be prepared.
func (r *replica) lead(ctx context.Context, term uint64) {
	select {
	case <-r.opened:
	case <-ctx.Done():
		return
	}
	defer r.gate.shut()
	if r.masters == nil {
		if _, err := r.raise(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("the log's level is not raised", "error", err)
		}
		<-ctx.Done()
		return
	}
	var g errgroup.Group
	g.Go(func() error { r.report(ctx, term); return nil })
	g.Go(func() error { r.settle(ctx); return nil })
	g.Go(func() error { r.tend(ctx); return nil })
	g.Go(func() error { r.spread(ctx); return nil })
	_ = g.Wait() // none returns an error: all end with the term
}

// report tells the masters who leads, until they have it or have a higher term (safety S29).
func (r *replica) report(ctx context.Context, term uint64) {
	req, err := r.leaderChanged(term)
	if err != nil {
		r.log.Error("encode leadership report", "term", term, "error", err)
		return
	}
	for {
		_, err := r.masters.Call(ctx, req)
		switch {
		case err == nil:
			return
		case errors.Is(err, &event.Error{Kind: event.KindConflict}):
			r.log.Debug("leadership report superseded", "term", term, "error", err)
			return
		case ctx.Err() != nil:
			return
		}
		r.log.Warn("leadership report put off", "term", term, "error", err)
		if pause(ctx, askAgain) != nil {
			return
		}
	}
}

func (r *replica) leaderChanged(term uint64) (*transport.Propose, error) {
	owner := event.NodeID(r.id.Owner())
	return proposal(owner, event.ShardLeaderChanged{ShardID: r.shard, NodeID: owner, Term: term})
}

// pause waits d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settle resolves the attempts that stay prepared (safety S8): it looks at them when the next one falls due and, at most
// every lookSpacing, when new ones have come.
func (r *replica) settle(ctx context.Context) {
	var g errgroup.Group
	defer func() { _ = g.Wait() }() // the inquiries end with ctx; they report for themselves
	answered := make(chan attempt)
	d := newDoubts(r.tuning.inDoubtAfter, askAgain)
	look := newAlarm()
	defer look.stop()
	look.within(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
			look.within(lookSpacing)
			continue
		case key := <-answered:
			d.answered(time.Now(), key)
			look.within(lookSpacing)
			continue
		case <-look.C:
			look.rang()
		}
		due, next := d.observe(time.Now(), r.engine.Prepared())
		if fault.Broken(fault.InDoubtNeverResolved) {
			continue
		}
		for _, p := range due {
			g.Go(func() error { r.settleOne(ctx, p, answered); return nil })
		}
		if next > 0 {
			look.within(next)
		}
	}
}

func (r *replica) settleOne(ctx context.Context, p engine.Prepared, answered chan<- attempt) {
	if err := r.resolve(ctx, p); err != nil && ctx.Err() == nil {
		r.log.Warn("in doubt", "txn", p.TxnID.String(), "attempt", p.Attempt, "coordinator", string(p.Coordinator), "error", err)
	}
	select {
	case answered <- attempt{p.TxnID, p.Attempt}:
	case <-ctx.Done():
	}
}

// inquire asks one master after the other how p ended.
func (r *replica) inquire(ctx context.Context, p engine.Prepared) (*transport.TxnOutcomeOk, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	question := &transport.TxnOutcome{TxnID: p.TxnID, Attempt: p.Attempt, Begin: p.Begin, Shards: p.Participants}
	for {
		one, cancel := context.WithTimeout(ctx, askEach)
		outcome, err := transport.As[transport.TxnOutcomeOk](r.masters.Call(one, question))
		silent := one.Err() != nil
		cancel()
		if err == nil || !silent || ctx.Err() != nil {
			return outcome, err
		}
	}
}

// resolve asks any master how p ended and commits the answer here.
func (r *replica) resolve(ctx context.Context, p engine.Prepared) error {
	r.tuning.point(fault.ShardInquiryBefore)
	outcome, err := r.inquire(ctx, p)
	if fault.Broken(fault.ParticipantAbortsPrepared) {
		outcome, err = &transport.TxnOutcomeOk{}, nil
	}
	if err != nil {
		return fmt.Errorf("ask the masters for its outcome: %w", err)
	}
	r.tuning.point(fault.ShardInquiryAfter)
	r.log.Info("settled by inquiry", "txn", p.TxnID.String(), "attempt", p.Attempt, "committed", outcome.Committed)
	_, err = r.finish(ctx, &transport.Finish{
		TxnID: p.TxnID, Attempt: p.Attempt, Begin: p.Begin, Commit: outcome.Committed, Horizon: outcome.Horizon,
	})
	return err
}
