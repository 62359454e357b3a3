package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestBrokenShardsAreCaught: storage nodes that break a promise each, and what the checkers must say of them.
func TestBrokenShardsAreCaught(t *testing.T) {
	for name, tc := range map[string]struct {
		seed  uint64
		broke func(event.AgentID, event.ShardID, raftgroup.FSM) raftgroup.FSM
		want  string
		long  bool // only with GRID_SIM_NODES
	}{
		"one replica applies otherwise":          {61, otherwise, "differ at entry|lost|does not exist", false},
		"a shard forgets commits":                {62, changing("shard-1", forgetCommit), "lost|does not exist", false},
		"a shard forgets halves of associations": {63, changing("shard-0", forgetHalf), "has the halves", false},
		"a shard forgets writes":                 {64, changing("shard-1", forgetWrite), "lost|does not exist", true},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.long {
				long(t)
			}
			s := scenario{seed: tc.seed, masters: 3, estates: 3, pace: 10, shardMachine: tc.broke}
			s.steps = []step{{fault: fault{name: "nothing", do: quiet}, hold: 2 * time.Second}}
			r := simulate(t, s)
			if said := fmt.Sprint(errors.Join(r.faults...)); !regexp.MustCompile(tc.want).MatchString(said) {
				t.Errorf("not caught: faults %v, want %q; %s", r.faults, tc.want, r)
			}
			t.Log(r, r.faults)
		})
	}
}

// TestLogsCutTooEarlyAreCaught: all nodes are killed when snapshots have cut their logs. Where what a snapshot stands for was not
// durable, the shards do not come back; where it was, they do.
func TestLogsCutTooEarlyAreCaught(t *testing.T) {
	long(t)
	for name, tc := range map[string]struct {
		broke func(event.AgentID, event.ShardID, raftgroup.FSM) raftgroup.FSM
		want  string
	}{
		"sound":     {nil, "^<nil>$"},
		"unflushed": {unflushed, "has no outcome|at rest|not whole"},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario{seed: 65, masters: 3, estates: 3, pace: 10, shardMachine: tc.broke}
			s.steps = []step{
				{fault: fault{name: "nothing", do: quiet}, hold: 40 * time.Second},
				{fault: fault{name: "kill all nodes", do: func(w *world, _ event.MasterID, _ *rand.Rand) { w.killNodes() }}, hold: time.Second},
			}
			r := simulate(t, s)
			if said := fmt.Sprint(errors.Join(r.faults...)); !regexp.MustCompile(tc.want).MatchString(said) {
				t.Errorf("faults %v, want %q; %s\n%s", r.faults, tc.want, r, r.story)
			}
			t.Log(r, r.faults)
		})
	}
}

// long leaves a test to make sim.
func long(t *testing.T) {
	t.Helper()
	if number(t, "GRID_SIM_NODES", 0) == 0 {
		t.Skip("set GRID_SIM_NODES, or use make sim")
	}
}

// change rewrites the commands that a shard's state machine is handed; the log holds others.
type change struct {
	raftgroup.FSM
	of func(*engine.Command)
}

// Apply implements raftgroup.FSM.
func (m change) Apply(entries []raftgroup.Entry) [][]any {
	entries = slices.Clone(entries)
	for k := range entries {
		e := &entries[k]
		commands := make([][]byte, len(e.Commands))
		for i, b := range e.Commands {
			c, err := engine.DecodeCommand(b)
			if err != nil {
				return nil
			}
			m.of(&c)
			if commands[i], err = engine.AppendCommand(nil, c); err != nil {
				return nil
			}
		}
		e.Commands = commands
	}
	return m.FSM.Apply(entries)
}

// changing changes the commands of one shard, on all its replicas alike.
func changing(shard event.ShardID, of func(*engine.Command)) func(event.AgentID, event.ShardID, raftgroup.FSM) raftgroup.FSM {
	return func(_ event.AgentID, id event.ShardID, real raftgroup.FSM) raftgroup.FSM {
		if id != shard {
			return real
		}
		return change{real, of}
	}
}

// forgetCommit ends some transactions otherwise than they were decided.
func forgetCommit(c *engine.Command) {
	if c.Finish != nil && c.Finish.TxnID[0]%2 == 0 {
		c.Finish.Commit = false
	}
}

// forgetHalf stores the second half of associations at another one.
func forgetHalf(c *engine.Command) {
	if c.Prepare == nil {
		return
	}
	for i, op := range c.Prepare.Ops {
		if op.Kind == transport.OpLinkIn {
			c.Prepare.Ops[i].ID += "-another"
		}
	}
}

// forgetWrite stores some concepts under another id.
func forgetWrite(c *engine.Command) {
	if c.Write != nil && c.RequestID[0]%16 == 0 && len(c.Write.Ops) == 1 && c.Write.Ops[0].Kind == transport.OpLearnConcept {
		c.Write.Ops[0].ID += "-another"
	}
}

// otherwise has one replica store one concept under another id.
func otherwise(agent event.AgentID, shard event.ShardID, real raftgroup.FSM) raftgroup.FSM {
	if agent != "agent-2" || shard != "shard-0" {
		return real
	}
	met := 0
	return change{real, func(c *engine.Command) {
		if c.Write != nil && c.Write.Ops[0].Kind == transport.OpLearnConcept {
			if met++; met == 20 {
				c.Write.Ops[0].ID += "-another"
			}
		}
	}}
}

// unflushed says that what a snapshot stands for is durable when it is not (safety S11).
func unflushed(_ event.AgentID, _ event.ShardID, real raftgroup.FSM) raftgroup.FSM {
	return hasty{real}
}

type hasty struct{ raftgroup.FSM }

// Snapshot implements raftgroup.FSM.
func (m hasty) Snapshot() (raftgroup.Snapshot, error) {
	s, err := m.FSM.Snapshot()
	if err != nil {
		return nil, err
	}
	return hastySnapshot{s.(raftgroup.KeptSnapshot)}, nil
}

type hastySnapshot struct{ raftgroup.KeptSnapshot }

// Keep implements raftgroup.KeptSnapshot.
func (hastySnapshot) Keep(w io.Writer) error {
	_, err := w.Write([]byte{0})
	return err
}

// TestNodeDisksThatForgetAreCaught: a majority of the nodes comes back, alone, with the disks of an earlier moment, as if nothing since
// had been synced before it was acknowledged.
func TestNodeDisksThatForgetAreCaught(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		r := &run{world: newWorld(t, scenario{seed: 66, masters: 3, estates: 3, pace: 10})}
		defer r.world.close()
		r.fault(r.revive())
		r.load = r.startLoad()
		defer r.load.close()
		r.shards = r.startShardLoad()
		defer r.shards.close()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		// outage ends all nodes, and starts a majority again.
		outage := func(between func(dir, copy string)) {
			time.Sleep(3 * time.Second)
			resume := r.shards.pause()
			defer resume()
			for _, e := range r.settled {
				r.kill(e)
				<-e.present().stopped
			}
			for _, e := range r.settled[:2] {
				dirs, err := filepath.Glob(filepath.Join(r.root, string(e.id), "*", "node-*"))
				must(err)
				if len(dirs) != 1 {
					t.Fatalf("%s has the nodes %q", e.id, dirs)
				}
				between(dirs[0], filepath.Join(r.root, string(e.id)+".copy"))
			}
			for _, restart := range r.dead[:2] {
				restart()
			}
			r.dead = r.dead[2:]
		}
		outage(func(dir, copy string) { must(os.CopyFS(copy, os.DirFS(dir))) })
		r.fault(r.revive())
		r.settle()
		if faults := r.broken(); len(faults) > 0 {
			t.Fatalf("a sound outage: %v", faults)
		}
		outage(func(dir, copy string) {
			must(os.RemoveAll(dir))
			must(os.Rename(copy, dir))
		})
		time.Sleep(5 * time.Second)
		if len(r.broken()) == 0 {
			r.settle()
		}
		if said := fmt.Sprint(errors.Join(r.broken()...)); !strings.Contains(said, "lost") {
			t.Errorf("not caught: %v", said)
		}
	})
}
