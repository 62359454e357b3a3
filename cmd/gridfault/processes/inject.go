package processes

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// trial is one fault from Inject to Heal.
type trial struct {
	g     *Grid
	fault rig.Fault
	spec  rig.Spec
	rng   *rand.Rand // from the fault's dice

	count atomic.Int64 // of what proves it
	met   []string     // whom it met, in order
	heals []func(context.Context) error
}

// onHeal has something done when the fault ends, before what was put down later is: the last first.
func (t *trial) onHeal(fn func(context.Context) error) { t.heals = append(t.heals, fn) }

// meets says whom the fault meets: from now on it explains the end of its machine's program.
func (t *trial) meets(victims ...victim) {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	for _, v := range victims {
		v.m.met = true
		if name := v.String(); !slices.Contains(t.met, name) {
			t.met = append(t.met, name)
		}
	}
}

// roll is a number from lo to hi, both included.
func (t *trial) roll(lo, hi int) int { return lo + t.rng.IntN(hi-lo+1) }

// pick is one of a list that is not empty.
func pick[T any](t *trial, list []T) T { return list[t.rng.IntN(len(list))] }

// handler makes a kind of fault happen. It puts down with onHeal what ends each of its effects as soon as that has begun, so that a
// fault that fails half-way is undone.
type handler func(ctx context.Context, t *trial) error

// handlers has every kind.
var handlers = map[rig.Kind]handler{
	rig.CutLeader: cutLeader, rig.CutLeaderAll: cutLeaderAll, rig.CutMinority: cutMinority, rig.CutRing: cutRing,
	rig.CutLeaderOut: cutLeaderOut, rig.CutLeaderIn: cutLeaderIn, rig.CutCoordinator: cutCoordinator,
	rig.CutShardLeader: cutShardLeader, rig.CutShipper: cutShipper, rig.CutClients: cutClients, rig.NetLoss: loseSome, rig.NetDelay: slowLinks,
	rig.PowerOne: powerOne, rig.PowerMinority: powerMinority, rig.PowerAll: powerAll, rig.PowerTorn: powerTorn,
	rig.DiskError: diskError, rig.DiskFull: fillDisk, rig.DiskFrozen: freezeDisk, rig.DiskSlow: diskSlow, rig.DiskReadOnly: abortDisk,
	rig.PauseLeader: pauseLeader, rig.PauseShard: pauseShard, rig.PauseRandom: pauseRandom,
	rig.KillLeader: killLeader, rig.KillShard: killShard, rig.KillAgent: killAgent, rig.KillRandom: killRandom,
	rig.KillMasters: killMasters, rig.KillAll: killAll, rig.KillRolling: killRolling,
	rig.CorruptFlip: corruptFlip, rig.CorruptTruncate: corruptTruncate,
	rig.ClockBump: bumpClock, rig.ClockStrobe: strobeClock, rig.ClockDrift: driftClock,
	rig.SqueezeCPU: squeezeCPU, rig.SqueezeMemory: squeezeMemory,
	rig.SnapshotForce: forceSnapshots, rig.LeaderTransfer: transferLeader, rig.ShardTransfer: transferShard,
	rig.ReplicaReplace: replaceReplica, rig.MasterReplace: replaceMaster,
	rig.SinkDown: sinkDown, rig.SinkSlow: sinkSlow, rig.SinkError: sinkError,
	rig.KindPoint: atPoint,
}

// Inject implements rig.Grid.
func (g *Grid) Inject(ctx context.Context, f rig.Fault) (rig.Injected, error) {
	spec, err := rig.Lookup(f.Kind)
	if err != nil {
		return nil, err
	}
	run, known := handlers[f.Kind]
	if !known {
		return nil, fmt.Errorf("%s: %w: rig P has no means for it", f.Kind, rig.ErrUnsupported)
	}
	if err := g.permits(spec); err != nil {
		return nil, err
	}
	h := fnv.New64a()
	h.Write([]byte(f.Kind))
	t := &trial{g: g, fault: f, spec: spec, rng: rand.New(rand.NewPCG(f.Dice, h.Sum64()))}
	g.mu.Lock()
	if g.trial != nil || g.closed {
		g.mu.Unlock()
		return nil, fmt.Errorf("%s: another fault lasts, or the grid is closed", f.Kind)
	}
	g.trial = t
	g.mu.Unlock()
	g.logs.begin(f.Kind)
	if err := run(ctx, t); err != nil {
		_, healed := t.Heal(context.WithoutCancel(ctx))
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Kind, err), healed)
	}
	g.cfg.Log.Info("fault", "kind", f.Kind, "meets", strings.Join(t.met, " "))
	return t, nil
}

// permits tells what a kind of fault needs that is not there.
func (g *Grid) permits(spec rig.Spec) error {
	for _, n := range spec.Needs {
		if why, missing := g.lacks[n]; missing {
			return fmt.Errorf("%s: %w: it needs %s: %s", spec.Kind, rig.ErrUnsupported, n, why)
		}
	}
	return nil
}

// Heal implements rig.Injected.
func (t *trial) Heal(ctx context.Context) (rig.Proof, error) {
	err := t.undo(ctx)
	err = errors.Join(err, t.g.revive(ctx))
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	for _, m := range t.g.machines {
		m.met = false
	}
	if t.g.trial == t {
		t.g.trial = nil
	}
	if err != nil {
		err = fmt.Errorf("heal %s: %w", t.fault.Kind, err)
	}
	return rig.Proof{What: t.spec.Proof, Count: t.count.Load(), Met: strings.Join(t.met, " ")}, err
}

// undo ends what the fault does; nothing is started.
func (t *trial) undo(ctx context.Context) error {
	var faults []error
	for _, fn := range slices.Backward(t.heals) {
		faults = append(faults, fn(ctx))
	}
	t.heals = nil
	return errors.Join(faults...)
}

// The choosers: whom a fault meets.

func (t *trial) leader(ctx context.Context) (victim, error) {
	m, _, err := t.g.desk.leader(ctx)
	return victim{m: m}, err
}

func (t *trial) shardLeader(ctx context.Context) (victim, error) {
	_, lead, _, err := t.g.desk.shardLeader(ctx, t.rng.Uint64())
	return lead, err
}

// anybody is any process.
func (t *trial) anybody() victim { return pick(t, all(t.g.machines...)) }

// followers are the masters that do not lead.
func (t *trial) followers(ctx context.Context) ([]*machine, error) {
	lead, _, err := t.g.desk.leader(ctx)
	list := slices.DeleteFunc(t.g.of(roleMaster), func(m *machine) bool { return m == lead })
	if err == nil && len(list) == 0 {
		err = errors.New("there is one master only")
	}
	return list, err
}

// minority is how many of n may fail while the others are still a majority.
func minority(n int) int { return (n - 1) / 2 }
