package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// injected is a fault that lasts.
type injected struct {
	kind  rig.Kind
	trace *Trace
	met   string                          // whom
	count int64                           // what proves it; complete when heal has returned
	heal  func(ctx context.Context) error // ends the fault
	ended bool
}

// Heal implements rig.Injected.
func (i *injected) Heal(ctx context.Context) (rig.Proof, error) {
	if i.ended {
		return rig.Proof{}, fmt.Errorf("heal %s: it was healed before", i.kind)
	}
	i.ended = true
	spec, err := rig.Lookup(i.kind)
	if err != nil {
		return rig.Proof{}, err
	}
	if err := i.heal(ctx); err != nil {
		return rig.Proof{}, fmt.Errorf("heal %s (%s): %w", i.kind, i.met, err)
	}
	i.trace.happened("%s healed: %d %s, %s", i.kind, i.count, spec.Proof, i.met)
	return rig.Proof{What: spec.Proof, Count: i.count, Met: i.met}, nil
}

// injector makes one kind of fault happen.
type injector func(g *Grid, ctx context.Context, f rig.Fault) (*injected, error)

// injectors are the kinds that this rig can do.
func injectors() map[rig.Kind]injector {
	return map[rig.Kind]injector{
		rig.CutLeader:      network((*Grid).cutLeader),
		rig.CutLeaderAll:   network((*Grid).cutLeaderAll),
		rig.CutMinority:    network((*Grid).cutMinority),
		rig.CutRing:        network((*Grid).cutRing),
		rig.CutLeaderOut:   network((*Grid).cutLeaderOut),
		rig.CutLeaderIn:    network((*Grid).cutLeaderIn),
		rig.CutCoordinator: network((*Grid).cutCoordinator),
		rig.CutShardLeader: network((*Grid).cutShardLeader),
		rig.CutShipper:     network((*Grid).cutShipper),
		rig.CutClients:     network((*Grid).cutClients),
		rig.NetLoss:        network((*Grid).lossy),
		rig.NetDelay:       network((*Grid).slow),
		rig.PauseLeader:    network((*Grid).pauseLeader),
		rig.PauseShard:     network((*Grid).pauseShard),
		rig.PauseRandom:    network((*Grid).pauseRandom),
		rig.SinkSlow:       network((*Grid).slowSink),

		rig.KillLeader:  kills((*Grid).onlyLeader),
		rig.KillShard:   kills((*Grid).onlyShardLeader),
		rig.KillAgent:   kills((*Grid).onlyAgent),
		rig.KillRandom:  kills((*Grid).onlyRandom),
		rig.KillMasters: kills(func(g *Grid, _ *rand.Rand) ([]process, error) { return each(g.masters), nil }),
		rig.KillAll:     kills(func(g *Grid, _ *rand.Rand) ([]process, error) { return g.everything(), nil }),
		rig.SinkDown:    kills(func(g *Grid, _ *rand.Rand) ([]process, error) { return []process{g.events}, nil }),
		rig.KillRolling: (*Grid).rolling,

		rig.PowerOne:      power((*Grid).oneMachine),
		rig.PowerMinority: power((*Grid).minority),
		rig.PowerAll:      power(func(g *Grid, _ *rand.Rand) ([]machine, error) { return g.machines(), nil }),
		rig.PowerTorn:     (*Grid).powerTorn,

		rig.SnapshotForce:  (*Grid).snapshot,
		rig.LeaderTransfer: (*Grid).transfer,
		rig.ShardTransfer:  (*Grid).shardTransfer,
		rig.ReplicaReplace: (*Grid).replaceReplica,
		rig.MasterReplace:  (*Grid).replaceMaster,
		rig.KindPoint:      (*Grid).point,
	}
}

// Able tells whether this rig can make a fault of a kind happen in this build: disks learn what is synced from the fault points.
func Able(k rig.Kind) bool {
	spec, err := rig.Lookup(k)
	return err == nil && spec.Sim && (fault.Enabled || !strings.HasPrefix(string(k), "power."))
}

// Inject implements rig.Grid.
func (g *Grid) Inject(ctx context.Context, f rig.Fault) (rig.Injected, error) {
	if _, err := rig.Lookup(f.Kind); err != nil {
		return nil, err
	}
	inject := injectors()[f.Kind]
	if inject == nil || !Able(f.Kind) {
		return nil, fmt.Errorf("inject %s: %w", f.Kind, rig.ErrUnsupported)
	}
	i, err := inject(g, ctx, f)
	if err != nil {
		return nil, fmt.Errorf("inject %s: %w", f.Kind, err)
	}
	i.kind, i.trace = f.Kind, g.cfg.Trace
	i.trace.happened("%s begun: %s", f.Kind, i.met)
	return i, nil
}

// dice is what a fault's choices are drawn from.
func dice(f rig.Fault) *rand.Rand { return rand.New(rand.NewPCG(f.Dice, 1)) }
