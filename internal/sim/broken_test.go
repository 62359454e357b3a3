package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestBrokenGridsAreCaught: grids that break a promise each, and what the checkers must say of them.
func TestBrokenGridsAreCaught(t *testing.T) {
	for name, tc := range map[string]struct {
		scenario
		want string
	}{
		"acknowledges before commit": {scenario{seed: 11, masters: 3, losses: 3, front: eagerFront}, "lost"},
		"forgets request ids":        {scenario{seed: 12, masters: 3, losses: 8, machine: forgetful}, "was applied"},
		"one replica skips a command": {scenario{seed: 13, masters: 3, losses: 2, machine: func(id event.MasterID, real raftgroup.FSM) raftgroup.FSM {
			if id != "master-2" {
				return real
			}
			return &skipping{FSM: real}
		}}, "another replica was at event"},
	} {
		t.Run(name, func(t *testing.T) {
			r := simulate(t, tc.scenario)
			if !strings.Contains(fmt.Sprint(errors.Join(r.faults...)), tc.want) {
				t.Errorf("not caught: faults %v, want %q; %s", r.faults, tc.want, r)
			}
			t.Log(r)
		})
	}
}

// eagerFront is a server in front of the masters that says "done" as soon as it has passed a proposal on, once, to each in turn:
// what it passes to a master that is down is lost.
func eagerFront(w *world) (addrs []string, end func()) {
	pool := transport.NewPool(transport.PoolConfig{Network: w.net.Host(frontHost)})
	var targets []string
	for _, p := range w.peers {
		targets = append(targets, p.Grid)
	}
	masters := transport.NewMasters(targets, pool)
	background, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var turn atomic.Uint64
	server := transport.NewServer(transport.ServerConfig{Name: frontHost, Log: w.config(w.ids[0]).Log,
		Handler: func(ctx context.Context, _ *transport.Session, req any) (any, error) {
			if _, lie := req.(*transport.Propose); !lie {
				return masters.Call(ctx, req)
			}
			target := targets[turn.Add(1)%uint64(len(targets))]
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
				defer cancel()
				_, _ = pool.Call(ctx, target, req) // whatever becomes of it
			})
			return &transport.ProposeOk{}, nil
		}})
	l, err := w.net.Host(frontHost).Listen(frontHost + ":1")
	if err != nil {
		w.t.Fatal(err)
	}
	wg.Go(func() { w.fault(server.Serve(context.Background(), l)) })
	return []string{frontHost + ":1"}, func() {
		stop()
		w.fault(server.Close())
		wg.Wait()
		w.fault(pool.Close())
	}
}

// rewriting is a state machine that is handed other commands than the log holds.
type rewriting struct {
	raftgroup.FSM
	change func(index uint64, i int, c *event.Command)
}

// Apply implements raftgroup.FSM.
func (m rewriting) Apply(entries []raftgroup.Entry) [][]any {
	for k, e := range entries {
		commands := make([][]byte, len(e.Commands))
		for i, b := range e.Commands {
			c, err := event.DecodeCommand(b)
			if err != nil {
				return nil
			}
			m.change(e.Index, i, c)
			if commands[i], err = event.AppendCommand(nil, c); err != nil {
				return nil
			}
		}
		entries[k].Commands = commands
	}
	return m.FSM.Apply(entries)
}

// forgetful knows no request again: each command comes under an id of its own.
func forgetful(_ event.MasterID, real raftgroup.FSM) raftgroup.FSM {
	return rewriting{real, func(index uint64, i int, c *event.Command) {
		if !c.RequestID.IsZero() {
			binary.BigEndian.PutUint64(c.RequestID[:], index)
			binary.BigEndian.PutUint64(c.RequestID[8:], uint64(i))
		}
	}}
}

// skipping leaves out the first setting that it meets after a while.
type skipping struct {
	raftgroup.FSM
	met int
}

// Apply implements raftgroup.FSM.
func (m *skipping) Apply(entries []raftgroup.Entry) [][]any {
	return rewriting{m.FSM, func(_ uint64, _ int, c *event.Command) {
		if c.Type == event.TypeSettingChanged {
			if m.met++; m.met == 20 {
				c.Issued = 0 // refused here, accepted elsewhere
			}
		}
	}}.Apply(entries)
}

// TestDisksThatForgetAreCaught: a majority comes back, alone, with the disks of an earlier moment, as if nothing since had been
// synced.
func TestDisksThatForgetAreCaught(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{world: newWorld(t, scenario{seed: 14, masters: 3})}
		defer r.world.close()
		r.load = r.startLoad()
		defer r.load.close()
		outage := func(between func(dir, copy string)) {
			time.Sleep(2 * time.Second)
			resume := r.load.pause()
			for _, id := range r.ids {
				r.crash(id)
			}
			for _, id := range r.ids[:2] {
				dir := filepath.Join(r.root, string(id))
				between(dir, dir+".copy")
			}
			r.start(r.ids[:2]...)
			resume()
		}
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		outage(func(dir, copy string) { must(os.CopyFS(copy, os.DirFS(dir))) })
		r.restart()
		r.settle()
		if faults := r.broken(); len(faults) > 0 {
			t.Fatalf("a sound outage: %v", faults)
		}
		outage(func(dir, copy string) {
			must(os.RemoveAll(dir))
			must(os.Rename(copy, dir))
		})
		time.Sleep(2 * time.Second)
		if len(r.broken()) == 0 {
			r.settle()
		}
		if said := fmt.Sprint(errors.Join(r.broken()...)); !strings.Contains(said, "another replica") && !strings.Contains(said, "elsewhere") && !strings.Contains(said, "lost") {
			t.Errorf("not caught: %v", said)
		}
	})
}
