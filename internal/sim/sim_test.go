package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// result is what a run has shown.
type result struct {
	losses, acked, open, failed, events, equal int
	snapshots                                  int // sent by a leader and installed
	reads                                      int64
	virtual                                    time.Duration
	shards                                     shardResult

	faults []error
	story  string // of the failure
}

func (r result) String() string {
	text := fmt.Sprintf("%d leaders lost, %d commands acknowledged, %d open, %d not done, %d reads, %d events, %d states equal, %d snapshots installed, %s of virtual time",
		r.losses, r.acked, r.open, r.failed, r.reads, r.events, r.equal, r.snapshots, r.virtual.Round(time.Second))
	if r.shards.reads > 0 {
		text += "; " + r.shards.String()
	}
	return text
}

func (r *result) add(o result) {
	r.losses, r.acked, r.open, r.failed = r.losses+o.losses, r.acked+o.acked, r.open+o.open, r.failed+o.failed
	r.events, r.equal, r.reads, r.virtual = r.events+o.events, r.equal+o.equal, r.reads+o.reads, r.virtual+o.virtual
	r.snapshots += o.snapshots
	r.shards.add(o.shards)
}

// run is one grid that goes through a plan.
type run struct {
	*world
	load   *load
	shards *shardLoad // nil: there are none
	stored uint64     // event storage was compared up to here
	losses int
}

// simulate runs a scenario in a bubble of its own, up to the first promise that is broken.
func simulate(t *testing.T, s scenario) (out result) {
	t.Helper()
	steps := s.steps
	if steps == nil {
		steps = plan(s.seed, s.losses)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := &run{world: newWorld(t, s)}
		defer r.world.close()
		var addrs []string
		if s.front != nil {
			var end func()
			addrs, end = s.front(r.world)
			defer end()
		}
		r.load = r.startLoad(addrs...)
		defer r.load.close()
		if s.estates > 0 {
			r.fault(r.revive()) // formed
			r.shards = r.startShardLoad()
			defer r.shards.close()
		}
		for i, step := range steps {
			if err := r.take(step); err != nil {
				r.faultf("%s: %w", step, err)
			}
			last := i == len(steps)-1
			if last && len(r.broken()) == 0 {
				for _, h := range r.homesteads {
					r.fault(h.reported())
				}
			}
			if (last || i%8 == 7) && len(r.broken()) == 0 {
				r.settle()
			}
			if len(r.broken()) > 0 {
				r.autopsy()
				out.faults = r.broken()
				out.story = fmt.Sprintf("seed %d, %d masters, failed at step %d of\n%slast lines of the logs:\n%s", s.seed, s.masters, i+1, listing(steps), r.tap.tail())
				break
			}
		}
		out.losses, out.reads, out.events = r.losses, r.reads.Load(), int(r.ledger.length())
		out.equal, out.virtual = r.states.compared(), time.Since(began)
		out.snapshots = r.tap.installed()
		out.open, out.acked, out.failed = r.ledger.counts()
		out.shards = r.shards.result()
	})
	return out
}

// sound fails the test for every promise that was broken, and says how to see it again.
func (r result) sound(t *testing.T, s scenario) {
	t.Helper()
	for _, err := range r.faults {
		t.Error(err)
	}
	if len(r.faults) > 0 {
		t.Fatalf("again: GRID_SIM_SEED=%d go test -count=1 -run '%s' ./internal/sim\n%s", s.seed, t.Name(), r.story)
	}
	if r.losses != s.losses || r.acked < 20*(s.losses+1) || r.reads < int64(s.losses) || r.equal < s.losses {
		t.Errorf("too little happened to prove anything: %s", r)
	}
	t.Log(r)
}

// take does one step under load.
func (r *run) take(s step) error {
	dice := rand.New(rand.NewPCG(s.dice, 2))
	leader, term, err := r.leader(0)
	if err != nil {
		return err
	}
	s.fault.do(r.world, leader, dice)
	if s.fault.leader {
		if _, _, err := r.leader(term); err != nil {
			return fmt.Errorf("nobody leads in place of %s: %w", leader, err)
		}
		r.losses++
	}
	time.Sleep(s.hold)
	r.heal()
	r.restart()
	if r.shards != nil {
		if err := r.revive(); err != nil {
			return err
		}
	}
	time.Sleep(s.rest)
	return nil
}

// settle lets the clients stop and the grid come to rest, and compares everything with everything.
func (r *run) settle() {
	resume := r.load.pause()
	defer resume()
	if r.shards != nil {
		resume := r.shards.pause()
		defer resume()
		r.shards.settled()
	}
	through := r.newest()
	r.fault(r.shipped(through)) // and so all have caught up: nobody is about to be sent a snapshot
	complete := slices.SortedStableFunc(slices.Values(r.running()), func(a, b event.MasterID) int {
		return cmp.Compare(r.member(a).Oldest(), r.member(b).Oldest())
	})
	for _, id := range complete {
		r.fault(r.readFeed(id, through))
	}
	for _, two := range r.tap.twoLeaders() {
		r.faultf("two leaders in %s", two)
	}
	if len(r.broken()) > 0 {
		return
	}
	r.watched(through)
	r.fault(r.checkStorage(r.stored+1, through))
	r.stored = through
	for _, err := range r.ledger.check() {
		r.fault(err)
	}
}

// newest is the last event of all: while no command is under way, everything acknowledged is at or before it.
func (r *run) newest() uint64 {
	seq := r.ledger.told()
	for _, id := range r.running() {
		seq = max(seq, r.member(id).View().Seq())
	}
	return seq
}

// autopsy says what else can be said when a promise was broken: what one replica's feed, read whole, shows of the claims.
func (r *run) autopsy() {
	resume := r.load.pause()
	defer resume()
	through := r.newest()
	for _, id := range r.running() {
		if r.readFeed(id, through) != nil {
			continue // another one may be able to tell
		}
		for _, err := range r.ledger.check() {
			r.fault(err)
		}
		return
	}
}

// seed is GRID_SIM_SEED or the usual one.
func seed(t *testing.T, usual uint64) uint64 {
	t.Helper()
	return uint64(number(t, "GRID_SIM_SEED", int(usual)))
}

func number(t *testing.T, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%s: %v", variable, s, err)
	}
	return n
}

func TestThreeMasters(t *testing.T) {
	s := scenario{seed: seed(t, 1), masters: 3, losses: 5, watched: true}
	simulate(t, s).sound(t, s)
}

func TestFiveMasters(t *testing.T) {
	s := scenario{seed: seed(t, 2), masters: 5, losses: 3, watched: true}
	simulate(t, s).sound(t, s)
}

// TestFollowersThatWereAwayForLong catch up from a snapshot, one that comes back from its disk and one that never stopped.
func TestFollowersThatWereAwayForLong(t *testing.T) {
	s := scenario{seed: seed(t, 3), masters: 3, pace: 7}
	for _, f := range faults {
		if f.long {
			s.steps = append(s.steps, step{fault: f, hold: 40 * time.Second, rest: 3 * time.Second})
		}
	}
	r := simulate(t, s)
	r.sound(t, s)
	if r.snapshots < len(s.steps) {
		t.Errorf("%d snapshots for %d followers that were away", r.snapshots, len(s.steps))
	}
}

// TestHours lets grids of three masters live through GRID_SIM_HOURS hours of virtual time each, with few commands and a loss of the
// leader every quarter of an hour.
func TestHours(t *testing.T) {
	hours := number(t, "GRID_SIM_HOURS", 0)
	if hours == 0 {
		t.Skip("set GRID_SIM_HOURS to hours of virtual time, or use make sim")
	}
	s := scenario{seed: seed(t, 4), masters: 3, losses: 4 * hours, pace: 200}
	s.steps = plan(s.seed, s.losses)
	for i := range s.steps {
		s.steps[i].rest = 15 * time.Minute
	}
	simulate(t, s).sound(t, s)
}

// TestLosses takes the leader away GRID_SIM_LOSSES times, in grids of three and of five masters that live through 40 losses each;
// the seeds count up from GRID_SIM_SEED.
func TestLosses(t *testing.T) {
	losses := number(t, "GRID_SIM_LOSSES", 0)
	if losses == 0 {
		t.Skip("set GRID_SIM_LOSSES to the number of leaders to take away, or use make sim")
	}
	var all result
	for first := seed(t, 1000); all.losses < losses; first++ {
		s := scenario{seed: first, masters: 3 + 2*int(first%2), losses: min(40, losses-all.losses), watched: true}
		if !t.Run(fmt.Sprintf("seed %d", first), func(t *testing.T) {
			r := simulate(t, s)
			r.sound(t, s)
			all.add(r)
		}) {
			return
		}
	}
	t.Log("in all:", all)
}
