package processes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groups is where control groups of this process can be made: of version 2, or of version 1 where each controller has a tree of its own.
type groups struct {
	two    bool
	cpu    string // directory of this process's own group
	memory string
}

// cgroupRoot is where control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// findGroups finds this process's groups, if groups below them can be made.
func findGroups() (groups, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return groups{}, err
	}
	own := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for _, controller := range strings.Split(parts[1], ",") {
				own[controller] = parts[2]
			}
		}
	}
	if err := root(); err != nil {
		return groups{}, err
	}
	if has, err := os.ReadFile(filepath.Join(cgroupRoot, own[""], "cgroup.subtree_control")); err == nil {
		if list := strings.Fields(string(has)); slices.Contains(list, "cpu") && slices.Contains(list, "memory") {
			dir := filepath.Join(cgroupRoot, own[""])
			return groups{true, dir, dir}, nil
		}
	}
	g := groups{false, filepath.Join(cgroupRoot, "cpu", own["cpu"]), filepath.Join(cgroupRoot, "memory", own["memory"])}
	err = errors.Join(exists(filepath.Join(g.cpu, "cpu.cfs_quota_us")), exists(filepath.Join(g.memory, "memory.limit_in_bytes")))
	if err != nil {
		err = fmt.Errorf("neither controllers of version 2 below our group nor those of version 1: %w", err)
	}
	return g, err
}

// squeeze is a group with a limit, and what it counts.
type squeeze struct {
	parent string // where processes go back to
	dir    string
	limits [][2]string // file, content
	count  func(dir string) (int64, error)
}

// squeezeCPU gives a process half of the processor time that it takes, and at most a tenth of a core: one with little to do would miss nothing.
func squeezeCPU(ctx context.Context, t *trial) error {
	g, err := findGroups()
	if err != nil {
		return err
	}
	v, err := t.writer(ctx)
	if err != nil {
		return err
	}
	share, err := v.share(ctx)
	if err != nil {
		return err
	}
	quota := strconv.Itoa(int(min(max(share/2, leastShare), mostShare) * cpuPeriod))
	s := squeeze{parent: g.cpu, limits: [][2]string{{"cpu.cfs_quota_us", quota}}, count: func(dir string) (int64, error) { return counter(dir, "cpu.stat", "nr_throttled") }}
	if g.two {
		s.limits = [][2]string{{"cpu.max", fmt.Sprintf("%s %d", quota, int(cpuPeriod))}}
	}
	t.meets(v)
	return t.squeeze(v, s)
}

// What a squeezed process may take.
const (
	cpuPeriod  = 100_000 // µs, over which the kernel counts
	leastShare = 0.01    // of a core: less than a millisecond is no quota
	mostShare  = 0.1
	shareOver  = time.Second // how long is looked at what it takes now
	tick       = 10 * time.Millisecond
)

// share is what of a core a process takes.
func (v victim) share(ctx context.Context) (float64, error) {
	p, err := v.open()
	if err != nil {
		return 0, err
	}
	defer p.close()
	before, err := taken(p.pid)
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(shareOver):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	after, err := taken(p.pid)
	return float64(after-before) / float64(shareOver), err
}

// taken is the processor time that a process has had.
func taken(pid int) (time.Duration, error) {
	fields, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	user, err := strconv.ParseInt(fields[11], 10, 64) // fields 14 and 15 of proc(5)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// squeezeMemory has a master start again with little memory and an empty cache: what it reads and writes is soon taken from it again, and if there is nothing
// left to take it may be killed. (Memory that a process had before it came into a group does not count there.)
func squeezeMemory(ctx context.Context, t *trial) error {
	g, err := findGroups()
	if err != nil {
		return err
	}
	limit := strconv.Itoa(squeezedBytes)
	s := squeeze{parent: g.memory, limits: [][2]string{{"memory.limit_in_bytes", limit}}, count: func(dir string) (int64, error) { return counter(dir, "memory.failcnt", "") }}
	if g.two { // max would have it killed
		s.limits = [][2]string{{"memory.high", limit}}
		s.count = func(dir string) (int64, error) { return counter(dir, "memory.events", "high") }
	}
	v := victim{m: pick(t, t.g.of(roleMaster))}
	t.meets(v)
	limited, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	if _, err := slay(limited, unix.SIGKILL, v); err != nil {
		return err
	}
	if err := dropCache(v.m.data()); err != nil {
		return err
	}
	if err := t.g.start(v.m); err != nil {
		return err
	}
	return t.squeeze(v, s)
}

// dropCache has the kernel forget what it holds of files: what it holds already costs nobody memory who reads it.
func dropCache(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// squeezedBytes is a little more than a master uses for itself: it looks through 64 MiB of log when it starts.
const squeezedBytes = 24 << 20

// squeeze puts a process into a group, until the fault ends.
func (t *trial) squeeze(v victim, s squeeze) error {
	p, err := v.open()
	if err != nil {
		return err
	}
	s.dir = filepath.Join(s.parent, t.g.run.name)
	t.onHeal(func(ctx context.Context) error {
		defer p.close()
		n, err := s.count(s.dir)
		t.count.Add(n)
		return errors.Join(err, s.end(ctx))
	})
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return err
	}
	for _, l := range s.limits {
		if err := os.WriteFile(filepath.Join(s.dir, l[0]), []byte(l[1]), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(s.dir, "cgroup.procs"), []byte(strconv.Itoa(p.pid)), 0o644)
}

// end lets everything out of the group, also what was started in it, and removes it.
func (s squeeze) end(ctx context.Context) error {
	return until(ctx, "the group is in use", func(context.Context) error {
		text, err := os.ReadFile(filepath.Join(s.dir, "cgroup.procs"))
		if err != nil {
			return err
		}
		for pid := range strings.FieldsSeq(string(text)) {
			if err := os.WriteFile(filepath.Join(s.parent, "cgroup.procs"), []byte(pid), 0o644); err != nil {
				return err
			}
		}
		return os.Remove(s.dir)
	})
}

// counter reads a number from a file of a group: the only one, or the one behind a name.
func counter(dir, file, name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %q", filepath.Join(dir, file), name)
}

// sweepGroups removes the groups of runs that ended early; their processes have been ended, and may take a moment.
func sweepGroups(log *slog.Logger) error {
	g, err := findGroups()
	if err != nil {
		return nil // then nobody has made any
	}
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	for _, parent := range []string{g.cpu, g.memory} {
		dirs, globErr := filepath.Glob(filepath.Join(parent, "gridfault-*"))
		err = errors.Join(err, globErr)
		for _, dir := range dirs {
			if orphan(filepath.Base(dir)) {
				log.Warn("removing a control group of a run that ended early", "path", dir)
				err = errors.Join(err, squeeze{parent: parent, dir: dir}.end(ctx))
			}
		}
	}
	return err
}
