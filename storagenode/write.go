package storagenode

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
)

// writing is one single-shard write on its way through the queue and the log.
type writing struct {
	id     event.RequestID
	issued int64
	ops    []transport.Op
	answer engine.Answer
	err    error // the outcome is not an answer of Apply
}

// write commits one write, waiting for locked rows until ctx ends.
func (r *replica) write(ctx context.Context, w *writing) (engine.Answer, error) {
	r.writeAll(ctx, []*writing{w})
	return w.result()
}

// result is the write's answer, or why it was refused, or why nobody knows.
func (w *writing) result() (engine.Answer, error) {
	if w.err == nil && w.answer.Err != nil {
		return w.answer, w.answer.Err
	}
	return w.answer, w.err
}

// writeAll commits writes in order, together: they share as few entries as their size allows. Each has its own answer.
// Those that Apply refuses for a lock wait for it and are proposed again until ctx ends (safety S8).
func (r *replica) writeAll(ctx context.Context, writes []*writing) {
	open := make([]*writing, 0, len(writes))
	for _, w := range writes {
		if w.err = r.mayPropose(ctx, w.command()); w.err == nil {
			open = append(open, w)
		}
	}
	place := r.queue.arrive(rowsOf(open), lock.Holder{})
	defer r.queue.leave(place)
	for len(open) > 0 {
		if err := r.queue.wait(ctx, place); err != nil {
			failAll(open, err)
			return
		}
		r.queue.leave(place)
		r.proposeWrites(ctx, open)
		open = locked(open)
		place.rows = alsoRows(place.rows, open)
	}
}

// alsoRows adds the rows that Apply found locked and that the writes do not name: the other ends of what a delete removes.
func alsoRows(rows []lock.Row, open []*writing) []lock.Row {
	for _, w := range open {
		if w.answer.Row != "" {
			rows = append(rows, lock.Row{ID: w.answer.Row, Mode: lock.Exclusive})
		}
	}
	return lock.Merge(rows)
}

func (w *writing) command() engine.Command {
	return engine.Command{Kind: engine.Write, RequestID: w.id, Issued: w.issued, Write: &transport.Write{Ops: w.ops}}
}

// proposeWrites sends the writes through the log once.
func (r *replica) proposeWrites(ctx context.Context, writes []*writing) {
	commands := make([][]byte, len(writes))
	for i, w := range writes {
		b, err := engine.AppendCommand(nil, w.command())
		if err != nil {
			failAll(writes, fmt.Errorf("encode write %s: %w", w.id, err))
			return
		}
		commands[i] = b
	}
	for i, p := range r.group.ProposeAll(ctx, commands) {
		writes[i].answer, writes[i].err = r.answer(p.Result, p.Err)
	}
}

// locked lists the writes that met a lock. Apply has kept nothing of them.
func locked(writes []*writing) []*writing {
	var out []*writing
	for _, w := range writes {
		if w.err == nil && w.answer.Err != nil && w.answer.Err.Kind == event.KindLocked {
			out = append(out, w)
		}
	}
	return out
}

func failAll(writes []*writing, err error) {
	for _, w := range writes {
		w.err = err
	}
}

// prepare votes. It may wait for rows, by wait-die and for at most prepareWait; the vote itself is always Apply's, so that
// a no is as durable as a yes (safety S4).
func (r *replica) prepare(ctx context.Context, p *transport.Prepare) (engine.Answer, error) {
	if r.masters == nil {
		return engine.Answer{}, &event.Error{Kind: event.KindUnsupported, Message: "this node runs without masters: it takes no part in cross-shard transactions"}
	}
	c := engine.Command{Kind: engine.Prepare, Prepare: p}
	if err := r.mayPropose(ctx, c); err != nil {
		return engine.Answer{}, err
	}
	place := r.queue.arrive(engine.Locks(p.Ops), lock.Holder{Txn: p.TxnID, Attempt: p.Attempt, Start: p.Start})
	defer r.queue.leave(place)
	waiting, cancel := context.WithTimeout(ctx, r.tuning.prepareWait)
	err := r.queue.wait(waiting, place)
	cancel()
	if err != nil && ctx.Err() != nil {
		return engine.Answer{}, err
	}
	r.tuning.point(fault.ShardPrepareBefore)
	defer r.tuning.point(fault.ShardPrepareAfter)
	return r.propose(ctx, c)
}

// finish commits a decision here.
func (r *replica) finish(ctx context.Context, f *transport.Finish) (engine.Answer, error) {
	r.tuning.point(fault.ShardFinishBefore)
	defer r.tuning.point(fault.ShardFinishAfter)
	return r.propose(ctx, engine.Command{Kind: engine.Finish, Finish: f})
}

// propose commits one command; a refusal is an error.
func (r *replica) propose(ctx context.Context, c engine.Command) (engine.Answer, error) {
	b, err := engine.AppendCommand(nil, c)
	if err != nil {
		return engine.Answer{}, fmt.Errorf("encode command: %w", err)
	}
	result, err := r.group.Propose(ctx, b)
	answer, err := r.answer(result, err)
	if err == nil && answer.Err != nil {
		err = answer.Err
	}
	return answer, err
}

// answer is what Apply said, or why nobody knows it.
func (r *replica) answer(result raftgroup.Result, err error) (engine.Answer, error) {
	if err != nil {
		return engine.Answer{}, r.elsewhere(err)
	}
	a, ok := result.Answer.(engine.Answer)
	if !ok {
		return engine.Answer{}, &event.Error{Kind: event.KindInternal, Message: fmt.Sprintf("shard %s answered %T at index %d", r.shard, result.Answer, result.Index)}
	}
	return a, nil
}

// elsewhere turns the group's hint, a replica id, into the node id that callers know.
func (r *replica) elsewhere(err error) error {
	var e *event.Error
	if !errors.As(err, &e) || e.Kind != event.KindNotLeader || e.Leader == "" {
		return err
	}
	moved := *e
	moved.Leader = event.ReplicaID(e.Leader).Owner()
	return &moved
}

// rowsOf lists the rows that the writes lock here.
func rowsOf(writes []*writing) []lock.Row {
	if len(writes) == 1 {
		return engine.Locks(writes[0].ops)
	}
	var rows []lock.Row
	for _, w := range writes {
		rows = append(rows, engine.Locks(w.ops)...)
	}
	return lock.Merge(rows)
}
