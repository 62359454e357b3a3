package master

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// stateDigests answers the leader, which compares all masters' states (safety S9).
func (c *core) stateDigests(r *transport.StateDigests) *transport.StateDigestsOk {
	ok := &transport.StateDigestsOk{Replica: c.founding.Replica, TimeMicros: c.cfg.seams.wall().UnixMicro()}
	for _, check := range c.replica.machine.Checks() {
		if check.Index > r.Above {
			ok.Digests = append(ok.Digests, transport.StateDigest{Index: check.Index, Seq: check.Seq, Chain: check.Chain, Digest: check.Digest, Local: check.Local})
		}
	}
	return ok
}

func checkOf(d transport.StateDigest) fsm.Check {
	return fsm.Check{Index: d.Index, Seq: d.Seq, Chain: d.Chain, Digest: d.Digest, Local: d.Local}
}

// inquiry asks all voters for their digests and clocks.
type inquiry struct {
	self   event.ReplicaID
	voters func() []event.ReplicaID
	local  func(*transport.StateDigests) *transport.StateDigestsOk
	ask    func(ctx context.Context, to event.ReplicaID, r *transport.StateDigests) (*transport.StateDigestsOk, error)
	limit  time.Duration // of one answer
	log    *slog.Logger
}

// voice is one voter's answer.
type voice struct {
	replica event.ReplicaID
	checks  []fsm.Check
	ahead   time.Duration // its wall clock against this one's, right to within half of trip
	trip    time.Duration
}

// All returns the voters and the answers of those that gave one within the limit, this replica's first.
func (q *inquiry) All(ctx context.Context, above uint64) (voters []event.ReplicaID, replies []voice) {
	ctx, cancel := context.WithTimeout(ctx, q.limit)
	defer cancel()
	voters = q.voters()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range voters {
		wg.Go(func() {
			r, err := q.one(ctx, id, above)
			if err != nil {
				q.log.Debug("no digests", "of", string(id), "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			replies = append(replies, r)
		})
	}
	wg.Wait()
	return voters, replies
}

func (q *inquiry) one(ctx context.Context, id event.ReplicaID, above uint64) (voice, error) {
	request := &transport.StateDigests{Above: above}
	before, sent := q.local(request), time.Now()
	ok, trip := before, time.Duration(0)
	if id != q.self {
		var err error
		if ok, err = q.ask(ctx, id, request); err != nil {
			return voice{}, err
		}
		trip = time.Since(sent)
	}
	if ok.Replica != id {
		return voice{}, fmt.Errorf("%s answers", ok.Replica)
	}
	r := voice{replica: id, trip: trip, ahead: time.Duration(ok.TimeMicros-before.TimeMicros)*time.Microsecond - trip/2}
	for _, d := range ok.Digests {
		r.checks = append(r.checks, checkOf(d))
	}
	return r, nil
}

// comparison is what the voters' digests say.
type comparison struct {
	check  fsm.Check         // as a majority of the voters has it; its Index is 0 without one
	agree  []event.ReplicaID // ordered
	differ []event.ReplicaID
	silent int    // voters that have not said
	split  uint64 // entry, behind check, at which those who have said differ and none has a majority; 0: none
}

// compare finds the entry to record: one for which a majority has the same, with as few voters silent as there is, and the
// latest of those.
func compare(voters []event.ReplicaID, replies []voice) comparison {
	var best comparison
	var split uint64
	for _, index := range indexesOf(replies) {
		c := compareAt(index, voters, replies)
		switch {
		case c.check.Index == 0:
			split = max(split, c.split)
		case best.check.Index == 0 || c.silent <= best.silent:
			best = c
		}
	}
	if split > best.check.Index {
		best.split = split // what came later is not settled by what was before
	}
	return best
}

// indexesOf lists the entries that somebody knows, in order.
func indexesOf(replies []voice) []uint64 {
	var all []uint64
	for _, r := range replies {
		for _, c := range r.checks {
			all = append(all, c.Index)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func compareAt(index uint64, voters []event.ReplicaID, replies []voice) comparison {
	having := map[fsm.Check][]event.ReplicaID{}
	said := 0
	for _, r := range replies {
		for _, c := range r.checks {
			if c.Index == index && slices.Contains(voters, r.replica) {
				having[c] = append(having[c], r.replica)
				said++
			}
		}
	}
	out := comparison{silent: len(voters) - said}
	for c, ids := range having {
		if 2*len(ids) > len(voters) {
			out.check, out.agree = c, ids
		}
	}
	if out.check.Index == 0 {
		if len(having) > 1 {
			out.split = index
		}
		return out
	}
	for c, ids := range having {
		if c != out.check {
			out.differ = append(out.differ, ids...)
		}
	}
	slices.Sort(out.agree)
	slices.Sort(out.differ)
	return out
}

// event is what is recorded of a comparison.
func (c comparison) event() event.StateChecked {
	return event.StateChecked{AtIndex: c.check.Index, AtSeq: c.check.Seq, Digest: c.check.Digest, LocalDigest: c.check.Local,
		Agree: c.agree, Differ: c.differ, Chain: c.check.Chain}
}
