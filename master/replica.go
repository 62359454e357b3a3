package master

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/master/feed"
)

// replica is the state machine as the raft group drives it: the state and, beside it, the outbox. The group calls Apply,
// Snapshot and Restore from one goroutine; the rest may be called by any.
type replica struct {
	machine *fsm.Machine
	outbox  *feed.Outbox
	fatal   func(error) // told once why this replica cannot go on
	log     *slog.Logger

	applied signal // a newer state is published
	mapped  signal // its shard map is newer
	fleet   signal // its agents, nodes or shards changed

	differ func(event.StateChecked) // Apply's: told that this state does not pass a comparison of the log

	settled bool  // Apply's: the outbox holds nothing above the state
	failed  error // Apply's: nothing is applied or snapshotted any more
}

// View is the applied state.
func (r *replica) View() *fsm.State { return r.machine.View() }

// Changed is closed when a newer state is published.
func (r *replica) Changed() <-chan struct{} { return r.applied.Changed() }

// Apply implements raftgroup.FSM: the events of the entries are in the outbox before an answer leaves here. The outbox is not
// synced, because the log is its journal. After a failure nothing is applied any more.
func (r *replica) Apply(entries []raftgroup.Entry) [][]any {
	answers, err := r.apply(entries)
	if err != nil {
		r.fail(err)
		return nil
	}
	out := make([][]any, len(answers))
	for i, entry := range answers {
		out[i] = make([]any, len(entry))
		for j, a := range entry {
			out[i][j] = a
		}
	}
	return out
}

func (r *replica) apply(entries []raftgroup.Entry) ([][]fsm.Answer, error) {
	if r.failed != nil || len(entries) == 0 {
		return nil, r.failed
	}
	before := r.machine.View()
	if !r.settled {
		if err := r.outbox.DropAbove(before.Seq()); err != nil {
			return nil, err
		}
		r.settled = true
	}
	batch := make([]fsm.Entry, len(entries))
	for i, e := range entries {
		batch[i] = fsm.Entry{Meta: fsm.EntryMeta{Index: e.Index, Time: e.Time, Level: e.Level}, Commands: e.Commands}
		if fault.Broken(fault.ImpureApply) {
			batch[i].Meta.Time = time.Now().UnixMicro()
		}
	}
	answers, records, err := r.machine.ApplyBatch(batch)
	if err != nil {
		return nil, err
	}
	if err := r.outbox.Append(entries[len(entries)-1].Index, records); err != nil {
		return nil, err
	}
	after := r.machine.View()
	if fault.Broken(fault.OutboxTrimmedBeforeAck) {
		if err := r.outbox.Trim(after.Seq()); err != nil {
			return nil, err
		}
	}
	if through, some := ackedByAll(after); some {
		if was, _ := ackedByAll(before); through > was {
			if err := r.outbox.Trim(through); err != nil {
				return nil, err
			}
		}
	}
	if check := r.machine.Differs(); check != nil {
		r.differ(*check)
	}
	r.notify(before, after, records)
	return answers, nil
}

func (r *replica) notify(before, after *fsm.State, records []fsm.Record) {
	r.applied.Broadcast()
	if before.ShardMap() != after.ShardMap() {
		r.mapped.Broadcast()
	}
	for _, rec := range records {
		if movesFleet(rec.Type) {
			r.fleet.Broadcast()
			return
		}
	}
}

// movesFleet tells whether events of a type can change what runs where: all lifecycle events and those of shards, which have
// the codes below those of transactions.
func movesFleet(t event.Type) bool {
	return t < event.TypeTxnCommitted && t != event.TypeAgentHeartbeat
}

func (r *replica) fail(err error) {
	if r.failed == nil {
		r.failed = fmt.Errorf("this master cannot apply its log: %w", err)
		r.fatal(r.failed)
	}
}

// Snapshot implements raftgroup.FSM: the state and the outbox behind the same entry.
func (r *replica) Snapshot() (raftgroup.Snapshot, error) {
	if r.failed != nil {
		return nil, r.failed
	}
	if check := r.machine.Differs(); check != nil {
		return nil, fmt.Errorf("take a snapshot: at entry %d the state differs from that of %v", check.AtIndex, check.Agree)
	}
	state := r.machine.View()
	through, _ := ackedByAll(state)
	if fault.Broken(fault.OutboxNotInSnapshot) {
		through = math.MaxUint64
	}
	return &replicaSnapshot{state: state, outbox: r.outbox.Snapshot(), above: through, log: r.log}, nil
}

// replicaSnapshot streams the state in sections, so that its reader cannot run into the outbox that follows.
type replicaSnapshot struct {
	state  *fsm.State
	outbox *feed.Snapshot
	above  uint64 // every sink holds the events through here
	log    *slog.Logger
}

// Write implements raftgroup.Snapshot. When it returns, what the log has of the outbox may be truncated: it is durable there.
func (s *replicaSnapshot) Write(w io.Writer) error {
	section := disk.NewSectionWriter(w)
	if _, err := s.state.WriteTo(section); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if err := section.Close(); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return s.outbox.Stream(w, s.above)
}

// Release implements raftgroup.Snapshot.
func (s *replicaSnapshot) Release() {
	if err := s.outbox.Close(); err != nil {
		s.log.Warn("snapshot of the outbox not released", "err", err)
	}
}

// Restore implements raftgroup.FSM. The state is read whole before anything is replaced, and the outbox replaces its content
// in one step, so a failure leaves both as they were.
func (r *replica) Restore(from io.Reader) error {
	section := disk.NewSectionReader(from)
	state, err := fsm.ReadState(section)
	if err == nil {
		err = section.SkipRest()
	}
	if err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	if err := r.machine.Supports(state); err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	if err := r.outbox.Restore(from); err != nil {
		return err
	}
	if last := r.outbox.Last(); last != state.Seq() {
		err := fmt.Errorf("restore: the state is at event %d, its outbox at %d", state.Seq(), last)
		r.fail(err)
		return err
	}
	if err := r.machine.Restore(state); err != nil {
		return err
	}
	r.settled = true
	r.applied.Broadcast()
	r.mapped.Broadcast()
	r.fleet.Broadcast()
	return nil
}

// answerOf takes an answer out of a raft result.
func answerOf(result raftgroup.Result) (fsm.Answer, error) {
	answer, ok := result.Answer.(fsm.Answer)
	switch {
	case !ok:
		return fsm.Answer{}, &event.Error{Kind: event.KindUnknownOutcome, Op: "propose", Message: fmt.Sprintf("entry %d was answered with %T", result.Index, result.Answer)}
	case answer.Err != nil && outcomeOf(answer.Err) == outcomeNotDone:
		return fsm.Answer{}, answer.Err // the grid has not started: what a retry meets differently is no answer
	}
	return answer, nil
}
