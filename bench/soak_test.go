package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/bench/soak"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// TestShares add up, and each number falls to the workload whose share it is in.
func TestShares(t *testing.T) {
	sum := 0.0
	for _, s := range shares {
		sum += s.of
	}
	if sum < 0.999 || sum > 1.001 {
		t.Errorf("shares add up to %v", sum)
	}
	for x, want := range map[float64]string{0: "get", 0.499: "get", 0.5: "put", 0.699: "put", 0.701: "feed", 0.9999999: "feed"} {
		if got := shares[pick(x)].name; got != want {
			t.Errorf("%v falls to %s, want %s", x, got, want)
		}
	}
	if aboutMix() != "50 % get, 20 % put, 30 % feed" {
		t.Errorf("%q", aboutMix())
	}
}

func TestLookEvery(t *testing.T) {
	for length, want := range map[time.Duration]time.Duration{time.Minute: time.Second, 20 * time.Minute: 3 * time.Second, time.Hour: 10 * time.Second, 8 * time.Hour: 10 * time.Second} {
		if got := lookEvery(length); got != want {
			t.Errorf("%s: each %s, want %s", length, got, want)
		}
	}
}

// TestClock: each second is in one minute and one part, and a minute is told when it is over.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		c := &clock{length: 150 * time.Second, told: func(soak.Part) { told++ }}
		r, err := load.Run(t.Context(), load.Plan{InFlight: 1, Rate: 10, Duration: c.length, Progress: c.second}, func(context.Context, *load.Worker) error { return nil })
		if err != nil || told != 2 {
			t.Fatalf("%d minutes told, %v", told, err)
		}
		c.over()
		minutes, parts := uint64(0), uint64(0)
		for _, p := range c.minutes {
			minutes += p.Done
		}
		for i, p := range c.byPart() {
			if parts += p.Done; p.From != 25*float64(i) || p.To != p.From+25 {
				t.Errorf("part %d: %+v", i, p)
			}
			if i < soak.Parts-1 && (p.Done < 249 || p.Done > 251) {
				t.Errorf("part %d has %d requests, want 250", i, p.Done)
			}
		}
		if len(c.minutes) != 3 || c.minutes[1].From != 60 || c.minutes[1].To != 120 || c.minutes[1].Done < 599 || c.minutes[1].Done > 601 || minutes != parts || minutes < r.Done-10 {
			t.Errorf("%+v; %d in parts, %d in all", c.minutes, parts, r.Done)
		}
	})
}

// page is a process's /metrics with figures that the test changes.
type page struct{ heap, goroutines float64 }

func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "# TYPE go_goroutines gauge\ngo_goroutines %g\ngo_memstats_heap_alloc_bytes %g\n", p.goroutines, p.heap)
}

// TestSampler: this very process is a master in one place of the list. Of heaps the lowest look counts, what cannot be seen is left out,
// and a process that is another one is noticed.
func TestSampler(t *testing.T) {
	p := &page{heap: 900, goroutines: 17}
	server := httptest.NewServer(p)
	defer server.Close()
	master := servers.Process{Name: "master-1", PID: os.Getpid(), HTTP: strings.TrimPrefix(server.URL, "http://"), Dir: t.TempDir()}
	var told []string
	s := newSampler(nil, func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) })
	list := []servers.Process{master, {Name: "node-1"}, {Name: "node-2", PID: 1 << 30}}
	s.list = func() ([]servers.Process, error) { return list, nil }
	s.lag = func(context.Context) (*soak.Lag, error) { return nil, errors.New("no leader") }
	s.look(t.Context(), 0)
	p.heap = 500
	s.lookAtHeaps(t.Context())
	p.heap = 700
	list[0].PID = os.Getppid()
	s.look(t.Context(), 10*time.Second)
	if len(s.samples) != 2 || len(s.samples[1].Processes) != 1 || s.samples[1].Lag != nil || s.samples[1].At != 10*time.Second {
		t.Fatalf("%+v", s.samples)
	}
	if u := s.samples[0].Processes[0]; u.Heap != 900 || u.Goroutines != 17 || u.Files < 3 || u.RSS < 1<<20 || u.Process != "master-1" {
		t.Errorf("%+v", u)
	}
	if u := s.samples[1].Processes[0]; u.Heap != 500 {
		t.Errorf("%+v, want the lowest heap", u)
	}
	if len(s.restarts) != 1 || s.restarts[0] != "master-1" || len(told) != 3 { // node-2, the feed, master-1
		t.Errorf("restarts %v, told %q", s.restarts, told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s.look(ctx, 20*time.Second); len(s.samples) != 2 || len(told) != 3 {
		t.Errorf("what ctx ends is no sample: %d, %q", len(s.samples), told)
	}
}

// TestGCLog: the live heap behind each collection since the last look; what is between the lines, and half of one, does no harm.
func TestGCLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	line := func(live int) string {
		return fmt.Sprintf("gc 14 @0.561s 2%%: 0.049+2.2+0.013 ms clock, 0.099+0.42/1.9/4.7+0.026 ms cpu, 40->41->%d MB, 43 MB goal, 0 MB stacks, 0 MB globals, 2 P\n", live)
	}
	l := &gcLog{}
	want := func(mib float64) {
		t.Helper()
		if got, err := l.lowest(path); err != nil || got != mib*(1<<20) {
			t.Errorf("%v, %v, want %v MiB", got, err, mib)
		}
	}
	if _, err := l.lowest(path); err == nil {
		t.Error("no file, no error")
	}
	add("{\"level\":\"INFO\"}\n")
	want(0)
	l = &gcLog{}
	add(line(1) + line(30))
	want(30) // what the process had when it started is long ago
	add(line(25) + "time=… msg=\"x\"\n" + line(22) + line(28) + line(3)[:90])
	want(22)
	want(22)
	add(line(3)[90:] + line(0))
	want(1)
}

// TestResult: both files are there, each rule is told, and a broken one is the error.
func TestResult(t *testing.T) {
	var said strings.Builder
	s := &steadily{bench: &bench{options: options{out: t.TempDir()}, errw: &said, base: report.Row{Version: "v1"}}}
	r := &soak.Run{Length: time.Hour, Load: &load.Report{Seconds: 1000, Done: 5}, BrokenOff: true}
	err := s.result(soak.Peak{Sustained: 100}, r)
	if err == nil || !strings.Contains(err.Error(), "length") || !strings.Contains(said.String(), "length broken: broken off after 1000 s") {
		t.Errorf("%v\n%s", err, said.String())
	}
	for _, name := range []string{"SOAK.md", "SOAK.json"} {
		if text, err := os.ReadFile(filepath.Join(s.out, name)); err != nil || !strings.Contains(string(text), "v1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.BrokenOff = false
	if err := s.result(soak.Peak{Sustained: 100}, r); err != nil {
		t.Errorf("nothing is broken: %v", err)
	}
}

// TestEnough: a disk that would fill up is refused before the run.
func TestEnough(t *testing.T) {
	s := &steadily{bench: &bench{options: options{temp: t.TempDir()}, errw: io.Discard}, length: time.Hour}
	if err := s.enough(1e9, 1e6); err == nil || !strings.Contains(err.Error(), "--temp") {
		t.Errorf("%v", err)
	}
}
