package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// share is one workload's part of a mix.
type share struct {
	name string
	of   float64
}

// shares are those of a soak: a knowledge graph is read more than it is written, and what the masters commit is, event by event, the
// dearest of the three, so that feed and event storage have as much to do as the shards. They add up to 1.
var shares = [...]share{{"get", 0.5}, {"put", 0.2}, {"feed", 0.3}}

// mix makes requests of several workloads, each by its share.
type mix struct{ parts []load.Workload }

// newMix prepares all workloads. Each has a seed of its own: put writes new concepts, not those that get reads.
func newMix(ctx context.Context, g *servers.Grid, seed uint64) (_ *mix, err error) {
	m := &mix{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	for i, s := range shares {
		w, err := load.New(s.name, load.Target{Masters: g.Masters, Connections: connections}, load.Options{Seed: seed + uint64(i)})
		if err != nil {
			return nil, err
		}
		m.parts = append(m.parts, w)
		if err := w.Prepare(ctx); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", s.name, err)
		}
	}
	return m, nil
}

// Do is an Op.
func (m *mix) Do(ctx context.Context, w *load.Worker) error {
	i := pick(w.Rand.Float64())
	if err := m.parts[i].Do(ctx, w); err != nil {
		return fmt.Errorf("%s: %w", shares[i].name, err)
	}
	return nil
}

// pick is the workload that a number from 0 to 1 falls to.
func pick(x float64) int {
	for i, s := range shares[:len(shares)-1] {
		if x -= s.of; x < 0 {
			return i
		}
	}
	return len(shares) - 1
}

// Close ends the connections.
func (m *mix) Close() error {
	var errs []error
	for _, w := range m.parts {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// aboutMix says it in words.
func aboutMix() string {
	var parts []string
	for _, s := range shares {
		parts = append(parts, fmt.Sprintf("%.0f %% %s", 100*s.of, s.name))
	}
	return strings.Join(parts, ", ")
}
