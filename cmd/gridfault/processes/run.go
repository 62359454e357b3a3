package processes

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// run is the name of one grid of this process, and its directory. The name is in the path of everything of the run, in every command
// line, and in the names of its namespaces, so that what is left of it can be told from everything else on the machine.
type run struct {
	name string // gridfault-<pid>-<start time>-<number>
	dir  string
}

// runName finds the name of a run in a path, a command line or a list of namespaces.
var runName = regexp.MustCompile(`gridfault-([0-9]+)-([0-9]+)-[0-9]+`)

// runs counts the grids of this process: two of them may be open at once.
var runs atomic.Uint64

func newRun(dir string) (run, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return run{}, err
	}
	r := run{name: fmt.Sprintf("gridfault-%d-%s-%d", os.Getpid(), start, runs.Add(1))}
	if r.dir, err = filepath.Abs(filepath.Join(dir, r.name)); err != nil {
		return run{}, err
	}
	for _, sub := range []string{"logs", "plans", "machines", "bin"} {
		if err := os.MkdirAll(filepath.Join(r.dir, sub), 0o755); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r run) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

func (r run) remove() error {
	if r.dir == "" {
		return nil
	}
	return os.RemoveAll(r.dir)
}

// startTime is when a process began, in clock ticks since the boot: with the pid it names a process for ever.
func startTime(pid int) (string, error) {
	fields, err := statFields(pid)
	if err != nil {
		return "", err
	}
	return fields[19], nil // field 22 of proc(5)
}

// statFields are the fields of /proc/<pid>/stat from the third on, the state; the second may hold anything, parentheses too.
func statFields(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 22 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields behind the name", pid, len(fields))
	}
	return fields, nil
}

// orphan tells whether text names a run whose process lives no more.
func orphan(text string) bool {
	m := runName.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return false
	}
	start, err := startTime(pid)
	return err != nil || start != m[2]
}

// sweep removes what is left of runs whose process lives no more: processes, control groups, mounts,
// namespaces, and directories in dir.
func sweep(dir string, log *slog.Logger) error {
	err := errors.Join(sweepProcesses(log), sweepGroups(log), sweepMounts(log), sweepNamespaces(log))
	found, globErr := filepath.Glob(filepath.Join(dir, "gridfault-*"))
	err = errors.Join(err, globErr)
	for _, path := range found {
		if orphan(filepath.Base(path)) {
			log.Warn("removing the directory of a run that ended early", "path", path)
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

func sweepProcesses(log *slog.Logger) error {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		pid, notNumber := strconv.Atoi(e.Name())
		if notNumber != nil {
			continue
		}
		line, gone := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if gone != nil || !ours(string(line)) || !orphan(string(line)) {
			continue
		}
		log.Warn("ending a process of a run that ended early", "pid", pid)
		if kill := syscall.Kill(pid, syscall.SIGKILL); kill != nil && !errors.Is(kill, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill %d: %w", pid, kill))
		}
	}
	return err
}

// ours tells whether a command line, its words ended by zeros, is one of the programs that this rig starts; an editor that shows a
// file of a run is not.
func ours(line string) bool {
	program, rest, _ := strings.Cut(line, "\x00")
	if strings.HasSuffix(program, "sh") { // the node's starter, which becomes the node
		program, _, _ = strings.Cut(rest, "\x00")
	}
	switch filepath.Base(program) {
	case "gridmaster", "gridagent", "gridnode":
		return true
	}
	return false
}

func sweepMounts(log *slog.Logger) error {
	points, err := mountPoints()
	for _, p := range points {
		if !orphan(p) || filepath.Dir(p) == namespaces { // ip(8) frees those
			continue
		}
		log.Warn("unmounting the disk of a run that ended early", "path", p)
		_ = thaw(p) // it is most likely not frozen
		err = errors.Join(err, unix.Unmount(p, unix.MNT_DETACH))
	}
	return err
}

// mountPoints lists where something is mounted.
func mountPoints() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, fields[4])
		}
	}
	return points, nil
}

func sweepNamespaces(log *slog.Logger) error {
	entries, err := os.ReadDir(namespaces)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if orphan(e.Name()) {
			log.Warn("removing a network namespace of a run that ended early", "name", e.Name())
			err = errors.Join(err, tool("ip", "netns", "del", e.Name()))
		}
	}
	return err
}
