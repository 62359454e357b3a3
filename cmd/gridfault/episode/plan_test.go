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
