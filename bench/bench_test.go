package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/internal/load"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestEveryRowHasASuite: the fifteen rows, each measured by exactly one suite, and a quick run has those of docs/performance.md.
func TestEveryRowHasASuite(t *testing.T) {
	var ids, measured []string
	for _, s := range subjects() {
		ids = append(ids, s.ID)
		if s.Measure == "" || s.Target == "" {
			t.Errorf("%s says too little: %+v", s.ID, s)
		}
	}
	for n := range 15 {
		if want := fmt.Sprintf("P%d", n+1); n >= len(ids) || ids[n] != want {
			t.Errorf("row %d is not %s: %v", n, want, ids)
		}
	}
	for _, s := range suites() {
		measured = append(measured, s.ids...)
	}
	slices.Sort(ids)
	slices.Sort(measured)
	if !slices.Equal(ids, measured) {
		t.Errorf("rows %v, suites measure %v", ids, measured)
	}
	if got := strings.Join(quickRows(), " "); got != "P1 P2 P3 P4 P5 P6 P7 P8 P12 P14" {
		t.Errorf("a quick run has %s", got)
	}
}

// TestAQuickRunKeepsTheRest: its rows replace what stood there, failed ones included, and no other.
func TestAQuickRunKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	b := &bench{options: options{out: dir}, errw: io.Discard, base: report.Row{Version: "v1", Date: "then", Machine: "m"}}
	full := b.row("P11", "ms")
	full.SetAlone([]float64{2})
	stale := b.row("P2", "ms")
	stale.SetAlone([]float64{1})
	if err := b.write([]report.Row{full, stale}, nil); err != nil {
		t.Fatal(err)
	}
	b.base.Version = "v2"
	fresh := b.row("P1", "events/s")
	fresh.SetAlone([]float64{3})
	if err := b.write(complete(b.base, []string{"P1", "P2"}, []report.Row{fresh}, errors.New("no port is free")), []string{"a quick run"}); err != nil {
		t.Fatal(err)
	}
	rows, err := report.Read(filepath.Join(dir, "RESULTS.json"))
	if err != nil || len(rows) != 15 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if r := rows[0]; *r.Value != 3 || r.Version != "v2" {
		t.Errorf("P1 %+v", r)
	}
	if r := rows[1]; r.Measured() || r.Version != "v2" || r.Note != "failed: no port is free" || r.Target == "" {
		t.Errorf("P2 %+v", r)
	}
	if r := rows[10]; *r.Value != 2 || r.Version != "v1" || r.Date != "then" {
		t.Errorf("P11 %+v", r)
	}
	text, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil || !strings.Contains(string(text), "- a quick run\n") || strings.Count(string(text), "\n| P") != 15 {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestRowsFail alone: the others are measured, and the error names it.
func TestRowsFail(t *testing.T) {
	b := &bench{options: options{only: []string{"P1", "P2"}}, errw: io.Discard}
	good := func(id string) measurement {
		return measurement{id, func(context.Context) (report.Row, error) { return b.row(id, "ms"), nil }}
	}
	rows, err := b.each(t.Context(), []measurement{{"P1", func(context.Context) (report.Row, error) { return report.Row{}, io.ErrUnexpectedEOF }}, good("P2"), good("P3")})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "P1") || len(rows) != 1 || rows[0].ID != "P2" {
		t.Errorf("%+v, %v", rows, err)
	}
}

// TestRoundsAlternate, and one that fails says which.
func TestRoundsAlternate(t *testing.T) {
	b := &bench{options: options{rounds: 3}, errw: io.Discard}
	var order strings.Builder
	count := func(name string) side {
		n := 0.0
		return func(context.Context) (float64, error) {
			order.WriteString(name)
			n++
			return n, nil
		}
	}
	x, y, err := b.alternate(t.Context(), "P1", count("a"), count("b"))
	if err != nil || order.String() != "ababab" || !slices.Equal(x, []float64{1, 2, 3}) || !slices.Equal(y, x) {
		t.Errorf("%s, %v, %v, %v", order.String(), x, y, err)
	}
	_, _, err = b.alternate(t.Context(), "P1", count("a"), func(context.Context) (float64, error) { return 0, io.EOF })
	if !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "round 1") {
		t.Errorf("%v", err)
	}
}

// TestGap: the driver of P4 finds the time without an acknowledged write, and nothing but that.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{errw: io.Discard}
		var from, to time.Time // no write is answered between
		healed := false
		ms, err := b.gap(t.Context(), contender{"fake", func(ctx context.Context, _ *load.Worker) error {
			time.Sleep(time.Millisecond)
			if now := time.Now(); now.After(from) && now.Before(to) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}, func(context.Context) error {
			from = time.Now()
			to = from.Add(700 * time.Millisecond)
			return nil
		}, func(context.Context) error { healed = true; return nil }})
		// The first of the attempts that waited gives up soon behind the outage, and the next one is answered.
		if err != nil || !healed || ms < 700 || ms > 700+125 {
			t.Errorf("%v ms, healed %v, %v", ms, healed, err)
		}
	})
}

// TestNoRecovery is an error, not a gap.
func TestNoRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{errw: io.Discard}
		lost := false
		_, err := b.gap(t.Context(), contender{"fake", func(context.Context, *load.Worker) error {
			time.Sleep(time.Millisecond)
			if lost {
				return io.EOF
			}
			return nil
		}, func(context.Context) error { lost = true; return nil }, func(context.Context) error { return nil }})
		if !errors.Is(err, errSilent) {
			t.Errorf("%v", err)
		}
	})
}

// TestReplaysAreChecked: a history is the same state when it is replayed, and one with an event missing is refused.
func TestReplaysAreChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	want, err := writeHistory(t.Context(), path, 5000)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := replayFile(t.Context(), path); err != nil || got != want {
		t.Errorf("%x, want %x, %v", got, want, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[4+int(text[3])+int(text[2])<<8:], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := replayFile(t.Context(), path); err == nil {
		t.Error("a history without its first event is replayed")
	}
}

func TestOnly(t *testing.T) {
	if got := onlyOf([]string{"p1, P3", "P14,"}); !slices.Equal(got, []string{"P1", "P3", "P14"}) {
		t.Errorf("%v", got)
	}
}

// TestTimes: neither more nor fewer requests, and the first that fails ends it.
func TestTimes(t *testing.T) {
	var n atomic.Int64
	if err := times(t.Context(), 1000, 7, func(context.Context, *load.Worker) error { n.Add(1); return nil }); err != nil || n.Load() != 1000 {
		t.Errorf("%d requests, %v", n.Load(), err)
	}
	n.Store(0)
	if err := times(t.Context(), 1000, 1, func(context.Context, *load.Worker) error {
		if n.Add(1) == 10 {
			return io.EOF
		}
		return nil
	}); !errors.Is(err, io.EOF) || n.Load() != 10 {
		t.Errorf("%d requests, %v", n.Load(), err)
	}
}

// TestRoom: a place without room, or that is not there, is refused before anything starts.
func TestRoom(t *testing.T) {
	if err := room(options{temp: "/proc"}); err == nil || !strings.Contains(err.Error(), "--temp") {
		t.Errorf("/proc: %v", err)
	}
	if err := room(options{temp: "/nowhere"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("/nowhere: %v", err)
	}
}

// TestNearest: the truth that recall is judged by, against a plain sort.
func TestNearest(t *testing.T) {
	w, err := load.New("search", load.Target{Masters: []string{"127.0.0.1:1"}, Connections: 1}, load.Options{Seed: 5, Keys: 300, Dimension: 7, K: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := w.(*load.Search)
	rng := load.NewWorker(1, 1).Rand
	queries := []*transport.VectorSearch{s.Query(rng), s.Query(rng)}
	got := nearest(queries, s.Stored())
	for i, q := range queries {
		scores := map[string]float64{}
		for id, v := range s.Stored() {
			dot, norm := 0.0, 0.0
			for j := range v {
				dot += float64(v[j]) * float64(q.QueryVector[j])
				norm += float64(v[j]) * float64(v[j])
			}
			scores[id] = dot / math.Sqrt(norm)
		}
		want := slices.SortedFunc(maps.Keys(scores), func(a, b string) int { return cmp.Compare(scores[b], scores[a]) })[:10]
		if len(scores) != 300 || !slices.Equal(got[i], want) {
			t.Errorf("%d vectors; query %d: %v, want %v", len(scores), i, got[i], want)
		}
	}
}
