package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/growth"
	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/bench/servers"
)

// spent is what a master has used.
type spent struct{ cpu, heap float64 } // seconds of a core; bytes

// usages looks at every master.
func usages(ctx context.Context, g *servers.Grid) ([]spent, error) {
	dev, err := g.Dev()
	if err != nil {
		return nil, err
	}
	var all []spent
	for _, m := range dev.Masters {
		u := spent{}
		if u.cpu, err = processorTime(m.PID); err != nil {
			return nil, err
		}
		if u.heap, err = metric(ctx, "http://"+m.HTTP+"/metrics", "go_memstats_heap_alloc_bytes"); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// metric reads one figure of a Prometheus page.
func metric(ctx context.Context, url, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("%s has no %s", url, name))
}

// footprint is the memory of one process over some seconds, MiB.
type footprint struct {
	component string
	pid       int
	http      string  // of a master
	low, high float64 // heap: the lowest is what is left behind a collection
	rss, peak float64 // now; the highest since it started
}

// footprints are those of a grid's processes.
type footprints []footprint

// How often, and how far apart, heaps are looked at.
const (
	heapLooks     = 30
	heapLookEvery = 100 * time.Millisecond
)

// look follows the memory of all processes for three seconds.
func look(ctx context.Context, g *servers.Grid) (footprints, error) {
	who, err := g.Processes()
	if err != nil {
		return nil, err
	}
	var all footprints
	for _, p := range who {
		if p.PID > 0 { // it is not down
			all = append(all, footprint{component: component(p.Name), pid: p.PID, http: p.HTTP})
		}
	}
	for n := range heapLooks {
		for i := range all {
			if err := all[i].sample(ctx, n == 0); err != nil {
				return nil, fmt.Errorf("memory of %s, process %d: %w", all[i].component, all[i].pid, err)
			}
		}
		select {
		case <-time.After(heapLookEvery):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return all, nil
}

// component is what a process is, by its name: events, or one of several, like node-1.
func component(process string) string {
	kind, _, _ := strings.Cut(process, "-")
	return kind
}

// sample looks once. A master tells its heap; of others it is the memory that is no file's.
func (f *footprint) sample(ctx context.Context, first bool) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.pid))
	if err != nil {
		return err
	}
	m, err := parseStatus(string(text))
	if err != nil {
		return err
	}
	heap := m["RssAnon"]
	if f.http != "" {
		bytes, err := metric(ctx, "http://"+f.http+"/metrics", "go_memstats_heap_alloc_bytes")
		if err != nil {
			return err
		}
		heap = bytes / (1 << 20)
	}
	f.rss, f.peak, f.high = m["VmRSS"], m["VmHWM"], max(f.high, heap)
	if first || heap < f.low {
		f.low = heap
	}
	return nil
}

// parseStatus takes the sizes out of /proc/PID/status, MiB.
func parseStatus(text string) (map[string]float64, error) {
	m := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if kib, is := strings.CutSuffix(strings.TrimSpace(value), " kB"); is {
			n, err := strconv.ParseFloat(strings.TrimSpace(kib), 64)
			if err != nil {
				return nil, err
			}
			m[name] = n / 1024
		}
	}
	for _, name := range []string{"VmRSS", "VmHWM", "RssAnon"} {
		if m[name] == 0 {
			return nil, fmt.Errorf("/proc says nothing of %s: the process has ended", name)
		}
	}
	return m, nil
}

// lowest is the highest of a component's lowest heaps: what the fullest of its processes holds.
func (fs footprints) lowest(component string) (mib float64) {
	for _, f := range fs {
		if f.component == component {
			mib = max(mib, f.low)
		}
	}
	return mib
}

// resident is the highest RSS of a component's processes now.
func (fs footprints) resident(component string) (mib float64) {
	for _, f := range fs {
		if f.component == component {
			mib = max(mib, f.rss)
		}
	}
	return mib
}

// memory is the most of each component, as budgets are compared with.
func (fs footprints) memory() (all []growth.Memory) {
	for _, component := range []string{growth.Master, growth.Agent, growth.Node, growth.Events} {
		m := growth.Memory{Component: component}
		for _, f := range fs {
			if f.component == component {
				m.Heap, m.RSS = max(m.Heap, *report.Of(f.high)), max(m.RSS, *report.Of(f.peak))
			}
		}
		if m.RSS > 0 {
			all = append(all, m)
		}
	}
	return all
}
