package sim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	labels "github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

// The crash matrix: a transaction is stopped before and after each numbered step of its protocol, at whoever takes it, and there the
// coordinator, the leading master or a participant's leader is killed, or links between two of them are cut, one way or both. Then
// it must have one outcome everywhere, the client must have been told the truth, and nothing of it may be left.

// kind is what a transaction of the matrix does, and so which steps it takes.
type kind int

const (
	transfers kind = iota // over two shards; commits
	refused               // over two shards; a precondition does not hold
	alone                 // in one shard
	doubted               // over two shards; its coordinator stops before it decides, and participants inquire
)

// where is each label of the protocol, and the transaction that takes that step.
var where = []struct {
	label labels.Label
	kind  kind
}{
	{labels.TxnSingleBefore, alone}, {labels.TxnSingleAfter, alone},
	{labels.TxnPrepareBefore, transfers}, {labels.TxnPrepareSend, transfers}, {labels.TxnPrepareAfter, transfers},
	{labels.TxnDecideBefore, transfers}, {labels.TxnDecideAfter, transfers},
	{labels.TxnAbortBefore, refused}, {labels.TxnAbortAfter, refused},
	{labels.TxnFinishBefore, transfers}, {labels.TxnFinishSend, transfers}, {labels.TxnFinishAcknowledged, transfers}, {labels.TxnFinishAfter, transfers},
	{labels.TxnCompleteBefore, transfers}, {labels.TxnCompleteAfter, transfers},
	{labels.TxnOutcomeBefore, doubted}, {labels.TxnOutcomeAfter, doubted},
	{labels.ShardPrepareBefore, transfers}, {labels.ShardPrepareAfter, transfers},
	{labels.ShardFinishBefore, transfers}, {labels.ShardFinishAfter, transfers},
	{labels.ShardInquiryBefore, doubted}, {labels.ShardInquiryAfter, doubted},
}

// role is a process, by what it is to the transaction.
type role int

const (
	nobody role = iota
	coordinator
	leading     // the leading master
	first       // the leader of the first participant
	second      // the leader of the second one
	follower    // a replica of the first participant that does not lead
	otherMaster // all masters but the coordinator
)

// harm is what is done to a transaction's processes while one of them stands at a label.
type harm struct {
	name     string
	kill     role
	from, to role // the link between them is cut, from one to the other
	both     bool // and back
	leads    bool // the coordinator is the leading master
}

var harms = []harm{
	{name: "kill the coordinator", kill: coordinator},
	{name: "kill the coordinator, which leads", kill: coordinator, leads: true},
	{name: "kill the leading master", kill: leading},
	{name: "kill the first participant's leader", kill: first},
	{name: "kill the second participant's leader", kill: second},
	{name: "kill a follower of the first participant", kill: follower},
	{name: "nothing gets from the coordinator to the first participant", from: coordinator, to: first},
	{name: "nothing gets from the first participant to the coordinator", from: first, to: coordinator},
	{name: "coordinator and first participant are parted", from: coordinator, to: first, both: true},
	{name: "nothing gets from the coordinator to the second participant", from: coordinator, to: second},
	{name: "nothing gets from the second participant to the coordinator", from: second, to: coordinator},
	{name: "coordinator and second participant are parted", from: coordinator, to: second, both: true},
	{name: "nothing gets from the coordinator to the masters", from: coordinator, to: otherMaster},
	{name: "nothing gets from the masters to the coordinator", from: otherMaster, to: coordinator},
	{name: "coordinator and masters are parted", from: coordinator, to: otherMaster, both: true},
	{name: "the coordinator, which leads, and masters are parted", from: coordinator, to: otherMaster, both: true, leads: true},
}

// trial is one case of the matrix.
type trial struct {
	label    labels.Label
	kind     kind
	harm     harm
	replicas int
}

func (c trial) String() string {
	return fmt.Sprintf("%s, %d replicas: %s", labels.Name(c.label), c.replicas, c.harm.name)
}

// possible tells whether a harm can meet the transaction at all.
func (c trial) possible() bool {
	roles := []role{c.harm.kill, c.harm.from, c.harm.to}
	return !(c.replicas == 1 && slices.Contains(roles, follower)) && !(c.kind == alone && slices.Contains(roles, second))
}

// waits tells whether a shard has no leader until the fault is over, so that nothing can be settled before.
func (c trial) waits() bool {
	return c.replicas == 1 && (c.harm.kill == first || c.harm.kill == second)
}

// matrix is all cases, those of one world after the other.
func matrix() (all []trial) {
	for _, replicas := range []int{3, 1} {
		for _, w := range where {
			for _, h := range harms {
				if c := (trial{w.label, w.kind, h, replicas}); c.possible() {
					all = append(all, c)
				}
			}
		}
	}
	return all
}

const (
	perWorld = 16 // cases in one world: the grid is formed once for them
	crashes  = 8  // of nodes in one world: an agent leaves a node down that crashed ten times in ten minutes
)

// TestCrashMatrix tries GRID_SIM_MATRIX of the cases, spread evenly, or all.
func TestCrashMatrix(t *testing.T) {
	all := matrix()
	n := min(number(t, "GRID_SIM_MATRIX", 12), len(all))
	var chosen []trial
	for i := range n {
		chosen = append(chosen, all[(i*len(all)+len(all)/2)/n])
	}
	only := os.Getenv("GRID_SIM_MATRIX_CASE")
	if only != "" {
		chosen = slices.DeleteFunc(all, func(c trial) bool { return c.String() != only })
	}
	var sum verdicts
	for begin := 0; begin < len(chosen); {
		end := worldOf(chosen, begin)
		synctest.Test(t, func(t *testing.T) {
			v, err := hold(t, chosen[begin:end], nil)
			if sum.add(v); err != nil {
				t.Error(err)
			}
		})
		if begin = end; t.Failed() {
			return
		}
	}
	t.Log("in all:", sum)
	if sum.cases != len(chosen) || sum.cases == 0 || only == "" && (sum.committed == 0 || sum.aborted == 0) {
		t.Errorf("too little happened to prove anything: %s of %d cases", sum, len(chosen))
	}
}

// worldOf is the end of the cases that share a world with the one at begin.
func worldOf(all []trial, begin int) int {
	killed := 0
	for i := begin; i < len(all); i++ {
		if r := all[i].harm.kill; r == first || r == second || r == follower {
			killed++
		}
		if i-begin == perWorld || killed > crashes || all[i].replicas != all[begin].replicas {
			return i
		}
	}
	return len(all)
}

// verdicts is what cases have shown.
type verdicts struct {
	cases, committed, aborted, unknown int           // by what the client was told first
	slowest                            time.Duration // the longest that a reader had to wait: while the fault held, or behind it where nothing could be settled before
}

func (v verdicts) String() string {
	return fmt.Sprintf("%d cases, each struck at its label; first answers: %d committed, %d aborted, %d unknown; readers waited for %s at most",
		v.cases, v.committed, v.aborted, v.unknown, v.slowest.Round(time.Millisecond))
}

func (v *verdicts) add(o verdicts) {
	v.cases, v.committed, v.aborted, v.unknown = v.cases+o.cases, v.committed+o.committed, v.aborted+o.aborted, v.unknown+o.unknown
	v.slowest = max(v.slowest, o.slowest)
}

// hold tries cases in a world of their own, up to the first that breaks a promise.
func hold(t *testing.T, all []trial, broke func(event.AgentID, event.ShardID, raftgroup.FSM) raftgroup.FSM) (sum verdicts, err error) {
	c := newCourt(t, all[0].replicas, broke)
	defer c.close()
	for _, one := range all {
		begun := time.Now()
		v, err := c.try(one)
		if err = errors.Join(append(c.broken(), err)...); err != nil {
			return sum, fmt.Errorf("%s: %w\nagain: GRID_SIM_MATRIX_CASE=%q go test -count=1 -run 'TestCrashMatrix$' ./internal/sim\n%s", one, err, one, c.tap.tail())
		}
		sum.add(v)
		t.Logf("%s: told %s, readers waited for %s, %s of virtual time", one, c.told, v.slowest.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	}
	return sum, nil
}

// try is one case.
func (c *court) try(one trial) (v verdicts, err error) {
	if err := errors.Join(c.revive(), c.decided(), c.apart()); err != nil {
		return v, err
	}
	if err := c.cast(one); err != nil {
		return v, err
	}
	trap, laid, err := c.begin(one)
	defer c.traps.clear(laid...)
	if err != nil {
		return v, err
	}
	done := c.strike(one.harm)
	trap.open()
	if one.waits() {
		time.Sleep(holds)
	} else {
		v.slowest, err = c.free(holds)
	}
	c.traps.clear(laid...)
	done()
	c.heal()
	c.restart()
	for _, restart := range c.dead {
		restart()
	}
	if one.waits() {
		v.slowest, err = c.free(0)
	}
	if err := errors.Join(err, c.revive()); err != nil {
		return v, err
	}
	v.cases = 1
	return v, c.judge(&v)
}

// apart waits until the shards are led on different machines, as they come to be by themselves.
func (c *court) apart() error {
	return c.eventually("led on two machines", func(s *fsm.State) bool {
		one, two := s.Shard("shard-0").Leader, s.Shard("shard-1").Leader
		return one != "" && two != "" && one != two
	})
}

// cast finds who plays which role.
func (c *court) cast(one trial) error {
	leader, _, err := c.leader(0)
	if err != nil {
		return err
	}
	view := c.member(leader).View()
	c.parts = map[role][]string{leading: {string(leader)}}
	at := slices.Index(c.ids, leader)
	if !one.harm.leads {
		at = (at + 1) % len(c.ids)
	}
	c.parts[coordinator] = []string{string(c.ids[at])}
	for _, id := range c.ids {
		if id != c.ids[at] {
			c.parts[otherMaster] = append(c.parts[otherMaster], string(id))
		}
	}
	for i, r := range []role{first, second} {
		sh := view.Shard(event.ShardID(fmt.Sprintf("shard-%d", i)))
		c.parts[r] = []string{c.estateOf(view.Node(sh.Leader).AgentID).host}
		for _, v := range sh.Voters {
			if i == 0 && v.NodeID != sh.Leader && len(c.parts[follower]) == 0 {
				c.parts[follower] = []string{c.estateOf(view.Node(v.NodeID).AgentID).host}
			}
		}
	}
	return nil
}

// begin sends the transaction and waits until somebody stands at the label.
func (c *court) begin(one trial) (at *snare, laid []*snare, err error) {
	coordinates := c.parts[coordinator][0]
	if one.kind == doubted {
		silent := c.traps.lay(labels.TxnDecideBefore, coordinates)
		laid = append(laid, silent)
	}
	at = c.traps.lay(one.label, "")
	laid = append(laid, at)
	c.send(one.kind, coordinates)
	if one.kind == doubted {
		if _, err := laid[0].await(patience); err != nil {
			return nil, laid, err
		}
		c.isolate(coordinates, c.nodeHosts()) // it is not asked either
	}
	host, err := at.await(patience)
	if err == nil && one.kind == doubted && c.at(host) == nil {
		c.parts[coordinator] = []string{host} // who answers the inquiry
		c.parts[otherMaster] = nil
		for _, h := range c.masterHosts() {
			if h != host {
				c.parts[otherMaster] = append(c.parts[otherMaster], h)
			}
		}
	}
	return at, laid, err
}

// strike does harm, and returns what waits for its end.
func (c *court) strike(h harm) (done func()) {
	done = func() {}
	if h.kill != nobody {
		for _, host := range c.parts[h.kill] {
			done = c.kill(host)
		}
		time.Sleep(time.Millisecond) // the process is being ended, and comes no further
		return done
	}
	c.cut(c.parts[h.from], c.parts[h.to])
	if h.both {
		c.cut(c.parts[h.to], c.parts[h.from])
	}
	return done
}

// TestBrokenTransactionsAreCaught: a shard that breaks a promise of the protocol, and what the matrix must say of it.
func TestBrokenTransactionsAreCaught(t *testing.T) {
	for name, tc := range map[string]struct {
		broke func(*engine.Command)
		of    trial
		want  string
	}{
		"a shard ends a transaction otherwise than it was decided": {func(c *engine.Command) {
			if c.Finish != nil {
				c.Finish.Commit = false
			}
		}, trial{labels.TxnPrepareBefore, transfers, harms[2], 3}, "transaction 1 is committed"},
		"a shard keeps an aborted transaction's locks": {func(c *engine.Command) {
			if c.Finish != nil && !c.Finish.Commit {
				c.Finish.Attempt++
			}
		}, trial{labels.TxnDecideBefore, transfers, harms[0], 3}, "cannot be read for 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v, err := hold(t, []trial{tc.of}, changing("shard-1", tc.broke))
				if said := fmt.Sprint(err); !strings.Contains(said, tc.want) {
					t.Errorf("not caught: %s, %.300s", v, said)
				}
			})
		})
	}
}
