package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// The budget within which a mutation must be caught.
const (
	mutationSeeds = 40 // runs in virtual time
	mutationRuns  = 6  // runs of real processes
)

// What must show nothing: runs of the product as it is, the same otherwise.
const (
	controlSeeds = 8
	controlRuns  = 1
)

// mutant is one thing to break: the product (internal/fault) or the suite itself (workload).
type mutant struct {
	name      string
	harness   bool
	what      string
	anomalies []string // any one of them shows it
	workloads []string
	faults    []string
	rigs      string        // "S", "P" or "SP"
	hold      time.Duration // that a fault lasts at least; 0: as it is drawn
	clients   int           // 0: as many as otherwise
}

// mutants is all of them.
func mutants() []mutant {
	var all []mutant
	for _, m := range fault.Mutations() {
		all = append(all, mutant{m.Name, false, m.What, m.Anomalies, m.Workloads, m.Faults, m.Rigs, m.Hold, m.Clients})
	}
	for _, h := range episode.Harnesses() {
		all = append(all, mutant{string(h.Name), true, h.What, h.Anomalies, h.Workloads, h.Faults, "S", h.Hold, 0})
	}
	return all
}

func listMutations(out io.Writer) {
	fmt.Fprintln(out, "MUTATION\tWHAT IS BROKEN\tSHOWS AS\tRIG\tWORKLOADS\tFAULTS")
	for _, m := range mutants() {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", m.name, m.what, strings.Join(m.anomalies, " "), m.rigs, strings.Join(m.workloads, " "), strings.Join(m.faults, " "))
	}
}

// caught is what a hunt for a mutation has brought.
type caught struct {
	class string
	seed  uint64
	took  time.Duration // of real time
	runs  int
}

// mutations breaks the product in the ways that are named, one after the other, and fails when one is not caught.
func (s *suite) mutations(ctx context.Context, b episode.Bounds, names string) error {
	chosen, err := choose(names, s.seed)
	if err != nil {
		return err
	}
	var missed []string
	fmt.Fprintln(s.out, "| mutation | verdict | anomaly | seed | time to detection | command |\n|---|---|---|---|---|---|")
	for _, m := range chosen {
		c, err := s.hunt(ctx, b, m)
		if err != nil {
			return fmt.Errorf("mutation %s: %w", m.name, err)
		}
		word := s.said(c)
		if word != "caught" && word != "clean" {
			missed = append(missed, m.name)
		}
		fmt.Fprintf(s.out, "| %s | %s | %s | %d | %s | `gridfault run --mutation %s --seed %d` |\n", m.name, word, c.class, c.seed, c.took.Round(100*time.Millisecond), m.name, c.seed)
	}
	if len(missed) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(missed, ", "), errInvalid)
	}
	return nil
}

// said is what a hunt comes to, in a word or two.
func (s *suite) said(c caught) string {
	switch {
	case s.control && c.class == "":
		return "clean"
	case s.control:
		return "shown by the product as it is"
	case c.class == "":
		return "not caught"
	}
	return "caught"
}

// slow are those of rig S that take minutes to be caught, or, double-write, now and then more seeds than there are: the rotation leaves them
// to the night.
var slow = []string{"exclusive-locks-shared", "in-doubt-never-resolved", "double-write"}

// choose finds mutations by name; "all", or "next N" of those of rig S, by rotation from a seed.
func choose(names string, seed uint64) ([]mutant, error) {
	all := slices.DeleteFunc(mutants(), func(m mutant) bool { return m.rigs == "" })
	if names == "all" {
		return all, nil
	}
	if n, ok := strings.CutPrefix(names, "next "); ok {
		count, err := strconv.Atoi(n)
		if err != nil || count < 1 {
			return nil, usagef("mutation %q: want next N", names)
		}
		all = slices.DeleteFunc(all, func(m mutant) bool { return !strings.Contains(m.rigs, "S") || slices.Contains(slow, m.name) })
		var out []mutant
		for i := range min(count, len(all)) {
			out = append(out, all[(seed+uint64(i))%uint64(len(all))])
		}
		return out, nil
	}
	var out []mutant
	for _, name := range list(names) {
		i := slices.IndexFunc(all, func(m mutant) bool { return m.name == name })
		if i < 0 {
			return nil, usagef("mutation %q: there is none of this name that a run can see; gridfault list mutations shows them", name)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// hunt runs seeds until one shows the mutation, or the budget is used up.
func (s *suite) hunt(ctx context.Context, b episode.Bounds, m mutant) (caught, error) {
	began := time.Now()
	b.Workloads, b.Hold, b.Clients = m.workloads, m.hold, m.clients
	met(&b, m.faults)
	b.Length = max(b.Length, b.Room())
	c := caught{}
	each := func(dir string, v *episode.Verdict) (bool, error) {
		c.runs++
		if class := m.shownBy(v); class != "" {
			c.class, c.seed, c.took = class, v.Plan.Seed, time.Since(began)
		}
		if s.keep || s.control && c.class != "" {
			return c.class != "", s.tell(dir, v)
		}
		return c.class != "", s.drop(dir)
	}
	if strings.Contains(m.rigs, "S") {
		b.Rig = episode.RigSim
		plans, err := s.broken(m, b)
		if err == nil {
			err = s.simulate(ctx, plans, each)
		}
		return c, err
	}
	b.Rig = episode.RigProcesses
	plans, err := s.broken(m, b)
	for _, p := range plans {
		if err != nil || c.class != "" {
			break
		}
		var v *episode.Verdict
		var dir string
		if v, dir, err = s.process(ctx, p); err == nil {
			_, err = each(dir, v)
		}
	}
	return c, err
}

// met bounds faults to those that a table names: kinds, a labelled point "LABEL:ACTION", or "KIND/KIND", of which the first lasts while the
// second comes and goes. A list has one point and one first at most.
func met(b *episode.Bounds, faults []string) {
	b.Kinds, b.Point, b.Under = nil, "", ""
	for _, f := range faults {
		if under, over, ok := strings.Cut(f, "/"); ok {
			b.Under, f = rig.Kind(under), over
		}
		if strings.Contains(f, ":") {
			b.Point, f = f, string(rig.KindPoint)
		}
		b.Kinds = append(b.Kinds, f)
	}
}

// broken is plans of a grid, or of a suite, that is broken; of one that is not, for control.
func (s *suite) broken(m mutant, b episode.Bounds) ([]episode.Plan, error) {
	n := mutationSeeds
	switch {
	case s.control && b.Rig == episode.RigSim:
		return s.draws(controlSeeds, b)
	case s.control:
		return s.draws(controlRuns, b)
	case b.Rig == episode.RigProcesses:
		n = mutationRuns
	}
	plans, err := s.draws(n, b)
	for i := range plans {
		if m.harness {
			plans[i].Harness = episode.Harness(m.name)
		} else {
			plans[i].Mutation = m.name
		}
	}
	return plans, err
}

// shownBy is the class by which a verdict shows a mutation; "": it does not.
func (m mutant) shownBy(v *episode.Verdict) string {
	for _, class := range v.Classes() {
		if name := strings.TrimSuffix(strings.TrimSuffix(class, "-realtime"), "-process"); slices.Contains(m.anomalies, class) || slices.Contains(m.anomalies, name) {
			return class
		}
	}
	return ""
}
