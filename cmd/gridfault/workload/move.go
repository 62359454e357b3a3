package workload

import (
	"cmp"
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/internal/history"
)

// move is W8: W3 and W4 side by side, of which some transactions only read, and watchers of the shard map. What moves is the nemesis's.
type move struct {
	tally *Tally
	env   Env
	parts []Workload
}

func newMove(env Env) Workload {
	m := &move{tally: env.Tally, env: env}
	if m.tally == nil {
		m.tally = &Tally{}
	}
	half := env
	half.Tally, half.Rate, half.Clients = m.tally, env.Rate/2, (cmp.Or(env.Clients, ordinary)+1)/2
	m.parts = []Workload{newBank(half), newAppends(half)}
	return m
}

// Setup implements Workload.
func (m *move) Setup(ctx context.Context) error {
	m.env.History.Note(noteWorkload, "W8")
	return m.all(func(w Workload) error { return w.Setup(ctx) })
}

// Run implements Workload.
func (m *move) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return maps{m.env}.Run(ctx) })
	return errors.Join(m.all(func(w Workload) error { return w.Run(ctx) }), g.Wait())
}

// Settle implements Workload.
func (m *move) Settle(ctx context.Context) error {
	return m.all(func(w Workload) error { return w.Settle(ctx) })
}

func (m *move) all(do func(Workload) error) error {
	var g errgroup.Group
	for _, w := range m.parts {
		g.Go(func() error { return do(w) })
	}
	return g.Wait()
}

// Check implements Workload.
func (m *move) Check(l *history.Log) []history.Report { return append(checkMove(l), Complete(l)) }

func checkMove(l *history.Log) []history.Report {
	return append(append(checkBank(l), checkAppends(l)...), checkMaps(l))
}

// Leaves implements Workload.
func (m *move) Leaves() (all []string) {
	for _, w := range m.parts {
		all = append(all, w.Leaves()...)
	}
	return all
}

// Tally implements Workload.
func (m *move) Tally() *Tally { return m.tally }

// Close implements Workload.
func (m *move) Close() (err error) {
	for _, w := range m.parts {
		err = errors.Join(err, w.Close())
	}
	return err
}
