package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/transport"
)

// What the file of P14 holds, and how long a quick run goes on with it.
const (
	wordnetConcepts     = 117_659
	wordnetAssociations = 364_552
	quickImport         = 20 * time.Second
	importLimit         = 15 * time.Minute
)

// imported is what `gridctl import` says.
type imported struct {
	Concepts     uint64  `json:"concepts"`
	Associations uint64  `json:"associations"`
	Rate         float64 `json:"records_per_second"`
	Complete     bool    `json:"complete"`
}

// wordnet is P14: the figure is of one replica, the note has three. An import is a run of its own on a new grid, so there is one round.
func wordnet(ctx context.Context, b *bench) ([]report.Row, error) {
	row := b.row("P14", "records/s")
	row.Rounds = 1
	one, found, err := b.importInto(ctx, 1)
	if err != nil {
		return nil, err
	}
	row.SetAlone([]float64{one.Rate})
	row.Note = "one replica: " + found
	if b.quick {
		row.Met = false
		row.Note += "; three replicas are not part of a quick run"
		return []report.Row{b.done(row)}, nil
	}
	three, found, err := b.importInto(ctx, 3)
	if err != nil {
		return nil, err
	}
	row.Note += fmt.Sprintf("; three replicas: %.0f/s, %s", three.Rate, found)
	row.Met = one.Complete && three.Complete && one.Rate >= 40_000 && three.Rate >= 15_000
	return []report.Row{b.done(row)}, nil
}

// importInto runs `gridctl import` on a new grid, and counts what is there afterwards.
func (b *bench) importInto(ctx context.Context, replicas int) (said imported, found string, err error) {
	err = b.onGrid(ctx, servers.Shape{Agents: replicas, Shards: 4, Replicas: replicas}, func(g *servers.Grid) error {
		if said, err = b.runImport(ctx, g); err != nil {
			return err
		}
		stats, err := servers.Ask[transport.StatsOk](ctx, g, &transport.GetStats{})
		if err != nil {
			return err
		}
		switch {
		case said.Complete && (stats.Concepts != wordnetConcepts || stats.Edges != wordnetAssociations):
			return fmt.Errorf("after the import there are %d concepts and %d associations, want %d and %d", stats.Concepts, stats.Edges, wordnetConcepts, wordnetAssociations)
		case stats.Concepts < said.Concepts || stats.Edges < said.Associations:
			return fmt.Errorf("gridctl import stored %d concepts and %d associations, and %d and %d are there", said.Concepts, said.Associations, stats.Concepts, stats.Edges)
		}
		found = fmt.Sprintf("%d concepts and %d associations counted and found", stats.Concepts, stats.Edges)
		if !said.Complete {
			found += fmt.Sprintf(", broken off after %s", quickImport)
		}
		return nil
	})
	return said, found, err
}

func (b *bench) runImport(ctx context.Context, g *servers.Grid) (said imported, err error) {
	limit := importLimit
	if b.quick {
		limit = quickImport
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := []string{"--output", "json"}
	for _, m := range g.Masters {
		args = append(args, "--master", m)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "gridctl"), append(args, "import", filepath.Join(b.data, "wordnet.ndjson.gz"))...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it then says how far it came
	cmd.WaitDelay = 30 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if bad := json.Unmarshal(out.Bytes(), &said); bad != nil {
		return said, fmt.Errorf("gridctl import: %w: %s", errors.Join(err, bad), errs.String())
	}
	if err != nil && !(b.quick && ctx.Err() != nil) {
		return said, fmt.Errorf("gridctl import: %w: %s", err, errs.String())
	}
	b.say("P14: %d concepts, %d associations, %.0f records/s", said.Concepts, said.Associations, said.Rate)
	return said, nil
}
