package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

var errNobody = errors.New("no process runs that could be hurt")

// kills makes an injector that ends processes, and starts them again when it is healed.
func kills(choose func(*Grid, *rand.Rand) ([]process, error)) injector {
	return func(g *Grid, _ context.Context, f rig.Fault) (*injected, error) {
		chosen, err := choose(g, dice(f))
		if err != nil {
			return nil, err
		}
		in := &injected{heal: g.revive}
		var names []string
		for _, p := range chosen {
			if !p.alive() {
				continue
			}
			if err := p.kill(); err != nil {
				return nil, errors.Join(err, g.revive(context.Background()))
			}
			names = append(names, p.name())
		}
		in.count, in.met = int64(len(names)), strings.Join(names, ", ")
		return in, nil
	}
}

// revive starts all that does not run. Masters first and side by side: agents and nodes wait for them, not the other way round.
func (g *Grid) revive(ctx context.Context) error {
	g.loose.Wait() // for what ends by itself
	err := g.startAll(ctx, append(each(g.masters), g.events))
	var rest []process
	for _, h := range g.homes {
		err = errors.Join(err, h.start(ctx))
		rest = append(rest, h.lodger())
	}
	return errors.Join(err, g.startAll(ctx, rest))
}

func (g *Grid) onlyLeader(*rand.Rand) ([]process, error) {
	p, _, ok := g.leader()
	if !ok {
		return nil, errNoLeader
	}
	return []process{p}, nil
}

func (g *Grid) onlyShardLeader(r *rand.Rand) ([]process, error) {
	_, host, err := g.shardLeader(r)
	for _, h := range g.homes {
		if h.host() == host {
			return []process{h.lodger()}, nil
		}
	}
	return nil, err
}

func (g *Grid) onlyAgent(r *rand.Rand) ([]process, error) {
	return []process{g.homes[r.IntN(len(g.homes))]}, nil
}

func (g *Grid) onlyRandom(r *rand.Rand) ([]process, error) {
	p, err := g.any(r)
	return []process{p}, err
}

// any draws a process that runs.
func (g *Grid) any(r *rand.Rand) (process, error) {
	var up []process
	for _, p := range g.everything() {
		if p.alive() {
			up = append(up, p)
		}
	}
	if len(up) == 0 {
		return nil, errNobody
	}
	return up[r.IntN(len(up))], nil
}

// rolling kills one process after the other while the fault is held, each when the last one runs again; what is left when it is healed is
// spared.
func (g *Grid) rolling(_ context.Context, f rig.Fault) (*injected, error) {
	order := g.everything()
	r := dice(f)
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	in := &injected{}
	pause := f.Hold / 4
	go func() {
		var err error
		for _, p := range order {
			if ctx.Err() != nil {
				break
			}
			if !p.alive() {
				continue
			}
			if err = p.kill(); err != nil {
				break
			}
			in.count++
			in.met += fmt.Sprintf(" %s", p.name())
			rest(ctx, min(pause, rollingDown))
			if err = p.start(ctx); err != nil {
				break
			}
			rest(ctx, rollingUp)
		}
		if ctx.Err() != nil {
			err = nil // what a start says that was given up; revive starts it again
		}
		ended <- err
	}()
	in.heal = func(ctx context.Context) error {
		stop()
		return errors.Join(<-ended, g.revive(ctx))
	}
	return in, nil
}
