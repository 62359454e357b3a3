package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/bench/soak"
	"github.com/sutra-grid/sutra-grid/internal/usage"
)

// How often a grid is looked at. Heaps are looked at each second in between, as they saw.
const (
	looks       = 360 // of a run
	rarestLook  = 10 * time.Second
	densestLook = time.Second
	lookPatient = 5 * time.Second // for one page of a process that is busy
)

// lookEvery is how often a run of a length is looked at: an hour each ten seconds.
func lookEvery(length time.Duration) time.Duration {
	return min(max(length/looks, densestLook), rarestLook).Truncate(time.Second)
}

// sampler looks at a grid while it is loaded. It fails nobody: what it could not see is missing from its samples, and told once.
type sampler struct {
	list func() ([]servers.Process, error)
	lag  func(ctx context.Context) (*soak.Lag, error)
	say  func(format string, args ...any)

	pids     map[string]int     // by process, as first seen
	heaps    map[string]float64 // of those with /metrics: the lowest since the last sample
	logs     map[string]*gcLog  // of the others
	troubled map[string]bool    // of whom trouble was told
	watched  []servers.Process  // as of the last sample

	mu       sync.Mutex
	samples  []soak.Sample
	restarts []string
}

func newSampler(g *servers.Grid, say func(format string, args ...any)) *sampler {
	return &sampler{list: g.Processes, say: say, pids: map[string]int{}, heaps: map[string]float64{}, logs: map[string]*gcLog{}, troubled: map[string]bool{},
		lag: func(ctx context.Context) (*soak.Lag, error) {
			events, age, through, err := g.Lag(ctx)
			return &soak.Lag{Events: float64(events), Seconds: age.Seconds(), Through: through}, err
		}}
}

// run looks until ctx ends.
func (s *sampler) run(ctx context.Context, every time.Duration) {
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for next := time.Duration(0); ; {
		if at := time.Since(began); at >= next {
			next = (at/every + 1) * every
			s.look(ctx, at)
		} else {
			s.lookAtHeaps(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look takes a sample, unless ctx ends meanwhile.
func (s *sampler) look(ctx context.Context, at time.Duration) {
	sample := soak.Sample{At: at}
	all, err := s.list()
	s.trouble(ctx, "the grid", err)
	s.watched = all
	s.lookAtHeaps(ctx)
	for _, p := range all {
		if p.PID == 0 {
			continue
		}
		s.meet(p)
		u, err := s.use(ctx, p)
		if s.trouble(ctx, p.Name, err); err == nil {
			sample.Processes = append(sample.Processes, u)
		}
	}
	lag, err := s.lag(ctx)
	if s.trouble(ctx, "the feed", err); err == nil {
		sample.Lag = lag
	}
	if ctx.Err() == nil {
		s.mu.Lock()
		s.samples = append(s.samples, sample)
		s.mu.Unlock()
	}
	clear(s.heaps)
}

// meet notes a process that is not the one that was there before.
func (s *sampler) meet(p servers.Process) {
	had, known := s.pids[p.Name]
	s.pids[p.Name] = p.PID
	if known && had != p.PID {
		s.say("%s has ended and was started again", p.Name)
		s.restarts = append(s.restarts, p.Name)
	}
	if log := s.logs[p.Name]; p.HTTP == "" && (log == nil || had != p.PID) {
		s.logs[p.Name] = &gcLog{}
	}
}

// trouble tells of an error, once for each of whom it is.
func (s *sampler) trouble(ctx context.Context, of string, err error) {
	if err != nil && ctx.Err() == nil && !s.troubled[of] {
		s.troubled[of] = true
		s.say("cannot look at %s: %v (told once)", of, err)
	}
}

// use is what one process uses.
func (s *sampler) use(ctx context.Context, p servers.Process) (u soak.Usage, err error) {
	kernel, err := usage.Of(p.PID)
	if err != nil {
		return u, err
	}
	disk, err := usage.Disk(p.Dir)
	if err != nil {
		return u, err
	}
	u = soak.Usage{Process: p.Name, Files: float64(kernel.Files), Store: float64(kernel.Store), RSS: float64(kernel.RSSBytes), Disk: float64(disk)}
	if p.HTTP == "" {
		path, err := p.Log()
		if err == nil {
			u.Heap, err = s.logs[p.Name].lowest(path)
		}
		return u, err
	}
	u.Heap = s.heaps[p.Name]
	u.Goroutines, err = pageFigure(ctx, p, "go_goroutines")
	return u, err
}

// lookAtHeaps keeps the lowest heap of each process that tells it.
func (s *sampler) lookAtHeaps(ctx context.Context) {
	for _, p := range s.watched {
		if p.HTTP == "" || p.PID == 0 {
			continue
		}
		v, err := pageFigure(ctx, p, "go_memstats_heap_alloc_bytes")
		if s.trouble(ctx, p.Name, err); err != nil {
			continue
		}
		if had, seen := s.heaps[p.Name]; !seen || v < had {
			s.heaps[p.Name] = v
		}
	}
}

func pageFigure(ctx context.Context, p servers.Process, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatient)
	defer cancel()
	return metric(ctx, "http://"+p.HTTP+"/metrics", name)
}

// last is the newest sample; false: there is none.
func (s *sampler) last() (soak.Sample, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == 0 {
		return soak.Sample{}, false
	}
	return s.samples[len(s.samples)-1], true
}

// collected is in a line that the runtime prints of a collection: the heap when it began, when it ended, and what of it is live, in MiB.
var collected = regexp.MustCompile(`\d+->\d+->(\d+) MB, \d+ MB goal`)

// gcLog reads heaps from what a process prints (servers.TraceGC).
type gcLog struct {
	read int64 // bytes of the file
	live float64
}

// lowest is the smallest live heap of the collections since it was asked last; if there was none, of the last one before; 0: none yet.
func (l *gcLog) lowest(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Seek(l.read, io.SeekStart); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	first := l.read == 0 // from the start of the process: only the newest collection is of now
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	l.read += int64(len(text))
	found := collected.FindAllSubmatch(text, -1)
	if first && len(found) > 1 {
		found = found[len(found)-1:]
	}
	for i, m := range found {
		mib, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, err
		}
		if v := max(mib, 1) * (1 << 20); i == 0 || v < l.live { // under a MiB it says 0
			l.live = v
		}
	}
	return l.live, nil
}
