package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/processes"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
)

// The profiles. The fast one fits into five minutes on two cores.
const (
	fastSim       = 75 * time.Second // of fresh seeds
	fastEpisodes  = 6
	fastLength    = 15 * time.Second
	fastMutations = "next 3"
	nightSeeds    = 2000
	soakPart      = time.Minute // after which workloads and faults are drawn anew
)

// profile runs one of the three.
func (s *suite) profile(ctx context.Context, name string, soak time.Duration) error {
	switch name {
	case "fast":
		return s.fast(ctx)
	case "night":
		return s.night(ctx)
	case "soak":
		return s.soak(ctx, soak)
	}
	return usagef("profile %q: there are fast, night and soak", name)
}

// both runs one part after the other, and all of them though one was not valid.
func both(parts ...func() error) error {
	invalid := false
	for _, part := range parts {
		if err := part(); errors.Is(err, errInvalid) {
			invalid = true
			continue
		} else if err != nil {
			return err
		}
	}
	if invalid {
		return errInvalid
	}
	return nil
}

// known runs what has found something before.
func (s *suite) known(ctx context.Context, rig string) error {
	plans, err := known(rig)
	if err != nil {
		return err
	}
	return s.all(ctx, plans)
}

func (s *suite) fast(ctx context.Context) error {
	fmt.Fprintf(s.out, "seeds from %d\n", s.seed)
	return both(
		func() error { return s.known(ctx, episode.RigSim) },
		func() error {
			s.bounds.Rig = episode.RigSim
			return s.span(ctx, fastSim)
		},
		func() error {
			s.bounds.Rig, s.bounds.Length = episode.RigProcesses, fastLength
			var plans []episode.Plan
			for i := range fastEpisodes {
				p, err := s.draw(s.seed+uint64(i), s.bounds)
				if err != nil {
					return err
				}
				plans = append(plans, p)
			}
			return s.all(ctx, plans)
		},
		func() error {
			s.bounds.Length = simLength
			return s.mutations(ctx, fastMutations)
		},
	)
}

func (s *suite) night(ctx context.Context) error {
	fmt.Fprintf(s.out, "seeds from %d\n", s.seed)
	return both(
		func() error { return s.known(ctx, episode.RigSim) },
		func() error { return s.known(ctx, episode.RigProcesses) },
		func() error {
			s.bounds.Rig = episode.RigSim
			for done := 0; done < nightSeeds; done += s.batch() {
				var plans []episode.Plan
				for i := range min(s.batch(), nightSeeds-done) {
					p, err := s.draw(s.seed+uint64(done+i), s.bounds)
					if err != nil {
						return err
					}
					plans = append(plans, p)
				}
				if err := s.all(ctx, plans); err != nil && !errors.Is(err, errInvalid) {
					return err
				}
			}
			return s.end()
		},
		func() error {
			s.bounds.Rig, s.bounds.Length = episode.RigProcesses, processLength
			return s.pairs(ctx)
		},
		func() error {
			s.bounds.Length = simLength
			return s.mutations(ctx, "all")
		},
	)
}

// soak keeps one grid of processes under load and faults, and looks at what grows.
func (s *suite) soak(ctx context.Context, length time.Duration) (err error) {
	s.bounds.Rig, s.bounds.Length, s.bounds.Masters, s.bounds.Replicas = episode.RigProcesses, soakPart, 3, 3
	first, err := s.draw(s.seed, s.bounds)
	if err != nil {
		return err
	}
	dir, err := s.place(first)
	if err != nil {
		return err
	}
	g, err := processes.Open(ctx, s.processes(first, dir))
	if err != nil {
		return fmt.Errorf("start the grid: %w", err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	var all []episode.Sample
	for began := time.Now(); time.Since(began) < length; s.seed++ {
		p, err := s.draw(s.seed, s.bounds)
		if err != nil {
			return err
		}
		part, err := s.place(p)
		if err != nil {
			return err
		}
		offset := time.Since(began)
		v, err := episode.Run(ctx, g, p, part)
		if err != nil {
			return fmt.Errorf("seed %d: %w; the grid is in %s", p.Seed, err, filepath.Join(dir, "grid"))
		}
		for _, sample := range v.Usage {
			sample.At += offset
			all = append(all, sample)
		}
		if err := s.tell(part, v); err != nil {
			return err
		}
	}
	if err := report.WriteSlopes(s.dir, s.out, all); err != nil {
		return err
	}
	return s.end()
}
