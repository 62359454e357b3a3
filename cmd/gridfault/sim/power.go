package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/disk"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// machine is what loses its power at once: a disk and the processes that use it.
type machine struct {
	host  string
	data  string // directory of its program
	procs []process
}

// machines is all machines.
func (g *Grid) machines() []machine {
	var all []machine
	for _, p := range g.masters {
		all = append(all, g.masterMachine(p))
	}
	for _, h := range g.homes {
		all = append(all, machine{h.host(), g.path(h.host(), 0), []process{h, h.lodger()}})
	}
	return append(all, machine{eventsHost, g.path(eventsHost, 0), []process{g.events}})
}

func (g *Grid) masterMachine(p *masterProcess) machine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return machine{p.host(), g.path(p.host(), p.life), []process{p}}
}

// furnish gives a machine its disk. In a build without fault points that is only a directory.
func (g *Grid) furnish(host string) error {
	root := filepath.Join(g.dir, host)
	if err := os.Mkdir(root, 0o755); err != nil || !fault.Enabled {
		return err
	}
	d, err := disk.New(root)
	if err != nil {
		return err
	}
	unmount, err := fault.Mount(root, d)
	if err != nil {
		return err
	}
	g.disks[host], g.unmount = d, append(g.unmount, unmount)
	return nil
}

// oneMachine is any.
func (g *Grid) oneMachine(r *rand.Rand) ([]machine, error) {
	all := g.machines()
	return []machine{all[r.IntN(len(all))]}, nil
}

// minority is a minority of the masters and, where shards have more voters than one, one machine with a node.
func (g *Grid) minority(r *rand.Rand) ([]machine, error) {
	masters := slices.Clone(g.masters)
	r.Shuffle(len(masters), func(i, j int) { masters[i], masters[j] = masters[j], masters[i] })
	var list []machine
	for _, p := range masters[:(len(masters)-1)/2] {
		list = append(list, g.masterMachine(p))
	}
	if g.cfg.Replicas > 1 {
		list = append(list, g.machines()[len(g.masters)+r.IntN(len(g.homes))])
	}
	return list, nil
}

// partKept are the chances that what was not synced comes back in part: a disk that forgets all of it hides other mistakes than one that
// keeps some, and one that has written down all names and the beginning of every file yet others.
func partKept(r *rand.Rand) float64 { return []float64{0, 0.3, 1}[r.IntN(3)] }

// restartLimit bounds the start of what a power loss has ended, and with it how long a process may take that does not start again.
const restartLimit = 15 * time.Second

// power makes an injector that takes the power from machines, and gives it back when it is healed. The proof is each machine that came
// back with what was synced; what that has cost is said with it, and may be nothing.
func power(choose func(*Grid, *rand.Rand) ([]machine, error)) injector {
	return func(g *Grid, _ context.Context, f rig.Fault) (*injected, error) {
		r := dice(f)
		chosen, err := choose(g, r)
		if err != nil {
			return nil, err
		}
		return g.powerOff(r, chosen)
	}
}

func (g *Grid) powerOff(r *rand.Rand, chosen []machine) (*injected, error) {
	for _, m := range chosen {
		g.net.Down(m.host) // before anything is lost: what was answered so far is on the disk
	}
	in := &injected{}
	var met []string
	chance := partKept(r)
	for _, m := range chosen {
		loss, err := g.disks[m.host].PowerOff(chance, r)
		if err != nil {
			return nil, fmt.Errorf("power off %s: %w", m.host, err)
		}
		met = append(met, fmt.Sprintf("%s: %d names and %d bytes lost", m.host, loss.Names, loss.Bytes))
	}
	for _, m := range chosen {
		for _, p := range m.procs {
			if err := p.kill(); err != nil {
				return nil, err
			}
		}
		if err := g.disks[m.host].PowerOn(); err != nil {
			return nil, fmt.Errorf("put the disk of %s back: %w", m.host, err)
		}
		in.count++
	}
	in.met = strings.Join(met, "; ")
	in.heal = func(ctx context.Context) error {
		for _, m := range chosen {
			g.net.Up(m.host)
		}
		limited, cancel := context.WithTimeout(ctx, restartLimit)
		defer cancel()
		if err := g.revive(limited); err != nil { // a machine that does not start on what it had synced is what this looks for
			g.tap.report("behind a power loss: %v", err)
		}
		return ctx.Err()
	}
	return in, nil
}

// powerTorn takes the power from a machine that has a log. What its logs had not synced is there in part; that may be nothing.
func (g *Grid) powerTorn(_ context.Context, f rig.Fault) (*injected, error) {
	r := dice(f)
	var some []machine
	for _, m := range g.machines() {
		logs, err := disk.Logs(m.data)
		if err != nil {
			return nil, err
		}
		if len(logs) > 0 {
			some = append(some, m)
		}
	}
	if len(some) == 0 {
		return nil, errNobody
	}
	m := some[r.IntN(len(some))]
	in, err := g.powerOff(r, []machine{m})
	if err != nil {
		return nil, err
	}
	torn, err := disk.Tear(m.data, r)
	if err != nil {
		return nil, err
	}
	in.met += fmt.Sprintf("; %d bytes of its last writes", torn)
	return in, nil
}
