package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/processes"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/report"
)

// The profiles. The fast one fits into five minutes on two cores.
const (
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

// atOnce runs both parts at the same time.
func atOnce(a, b func() error) error {
	other := make(chan error, 1)
	go func() { other <- b() }()
	return both(a, func() error { return <-other })
}

// known runs what has found something before.
func (s *suite) known(ctx context.Context, rig string) error {
	plans, err := known(rig)
	if err != nil {
		return err
	}
	return s.all(ctx, plans)
}

// fast has virtual time pass in what real processes leave of the machine, and for as long as they run: they mostly wait, and it does not matter how
// long a run takes.
func (s *suite) fast(ctx context.Context) error {
	fmt.Fprintf(s.out, "seeds from %d\n", s.seed)
	s.yields = true
	virtual, real := s.bounds, s.bounds
	virtual.Rig, real.Rig, real.Length = episode.RigSim, episode.RigProcesses, fastLength
	plans, err := s.draws(fastEpisodes, real)
	if err != nil {
		return err
	}
	var over atomic.Bool
	return atOnce(func() error {
		return both(
			func() error { return s.known(ctx, episode.RigSim) },
			func() error { return s.mutations(ctx, virtual, fastMutations) },
			func() error { return s.span(ctx, virtual, func() bool { return !over.Load() }) },
		)
	}, func() error {
		defer over.Store(true)
		return s.all(ctx, plans)
	})
}

func (s *suite) night(ctx context.Context) error {
	fmt.Fprintf(s.out, "seeds from %d\n", s.seed)
	return both(
		func() error { return s.known(ctx, episode.RigSim) },
		func() error { return s.known(ctx, episode.RigProcesses) },
		func() error {
			b := s.bounds
			b.Rig = episode.RigSim
			plans, err := s.draws(nightSeeds, b)
			if err != nil {
				return err
			}
			return s.all(ctx, plans)
		},
		func() error {
			b := s.bounds
			b.Rig, b.Length = episode.RigProcesses, processLength
			return s.pairs(ctx, b)
		},
		func() error {
			return s.mutations(ctx, s.bounds, "all")
		},
	)
}

// soak keeps one grid of processes under load and faults, and looks at what grows.
func (s *suite) soak(ctx context.Context, length time.Duration) (err error) {
	b := s.bounds
	b.Rig, b.Length, b.Masters, b.Replicas = episode.RigProcesses, soakPart, 3, 3
	first, err := s.draw(s.seed, b)
	if err != nil {
		return err
	}
	dir, err := s.empty("soak") // its parts have places of their own
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
		p, err := s.draw(s.seed, b)
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
