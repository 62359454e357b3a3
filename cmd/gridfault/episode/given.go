package episode

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/workload"
)

// Given is a grid that was there before the run, as a plan names it.
type Given struct {
	Masters    []string `json:"masters"`              // grid addresses, host:port
	Hook       string   `json:"hook,omitempty"`       // the program that makes the faults; empty: there are none in the plan
	Disruptive bool     `json:"disruptive,omitempty"` // workloads may run that do more than write data of their own, or are for grids that change
}

// LongestGiven is the longest load on a grid that was given: the feed of that time, of everybody, is held in memory to be judged.
const LongestGiven = 30 * time.Minute

// Permits is nil for a workload that may run on the grid.
func (g *Given) Permits(s workload.Spec) error {
	if s.Disrupts == "" || g.Disruptive {
		return nil
	}
	return fmt.Errorf("workload %s: %s; on a grid of yours it takes --disruptive", s.ID, s.Disrupts)
}

// hookName is how a fault that a program makes is named: it is an argument of that program, and words of a flag end with commas.
var hookName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ParseHook reads "hook:NAME" or "outage:NAME".
func ParseHook(text string) (rig.Fault, error) {
	kind, name, _ := strings.Cut(text, ":")
	f := rig.Fault{Kind: rig.Kind(kind), Label: name}
	if !byHook(f.Kind) || !hookName.MatchString(name) {
		return f, fmt.Errorf("fault %q: on a grid of yours want %s:NAME, or %s:NAME if no majority is left meanwhile; a name has letters, digits, '.', '_' and '-'",
			text, rig.KindHook, rig.KindOutage)
	}
	return f, nil
}

// byHook tells whether a program of the user's makes faults of a kind.
func byHook(k rig.Kind) bool { return k == rig.KindHook || k == rig.KindOutage }

// validate says what is wrong with a plan for a grid that was given. How many masters, shards and replicas there are is the grid's to say.
func (g *Given) validate(p *Plan) error {
	var wrong []error
	if len(g.Masters) == 0 {
		wrong = append(wrong, errors.New("no master's address"))
	}
	if p.Mutation != "" || p.Under != nil {
		wrong = append(wrong, errors.New("what is broken, and faults under others, are of grids that are started for it"))
	}
	if length := p.Length(); length > LongestGiven {
		wrong = append(wrong, fmt.Errorf("a load of %s: want at most %s; --for makes one run after the other", length, LongestGiven))
	} else if p.Rate > 0 && p.Rate*length.Seconds() < LeastOK {
		wrong = append(wrong, fmt.Errorf("%g requests a second for %s are fewer than the %d that it takes to judge", p.Rate, length, LeastOK))
	}
	if g.Hook != "" && len(p.Faults) == 0 {
		wrong = append(wrong, fmt.Errorf("a load of %s has no room for a fault: want more than %s", p.Length(), warmTime))
	}
	for _, id := range p.Workloads {
		if spec, err := workload.Lookup(id); err == nil {
			wrong = append(wrong, g.Permits(spec))
		}
	}
	for _, f := range p.Faults {
		if _, err := ParseHook(f.Name()); err != nil {
			wrong = append(wrong, err)
		} else if g.Hook == "" {
			wrong = append(wrong, fmt.Errorf("fault %s: no --hook that makes it", f.Name()))
		}
	}
	return errors.Join(wrong...)
}

// Length is how long the load of a plan lasts, when healing takes no time.
func (p *Plan) Length() time.Duration {
	length := p.Warm
	for _, f := range p.Faults {
		length += f.Hold + f.Rest
	}
	return length
}

// drawGiven is the plan of a seed for a grid that was given: faults of the names that there are, or a load without any.
func drawGiven(seed uint64, b Bounds) (Plan, error) {
	dice := rand.New(rand.NewPCG(seed, 0x6769766e))
	p := Plan{Seed: seed, Rig: RigGiven, Given: b.Given, Clients: cmp.Or(b.Clients, ordinary), Warm: warmTime}
	p.Rate = cmp.Or(b.Rate, float64(max(processRate, clientRate*p.Clients)))
	if len(b.Workloads) > 0 {
		p.Workloads = []string{b.Workloads[dice.IntN(len(b.Workloads))]}
	}
	if len(b.Hooks) == 0 {
		p.Warm = b.Length
		return p, p.Validate()
	}
	p.fill(b.Length-warmTime, func() rig.Fault {
		f := drawFault([]rig.Kind{rig.KindHook}, b, false, dice)
		hook := b.Hooks[dice.IntN(len(b.Hooks))]
		f.Kind, f.Label = hook.Kind, hook.Label
		return f
	})
	return p, p.Validate()
}
