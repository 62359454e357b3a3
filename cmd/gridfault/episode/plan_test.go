package episode

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// TestDraw: a plan follows from its seed, fits into its length, and is one that may be run.
func TestDraw(t *testing.T) {
	b := Bounds{Rig: RigSim, Length: 20 * time.Second}
	kinds, workloads := map[rig.Kind]bool{}, map[string]bool{}
	for seed := range uint64(500) {
		p, err := Draw(seed, b)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := Draw(seed, b); !reflect.DeepEqual(p, again) {
			t.Fatalf("seed %d: two plans", seed)
		}
		length := p.Warm
		for _, f := range p.Faults {
			length += f.Hold + f.Rest
			kinds[f.Kind] = true
		}
		workloads[p.Workloads[0]] = true
		if len(p.Faults) == 0 || length > b.Length {
			t.Errorf("seed %d: %d faults in %s", seed, len(p.Faults), length)
		}
	}
	for _, spec := range rig.Kinds() {
		if spec.Sim != kinds[spec.Kind] && spec.Kind != rig.KindPoint {
			t.Errorf("%s: in virtual time %v, drawn %v", spec.Kind, spec.Sim, kinds[spec.Kind])
		}
	}
	if len(workloads) < 9 {
		t.Errorf("only %v are drawn", workloads)
	}
}

func TestDrawWithinBounds(t *testing.T) {
	for seed := range uint64(100) {
		p, err := Draw(seed, Bounds{Rig: RigProcesses, Length: 15 * time.Second, Workloads: []string{"W4"}, Kinds: []string{"kill", "clock.bump"}, Masters: 3, Replicas: 3})
		if err != nil || p.Masters != 3 || p.Replicas != 3 || p.Workloads[0] != "W4" {
			t.Fatalf("%+v, %v", p, err)
		}
		for _, f := range p.Faults {
			if !strings.HasPrefix(string(f.Kind), "kill.") && f.Kind != rig.ClockBump {
				t.Errorf("%s was drawn", f.Kind)
			}
		}
	}
	for seed := range uint64(100) { // masters alone have work, so no point of a storage node is waited for
		p, err := Draw(seed, Bounds{Rig: RigProcesses, Length: 15 * time.Second, Workloads: []string{"W1"}, Kinds: []string{"point"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Faults {
			if !f.Masters || strings.HasPrefix(f.Label, "txn.") || strings.HasPrefix(f.Label, "shard.") || strings.HasPrefix(f.Label, "engine.") {
				t.Errorf("%+v", f)
			}
		}
	}
	if _, err := Draw(1, Bounds{Rig: RigSim, Kinds: []string{"clock"}}); !errors.Is(err, rig.ErrUnsupported) {
		t.Errorf("no fault is left: %v", err)
	}
	if _, err := Draw(1, Bounds{Rig: RigSim, Kinds: []string{"earthquake"}}); err == nil || errors.Is(err, rig.ErrUnsupported) {
		t.Errorf("a family that is not there: %v", err)
	}
}

// TestDrawGiven: on a grid that was given only the faults come that were named, or none; and what may not be done there is no plan.
func TestDrawGiven(t *testing.T) {
	given := &Given{Masters: []string{"h:1"}, Hook: "/bin/true"}
	b := Bounds{Rig: RigGiven, Length: time.Minute, Workloads: []string{"W3"}, Given: given, Hold: 5 * time.Second,
		Hooks: []rig.Fault{{Kind: rig.KindHook, Label: "a"}, {Kind: rig.KindOutage, Label: "b.2"}}}
	p, err := Draw(1, b)
	if again, _ := Draw(1, b); err != nil || !reflect.DeepEqual(p, again) || p.Length() > time.Minute {
		t.Fatalf("%+v, %v", p, err)
	}
	names := map[string]bool{}
	for _, f := range p.Faults {
		names[f.Name()] = true
	}
	if len(names) != 2 || !names["hook:a"] || !names["outage:b.2"] || p.Faults[0].Hold < 5*time.Second {
		t.Errorf("drawn: %+v", p.Faults)
	}
	quiet := b
	quiet.Hooks, quiet.Given = nil, &Given{Masters: given.Masters}
	if p, err := Draw(1, quiet); err != nil || len(p.Faults) > 0 || p.Length() != time.Minute {
		t.Errorf("without faults: %+v, %v", p, err)
	}
	for want, spoil := range map[string]func(*Plan){
		"no master's":  func(p *Plan) { p.Given = &Given{Hook: "x"} },
		"a grid is":    func(p *Plan) { p.Given = nil },
		"--disruptive": func(p *Plan) { p.Workloads = []string{"W10"} },
		"--hook":       func(p *Plan) { p.Given = &Given{Masters: given.Masters} },
		"hook:NAME":    func(p *Plan) { p.Faults = []rig.Fault{{Kind: rig.KillLeader}} },
		"letters":      func(p *Plan) { p.Faults = []rig.Fault{{Kind: rig.KindHook, Label: "-rf /"}} },
		"no room":      func(p *Plan) { p.Faults = nil },
		"at most 30m":  func(p *Plan) { p.Warm = time.Hour },
		"the 500":      func(p *Plan) { p.Rate = 1 },
		"broken":       func(p *Plan) { p.Mutation = "latch-off" },
		"held for":     func(p *Plan) { p.Faults = []rig.Fault{{Kind: rig.KindHook, Label: "a", Rest: -1}} },
	} {
		p := p
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	ours := Plan{Seed: 1, Rig: RigProcesses, Masters: 3, Shards: 2, Replicas: 3, Workloads: []string{"W3"}, Clients: 1, Faults: []rig.Fault{{Kind: rig.KindHook, Label: "a"}}}
	if err := ours.Validate(); err == nil || !strings.Contains(err.Error(), "given, alone") {
		t.Errorf("a hook on a grid of ours: %v", err)
	}
}

func TestValidate(t *testing.T) {
	good, err := Draw(1, Bounds{Rig: RigSim, Length: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Plan){
		"rig":            func(p *Plan) { p.Rig = "q" },
		"2 masters":      func(p *Plan) { p.Masters = 2 },
		"0 replicas":     func(p *Plan) { p.Replicas = 0 },
		"17 shards":      func(p *Plan) { p.Shards = 17 },
		"no workload":    func(p *Plan) { p.Workloads = nil },
		"W99":            func(p *Plan) { p.Workloads = []string{"W99"} },
		"virtual time":   func(p *Plan) { p.Faults = []rig.Fault{{Kind: rig.ClockBump}} },
		"no such kind":   func(p *Plan) { p.Faults = []rig.Fault{{Kind: "x.y"}} },
		"belong to kind": func(p *Plan) { p.Faults = []rig.Fault{{Kind: rig.KindPoint, Label: "raft.log.store"}} },
		"held for -1ns":  func(p *Plan) { p.Faults = []rig.Fault{{Kind: rig.KillLeader, Hold: -1}} },
		"0 clients":      func(p *Plan) { p.Clients = 0 },
		"rate -1":        func(p *Plan) { p.Rate = -1 },
	} {
		p := good
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
