package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// squeezeCPU gives a process a tenth of a core.
func squeezeCPU(ctx context.Context, t *trial) error {
	g, err := findGroups()
	if err != nil {
		return err
	}
	s := squeeze{parent: g.cpu, limits: [][2]string{{"cpu.cfs_quota_us", "10000"}}, count: func(dir string) (int64, error) { return counter(dir, "cpu.stat", "nr_throttled") }}
	if g.two {
		s.limits = [][2]string{{"cpu.max", "10000 100000"}}
	}
	return t.squeeze(ctx, s)
}

// squeezeMemory gives a process little more memory than it has: what it asks for is taken from the pages of its files, and when there are
// none left it may be killed.
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
	return t.squeeze(ctx, s)
}

// squeezedBytes is what it may take beside what it has, which does not count in the new group: what it writes to its logs in seconds.
const squeezedBytes = 8 << 20

// squeeze puts one process that surely works into a group, until the fault ends.
func (t *trial) squeeze(ctx context.Context, s squeeze) error {
	v, err := t.writer(ctx)
	if err != nil {
		return err
	}
	p, err := v.open()
	if err != nil {
		return err
	}
	t.meets(v)
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
