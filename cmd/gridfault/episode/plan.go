// Package episode runs workloads on a grid while faults happen to it, and judges what came of it.
//
//	Draw(seed) -> Plan --Run--> grid + workloads + faults -> history, timeline -> rules, checkers -> Verdict
//
// Invariants: a plan is a function of its seed and its bounds alone; a verdict is valid only when there was enough to judge, every fault
// has shown its effect, and every checker was satisfied; what could not be judged is not valid.
package episode

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// The rigs.
const (
	RigSim       = "s" // virtual time
	RigProcesses = "p" // real processes
	RigGiven     = "g" // a grid that was there before
)

// Plan is all that a run follows. As JSON it can be stored and run again.
type Plan struct {
	Seed      uint64        `json:"seed"`
	Rig       string        `json:"rig"`
	Masters   int           `json:"masters"`
	Shards    int           `json:"shards"`
	Replicas  int           `json:"replicas"`
	Workloads []string      `json:"workloads"`
	Clients   int           `json:"clients"` // of each workload
	Rate      float64       `json:"rate"`    // operations per second in all; 0: as many as the grid takes
	Warm      time.Duration `json:"warm"`    // ns under load before the first fault
	Faults    []rig.Fault   `json:"faults"`
	Under     *rig.Fault    `json:"under,omitempty"`    // lasts while all others come and go; its Hold is not used
	Mutation  string        `json:"mutation,omitempty"` // how the product is broken on purpose
	Harness   Harness       `json:"harness,omitempty"`  // how the suite is broken on purpose
	Given     *Given        `json:"given,omitempty"`    // of RigGiven: which grid; masters, shards and replicas are then what it was seen to have
}

// Bounds are what a plan may be drawn from.
type Bounds struct {
	Rig       string
	Workloads []string // of which one is drawn; empty: any
	Kinds     []string // kinds or families of faults; empty: all that the rig can do
	Point     string   // "LABEL:ACTION" that faults of the kind point are; empty: any
	Able      func(rig.Kind) bool
	Length    time.Duration // of the load
	Clients   int           // 0: ten
	Under     rig.Kind      // of a fault under which all others happen; empty: none
	Hold      time.Duration // that a fault lasts at least; 0: half a second
	Masters   int           // 0: three, sometimes five in rig S
	Replicas  int           // 0: one or three
	Rate      float64       // requests per second; 0: as it is ordinary for the rig
	Given     *Given        // of RigGiven
	Hooks     []rig.Fault   // of RigGiven: the faults to draw from, by kind and label; empty: none
}

// Bounds of what is drawn, in the time of the rig.
const (
	simRequests         = 1500 // of a run in virtual time: enough to judge by, and few enough for seconds of a core
	processRate         = 300  // requests per second of real processes
	clientRate          = 15   // of one client, where there are many
	ordinary            = 10   // clients
	warmTime            = 2 * time.Second
	seriesTime          = 40 * time.Second // eight faults or so
	leastHold, mostHold = 500 * time.Millisecond, 4 * time.Second
	leastRest, mostRest = 1500 * time.Millisecond, 3 * time.Second
	shards              = 2 // in rig S and rig P: a transaction over shards needs two, W3 adds its own third concept
)

// Validate says everything that is wrong with a plan.
func (p *Plan) Validate() error {
	var wrong []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	check(p.Rig == RigSim || p.Rig == RigProcesses || p.Rig == RigGiven, "rig %q: want %s, %s or %s", p.Rig, RigSim, RigProcesses, RigGiven)
	given := p.Given != nil
	check(given == (p.Rig == RigGiven), "rig %s: a grid is given for %s, and for it alone", p.Rig, RigGiven)
	check(given || p.Masters == 1 || p.Masters == 3 || p.Masters == 5, "%d masters: want 1, 3 or 5", p.Masters)
	check(given || p.Replicas == 1 || p.Replicas == 3 || p.Replicas == 5, "%d replicas: want 1, 3 or 5", p.Replicas)
	check(given || p.Shards > 0 && p.Shards <= 16, "%d shards: want 1 to 16", p.Shards)
	check(p.Clients > 0, "%d clients", p.Clients)
	check(p.Rate >= 0, "rate %v", p.Rate)
	check(len(p.Workloads) > 0, "no workload")
	for _, id := range p.Workloads {
		_, err := workload.Lookup(id)
		check(err == nil, "%w", err)
	}
	all := p.Faults
	if p.Under != nil {
		all = append(slices.Clone(all), *p.Under)
	}
	for i, f := range all {
		spec, err := rig.Lookup(f.Kind)
		check(err == nil, "%w", err)
		check(p.Rig != RigSim || err != nil || spec.Sim, "fault %d, %s: not in virtual time", i+1, f.Kind)
		check(f.Hold >= 0 && f.Rest >= 0, "fault %d, %s: held for %s, rest of %s", i+1, f.Kind, f.Hold, f.Rest)
		check(given || !byHook(f.Kind), "fault %d, %s: on a grid that is given, alone", i+1, f.Kind)
		check(byHook(f.Kind) || (f.Kind == rig.KindPoint) == (f.Label != "" && f.Action != ""), "fault %d, %s: label %q, action %q belong to kind %s, and both to it", i+1, f.Kind, f.Label, f.Action, rig.KindPoint)
	}
	if given {
		wrong = append(wrong, p.Given.validate(p))
	}
	return errors.Join(wrong...)
}

// Match is the kinds that a list of kinds and families names; an empty list names all but labelled points, which need a label.
func Match(names []string) ([]rig.Kind, error) {
	var out []rig.Kind
	for _, spec := range rig.Kinds() {
		if len(names) == 0 && spec.Kind != rig.KindPoint {
			out = append(out, spec.Kind)
		}
	}
	for _, name := range names {
		before := len(out)
		for _, spec := range rig.Kinds() {
			if family, _, _ := strings.Cut(string(spec.Kind), "."); string(spec.Kind) == name || family == name {
				out = append(out, spec.Kind)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("fault %q: neither a kind nor a family; gridfault list faults shows them", name)
		}
	}
	return out, nil
}

// Families is the families of faults, in the order of the table.
func Families() []string {
	var out []string
	for _, spec := range rig.Kinds() {
		if family, _, _ := strings.Cut(string(spec.Kind), "."); !slices.Contains(out, family) {
			out = append(out, family)
		}
	}
	return out
}

// Room is the least length of a load in which what these bounds ask for has a place: a fault of that hold, or a series of faults under another.
func (b Bounds) Room() time.Duration {
	switch {
	case b.Under != "":
		return seriesTime
	case b.Hold > 0:
		return warmTime + b.Hold + mostHold - leastHold + mostRest
	}
	return 0
}

// Draw is the plan of a seed.
func Draw(seed uint64, b Bounds) (Plan, error) {
	if b.Given != nil {
		return drawGiven(seed, b)
	}
	dice := rand.New(rand.NewPCG(seed, 0x6661756c74))
	kinds, err := Match(b.Kinds)
	if err != nil {
		return Plan{}, err
	}
	kinds = slices.DeleteFunc(kinds, func(k rig.Kind) bool {
		spec, err := rig.Lookup(k)
		return err != nil || b.Rig == RigSim && !spec.Sim || b.Able != nil && !b.Able(k)
	})
	p := Plan{Seed: seed, Rig: b.Rig, Masters: b.Masters, Shards: shards, Replicas: b.Replicas, Clients: cmp.Or(b.Clients, ordinary), Warm: warmTime}
	p.Rate = float64(max(processRate, clientRate*p.Clients))
	if b.Rig == RigSim {
		p.Rate = simRequests / max(b.Length-warmTime, time.Second).Seconds()
	}
	p.Rate = cmp.Or(b.Rate, p.Rate)
	if p.Masters == 0 {
		p.Masters = 3
		if b.Rig == RigSim && dice.IntN(5) == 0 {
			p.Masters = 5
		}
	}
	if p.Replicas == 0 {
		p.Replicas = []int{3, 1}[dice.IntN(2)]
	}
	ids := b.Workloads
	if len(ids) == 0 {
		for _, spec := range workload.Workloads() {
			ids = append(ids, spec.ID)
		}
	}
	p.Workloads = []string{ids[dice.IntN(len(ids))]}
	kinds = slices.DeleteFunc(kinds, func(k rig.Kind) bool { return !p.fits(k) })
	if len(kinds) == 0 {
		return Plan{}, fmt.Errorf("faults %s with %s: %w", strings.Join(b.Kinds, ", "), p.Workloads[0], rig.ErrUnsupported)
	}
	if b.Under != "" {
		p.Under = &rig.Fault{Kind: b.Under, Dice: dice.Uint64()}
	}
	p.fill(b.Length-warmTime, func() rig.Fault { return drawFault(kinds, b, p.masters(), dice) })
	return p, p.Validate()
}

// fill has one fault follow the other for what is left of the load.
func (p *Plan) fill(left time.Duration, next func() rig.Fault) {
	for left > 0 {
		f := next()
		if f.Hold+f.Rest > left {
			f.Hold, f.Rest = min(f.Hold, left/2), left-min(f.Hold, left/2)
		}
		left -= f.Hold + f.Rest
		if f.Rest >= leastRest || len(p.Faults) == 0 {
			p.Faults = append(p.Faults, f)
		}
	}
}

// fits tells whether a fault can have an effect on what the plan runs.
func (p *Plan) fits(k rig.Kind) bool {
	// A fault between masters and shards, or of a shard that has nobody else to talk to, meets nothing where masters alone have work.
	off := p.masters()
	switch k {
	case rig.CutShardLeader:
		return p.Replicas > 1
	case rig.CutCoordinator:
		return !off
	case rig.PauseShard:
		return !off || p.Replicas > 1
	}
	return true
}

// masters tells whether clients ask masters alone.
func (p *Plan) masters() bool { return slices.Contains([]string{"W1", "W2", "W10"}, p.Workloads[0]) }

func drawFault(kinds []rig.Kind, b Bounds, masters bool, dice *rand.Rand) rig.Fault {
	hold := max(b.Hold, leastHold)
	f := rig.Fault{Kind: kinds[dice.IntN(len(kinds))], Dice: dice.Uint64(), Masters: masters, Hold: between(dice, hold, hold+mostHold-leastHold), Rest: between(dice, leastRest, mostRest)}
	if f.Kind == rig.KindPoint {
		if f.Label, f.Action, _ = strings.Cut(b.Point, ":"); b.Point == "" {
			f.Label, f.Action = drawPoint(masters, dice)
		}
	}
	return f
}

func between(dice *rand.Rand, least, most time.Duration) time.Duration {
	return (least + time.Duration(dice.Int64N(int64(most-least)))).Round(10 * time.Millisecond)
}
