package master

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestCompare: what the voters' digests come to.
func TestCompare(t *testing.T) {
	at := func(index, value uint64) fsm.Check { return fsm.Check{Index: index, Seq: value} }
	said := func(id event.ReplicaID, checks ...fsm.Check) voice { return voice{replica: id, checks: checks} }
	three := []event.ReplicaID{"a", "b", "c"}
	for _, tt := range []struct {
		name    string
		voters  []event.ReplicaID
		replies []voice
		want    string
	}{
		{"nothing", three, nil, "0 [] []"},
		{"all agree", three, []voice{said("a", at(1024, 1)), said("c", at(1024, 1)), said("b", at(1024, 1))}, "1024 [a b c] []"},
		{"one differs", three, []voice{said("a", at(1024, 1)), said("b", at(1024, 2)), said("c", at(1024, 1))}, "1024 [a c] [b]"},
		{"the leader differs", three, []voice{said("a", at(1024, 9)), said("b", at(1024, 2)), said("c", at(1024, 2))}, "1024 [b c] [a]"},
		{"one is away", three, []voice{said("a", at(1024, 1)), said("b", at(1024, 1))}, "1024 [a b] [] 1 silent"},
		{"one is away, the others differ", three, []voice{said("a", at(1024, 1)), said("b", at(1024, 2))}, "0 [] [] split at 1024"},
		{"all differ", three, []voice{said("a", at(1024, 1)), said("b", at(1024, 2)), said("c", at(1024, 3))}, "0 [] [] split at 1024"},
		{"alone", three, []voice{said("a", at(1024, 1))}, "0 [] []"},
		{"one is late", three, []voice{said("a", at(1024, 1), at(2048, 2)), said("b", at(1024, 1), at(2048, 2)), said("c", at(1024, 1))}, "1024 [a b c] []"},
		{"one has only the later", three, []voice{said("a", at(1024, 1), at(2048, 2)), said("b", at(1024, 1), at(2048, 2)), said("c", at(2048, 2))}, "2048 [a b c] []"},
		{"differs later, one late", three, []voice{said("a", at(1024, 1), at(2048, 2)), said("b", at(1024, 1), at(2048, 3)), said("c", at(1024, 1))}, "1024 [a b c] [] split at 2048"},
		{"settled later", three, []voice{said("a", at(1024, 1), at(2048, 2)), said("b", at(1024, 2), at(2048, 3)), said("c", at(2048, 2))}, "2048 [a c] [b]"},
		{"a learner has no voice", three[:2], []voice{said("a", at(1024, 1)), said("b", at(1024, 1)), said("c", at(1024, 2))}, "1024 [a b] []"},
		{"two of five", []event.ReplicaID{"a", "b", "c", "d", "e"}, []voice{said("a", at(1024, 1)), said("b", at(1024, 1)), said("c", at(1024, 2))}, "0 [] [] split at 1024"},
		{"one alone votes", three[:1], []voice{said("a", at(1024, 1))}, "1024 [a] []"},
	} {
		c := compare(tt.voters, tt.replies)
		got := fmt.Sprint(c.check.Index, " ", c.agree, " ", c.differ)
		if c.check.Index > 0 && c.silent > 0 {
			got += fmt.Sprint(" ", c.silent, " silent")
		}
		if c.split > 0 {
			got += fmt.Sprint(" split at ", c.split)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// impurity makes one replica's handlers impure: what it applies next gets a time of its own.
type impurity struct {
	victim atomic.Pointer[event.MasterID]
	at     atomic.Uint64 // the entry
}

func (i *impurity) of(id event.MasterID) func(raftgroup.FSM) raftgroup.FSM {
	return func(inner raftgroup.FSM) raftgroup.FSM { return impureFSM{inner, i, id} }
}

type impureFSM struct {
	raftgroup.FSM
	*impurity
	id event.MasterID
}

func (f impureFSM) Apply(entries []raftgroup.Entry) [][]any {
	if v := f.victim.Load(); v != nil && *v == f.id && f.victim.CompareAndSwap(v, nil) {
		entries[0].Time += 7
		f.at.Store(entries[0].Index)
	}
	return f.FSM.Apply(entries)
}

// write proposes at the leader until its log is behind an index.
func (c *cluster) write(leader event.MasterID, behind uint64) {
	c.t.Helper()
	m := c.up[leader]
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil && m.core.replica.View().RaftIndex() <= behind && m.core.service.Err() == nil && m.core.proposer.halted.Load() == nil {
				body := event.SettingChanged{Key: fmt.Sprintf("k.%d", w), Value: "v"}
				if _, err := m.core.proposer.Here(ctx, event.Command{Actor: "test", Type: body.Type(), Body: body}); err != nil && m.core.service.Err() == nil && m.core.proposer.halted.Load() == nil {
					c.t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// nextCheck is the end of a write that makes the replicas' states behind a multiple of 1,024 known: the next one but for a
// margin, so that nothing that comes by itself gets there first.
func (c *cluster) nextCheck(leader event.MasterID) uint64 {
	return (c.up[leader].core.replica.View().RaftIndex()+100)/fsm.CheckStride*fsm.CheckStride + fsm.CheckStride
}

// ended waits until a master has ended, closes it, and returns why.
func (c *cluster) ended(id event.MasterID) error {
	c.t.Helper()
	m := c.up[id]
	select {
	case <-m.Done():
	case <-time.After(patience):
		c.t.Fatalf("%s goes on", id)
	}
	delete(c.up, id)
	if err := m.Close(); err != nil {
		c.t.Errorf("close %s: %v", id, err)
	}
	return m.Err()
}

// checkedAt follows the feed to the comparison of an entry.
func (c *cluster) checkedAt(id event.MasterID, from, index uint64) event.StateChecked {
	c.t.Helper()
	var found event.StateChecked
	c.feed(id, from, func(all []*event.Envelope) bool {
		for _, e := range all {
			if b, is := e.Body.(event.StateChecked); is && b.AtIndex >= index {
				found = b
			}
		}
		return found.AtIndex > 0
	})
	return found
}

// TestAnImpureReplicaLeaves: a follower, then a leader, whose handler is not pure is caught at the next multiple of 1,024, says
// nothing more and ends; the others record who differed and go on. It takes its state from one of them, and agrees again.
func TestAnImpureReplicaLeaves(t *testing.T) {
	impure := &impurity{}
	c := newCluster(t, func(cfg *Config) {
		cfg.Limits.Check, cfg.Limits.Unreachable = 50*time.Millisecond, 30*time.Second
		cfg.Machine = impure.of(cfg.ID)
	})
	c.start(c.ids()...)
	leader, followers := c.leader()
	for _, victim := range []event.MasterID{followers[0], leader} {
		from := c.up[leader].core.replica.View().Seq() + 1
		next := c.nextCheck(leader)
		replica := c.up[victim].core.founding.Replica
		impure.victim.Store(&victim)
		c.write(leader, next)
		if err := c.ended(victim); !errors.Is(err, ErrReinstall) || !strings.Contains(err.Error(), fmt.Sprint(next)) {
			t.Fatalf("%s ended with %v", victim, err)
		}
		leader, followers = c.leader()
		check := c.checkedAt(leader, from, next)
		if check.AtIndex != next || check.AtIndex-impure.at.Load() > fsm.CheckStride || !slices.Equal(check.Differ, []event.ReplicaID{replica}) || len(check.Agree) != 2 {
			t.Errorf("%s differed from entry %d; recorded is %+v", victim, impure.at.Load(), check)
		}
		must[transport.AssociationTypesOk](c, followers[0], &transport.AssociationTypes{}) // the others serve

		c.start(victim)
		leader, _ = c.leader()
		from, next = c.up[leader].core.replica.View().Seq()+1, c.nextCheck(leader)
		c.write(leader, next)
		if check := c.checkedAt(victim, from, next); len(check.Agree) != 3 || len(check.Differ) != 0 {
			t.Errorf("%s is back; recorded is %+v", victim, check)
		}
	}
}

// TestNoMajority: with one master away and the other two different nobody knows who is right: no command is taken, reads are,
// and every master says so. When the third is back, its word decides, and the one that differed leaves.
func TestNoMajority(t *testing.T) {
	impure := &impurity{}
	c := newCluster(t, func(cfg *Config) {
		cfg.Limits.Check, cfg.Limits.Unreachable = 50*time.Millisecond, 30*time.Second
		cfg.Machine = impure.of(cfg.ID)
	})
	c.start(c.ids()...)
	leader, followers := c.leader()
	odd, away := followers[0], followers[1]
	c.stop(away)
	impure.victim.Store(&odd)
	c.write(leader, c.nextCheck(leader))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, id := range []event.MasterID{leader, odd} {
		for critical := false; !critical && ctx.Err() == nil; {
			s := must[transport.ClusterStatus](c, id, &transport.GetClusterStatus{})
			critical = s.Level == fsm.Critical && strings.Contains(s.Reason, "replicas disagree") && s.Status == statusOK
		}
	}
	if ctx.Err() != nil {
		t.Fatal("the grid is not critical")
	}
	must[transport.AssociationTypesOk](c, leader, &transport.AssociationTypes{})
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err := transport.Call[transport.ProposeOk](short, c.pool, c.peer(odd).Grid, proposeOf(t, event.SettingChanged{Key: "k", Value: "v"}))
	if err == nil || c.up[leader].core.proposer.halted.Load() == nil {
		t.Errorf("a command was taken: %v", err)
	}
	c.start(away)
	if err := c.ended(odd); !errors.Is(err, ErrReinstall) {
		t.Fatalf("%s ended with %v", odd, err)
	}
	must[transport.ProposeOk](c, away, proposeOf(t, event.SettingChanged{Key: "k", Value: "v"}))
}
